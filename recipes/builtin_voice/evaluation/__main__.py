"""Judges a bundle by its own speech and writes the figures of its model card.

    python -m recipes.builtin_voice.evaluation bundles/builtin --json bench/results/builtin_voice.json

Everything is judged on held-out sentences of the domain. Each figure of the voice is printed with the figures of its
models (flite, the locked vocoder, the codec alone) and of noise, because a grammar turns noise into sentences as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from bench.machine import commit, cpu_name
from csm_codec.resample import Pcm
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_engine.types import Segment
from recipes.builtin_voice import flite
from recipes.builtin_voice.codec.recordings import sound_of
from recipes.builtin_voice.evaluation.codec_quality import mel_distance_db
from recipes.builtin_voice.evaluation.recognizer import domain_grammar, hear_all, word_errors
from recipes.builtin_voice.evaluation.speaker import SpeakerClassifier
from recipes.builtin_voice.evaluation.voice import MAX_FRAMES, Saying, Voice
from recipes.builtin_voice.sentences import sentences
from recipes.builtin_voice.vocoder import SAMPLE_RATE_HZ, frames_of, synthesize
from recipes.builtin_voice.watermark.distortions import distortions
from recipes.builtin_voice.watermark.evaluate import Judge, mark, random_key, sdr_db

SEED = 31
LISTENERS = 2  # processes
SPEAKERS = range(len(flite.VOICES))
RUNAWAY_FACTOR = 2.0  # a saying this much longer than flite's has run away, also if it ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sentences", type=int, default=50, help="each is said by both speakers")
    parser.add_argument("--watermark-clips", type=int, default=40)
    parser.add_argument("--voice-only", action="store_true", help="not what it imitates, nor the codec")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    evaluation = Evaluation(Voice(arguments.bundle), arguments.sentences, arguments.watermark_clips)
    figures = evaluation.run(voice_only=arguments.voice_only)
    result = {"benchmark": "voice", "device": cpu_name(), "commit": commit(), **figures}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


class Evaluation:
    """All figures of one voice."""

    def __init__(self, voice: Voice, num_sentences: int, num_marked: int) -> None:
        self._voice, self._num_marked = voice, num_marked
        texts = list(islice(sentences("held-out", SEED), num_sentences))
        self._asked = [(text, speaker) for text in texts for speaker in SPEAKERS]
        self._said_by_flite = [flite.utter(text, flite.VOICES[speaker]) for text, speaker in self._asked]
        self._vocoded = [synthesize(frames_of(utterance)) for utterance in self._said_by_flite]

    def run(self, *, voice_only: bool) -> dict[str, object]:
        sayings = self._voice.say([[Segment(speaker, text)] for text, speaker in self._asked])
        return {
            "sentences": len(self._asked),
            "sampling": {"temperature": self._voice.temperature, "top_k": self._voice.top_k},
            "rows": self._words(sayings, voice_only=voice_only),
            "endings": self._endings(sayings),
            "speakers": self._speakers(sayings),
            **({} if voice_only else {"codec": self._codec()}),
            "watermark": self._watermark(sayings),
        }

    def _words(self, sayings: Sequence[Saying], *, voice_only: bool) -> list[dict[str, object]]:
        """Word error rates by recogniser, of the voice and of what it is compared with."""
        noise = np.random.default_rng(SEED)
        voice_hz = self._voice.sample_rate_hz
        arms: dict[str, tuple[list[Pcm], int]] = {
            "voice": ([saying.pcm for saying in sayings], voice_hz),
        }
        arms |= (
            {}
            if voice_only
            else {
                "flite": ([utterance.pcm for utterance in self._said_by_flite], flite.SAMPLE_RATE_HZ),
                "vocoder": (self._vocoded, SAMPLE_RATE_HZ),
                "codec": ([self._through_codec(pcm) for pcm in self._vocoded], voice_hz),
                "noise": (
                    [noise.normal(scale=0.07, size=len(pcm)).astype(np.float32) for pcm in self._vocoded],
                    voice_hz,
                ),
            }
        )
        return [{"arm": name, **self._word_error_rates(name, *arm)} for name, arm in arms.items()]

    def _word_error_rates(self, name: str, clips: Sequence[Pcm], sample_rate_hz: int) -> dict[str, float]:
        rates: dict[str, float] = {}
        for listener, grammar in (("domain", domain_grammar()), ("open", None)):
            heard = hear_all(grammar, clips, sample_rate_hz, LISTENERS)
            counts = [word_errors(text, words) for (text, _), words in zip(self._asked, heard, strict=True)]
            rates[listener] = round(sum(wrong for wrong, _ in counts) / sum(words for _, words in counts), 4)
            for speaker in SPEAKERS:
                its = [count for count, (_, who) in zip(counts, self._asked, strict=True) if who == speaker]
                rate = sum(wrong for wrong, _ in its) / sum(words for _, words in its)
                rates[f"{listener}_{flite.VOICES[speaker]}"] = round(rate, 4)
        _tell(f"words, {name}: {rates}")
        return rates

    def _endings(self, sayings: Sequence[Saying]) -> dict[str, float]:
        longest = [RUNAWAY_FACTOR * len(pcm) for pcm in self._vocoded]
        runaway = [not s.ended or len(s.pcm) > limit for s, limit in zip(sayings, longest, strict=True)]
        lengths = [len(s.pcm) / len(pcm) for s, pcm in zip(sayings, self._vocoded, strict=True)]
        return {
            "ended_by_the_model": round(float(np.mean([s.ended for s in sayings])), 4),
            "runaway": round(float(np.mean(runaway)), 4),
            "length_against_flite": round(float(np.median(lengths)), 3),
            "most_frames": MAX_FRAMES,
        }

    def _speakers(self, sayings: Sequence[Saying]) -> dict[str, float]:
        """How often the voice is the one asked for; and, with a context in which the other voice has the speaker's
        number, how often it is the context's. The same seeds with and without."""
        classifier = SpeakerClassifier(
            [[pcm for pcm, (_, who) in zip(self._vocoded, self._asked, strict=True) if who == s] for s in SPEAKERS]
        )
        right = [classifier.speaker(s.pcm) == who for s, (_, who) in zip(sayings, self._asked, strict=True)]
        contexts = list(islice(sentences("held-out", SEED + 1), len(self._asked)))
        swapped = []
        for (text, speaker), earlier in zip(self._asked, contexts, strict=True):
            other = flite.utter(earlier, flite.VOICES[1 - speaker])
            codes = self._voice.encode(sound_of(other), SAMPLE_RATE_HZ)
            swapped.append([Segment(speaker, earlier, codes), Segment(speaker, text)])
        following = self._voice.say(swapped)
        follows = [classifier.speaker(s.pcm) != who for s, (_, who) in zip(following, self._asked, strict=True)]
        figures = {
            "told_apart": round(float(np.mean(right)), 4),
            "follows_context": round(float(np.mean(follows)), 4),
            "same_without_context": round(1 - float(np.mean(right)), 4),
        }
        _tell(f"speakers: {figures}")
        return figures

    def _codec(self) -> dict[str, float]:
        """Distances of mel spectra: the vocoder's sound and flite's own, through encoder and decoder."""
        recorded = [sound_of(said) for said in self._said_by_flite]
        return {
            "mel_db_of_vocoder": _mean([mel_distance_db(pcm, self._through_codec(pcm)) for pcm in self._vocoded]),
            "mel_db_of_recording": _mean([mel_distance_db(pcm, self._through_codec(pcm)) for pcm in recorded]),
            "mel_db_of_another_sentence": _mean(
                [mel_distance_db(a, b) for a, b in zip(self._vocoded, self._vocoded[2:], strict=False)]
            ),
        }

    def _through_codec(self, pcm: Pcm) -> Pcm:
        return self._voice.decode(self._voice.encode(pcm, SAMPLE_RATE_HZ))

    def _watermark(self, sayings: Sequence[Saying]) -> dict[str, object]:
        """Of clips of at least three seconds, two sayings of one speaker in a row."""
        random = np.random.default_rng(SEED)
        silentcipher = load_silentcipher(self._voice.silentcipher)
        said = list(sayings)
        pairs = zip(said[:-2:4] + said[1:-2:4], said[2::4] + said[3::4], strict=False)
        clips = [np.concatenate([one.pcm, other.pcm]) for one, other in pairs]
        clips = [clip for clip in clips if len(clip) >= 3 * self._voice.sample_rate_hz][: self._num_marked]
        keys = [random_key(random) for _ in clips]
        marked = [mark(silentcipher, clip, key) for clip, key in zip(clips, keys, strict=True)]
        judge = Judge(silentcipher)
        for name, distortion in distortions().items():
            judge.look(marked, keys, "voice", name, distortion)
        judge.look(clips, keys, "voice", "not marked", distortions()["none"], look_ahead=None)
        return {
            "clips": len(clips),
            "found": {row.distortion: row.found for row in judge.rows},
            "sdr_db": _mean([sdr_db(clip, with_mark) for clip, with_mark in zip(clips, marked, strict=True)]),
        }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
