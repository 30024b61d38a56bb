"""Whether the watermark of the voice's own speech is detected, and none in unmarked audio.

    python -m recipes.builtin_voice.evaluation.mark bundles/builtin --json bench/results/builtin_voice_mark.json

A clip is a few everyday sayings of one speaker, marked in one stream with a key of its own and with the look-ahead that
the service has. Of each marked clip three seconds are kept and distorted: the first ones, where the stream's level is
new, or with a crop those from a random place. Pieces without a mark come from the voice, the vocoder and flite.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from csm_codec.resample import Pcm, resample
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from csm_engine.types import Segment
from csm_text.frontend import load
from recipes.builtin_voice import flite
from recipes.builtin_voice.csm.tokenizer import TEXT_FRONTEND
from recipes.builtin_voice.evaluation.options import chosen_parts
from recipes.builtin_voice.evaluation.results import Results
from recipes.builtin_voice.evaluation.sets import EvaluationText, evaluation_texts
from recipes.builtin_voice.evaluation.voice import Voice
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ
from recipes.builtin_voice.vocoder import frames_of, synthesize
from recipes.builtin_voice.watermark.corpus import joined
from recipes.builtin_voice.watermark.distortions import Distortion, Recording, distortions, piece
from recipes.builtin_voice.watermark.evaluate import Judge, mark, random_key, sdr_db

SEED = 41
SECONDS = 3.0  # of a recording
LEAST_SECONDS = 4.0  # of a marked clip, so that a crop has a choice
SPEAKERS = range(len(flite.VOICES))
UNMARKED = {"voice": 400, "vocoder": 300, "flite": 300}  # pieces without a mark
PARTS = ("marked", *UNMARKED)


class Mark:
    """Evaluates one bundle, whose voice must have SAMPLE_RATE_HZ, like flite and the vocoder here."""

    def __init__(self, voice: Voice, texts: Sequence[EvaluationText], results: Results) -> None:
        self._voice, self._texts, self._results = voice, texts, results
        self._silentcipher = voice.silentcipher

    @cached_property
    def _clips(self) -> dict[int, list[Pcm]]:
        """The utterances of each speaker."""
        asked = [(text, speaker) for speaker in SPEAKERS for text in self._texts]
        sayings = self._voice.say([[Segment(speaker, text.text)] for text, speaker in asked])
        said = [saying.pcm for saying in sayings]
        return {
            speaker: joined([pcm for pcm, (_, who) in zip(said, asked, strict=True) if who == speaker], LEAST_SECONDS)
            for speaker in SPEAKERS
        }

    def marked(self, at_most: int) -> None:
        """A row for each speaker and distortion, and one for another key."""
        random = np.random.default_rng(SEED)
        for speaker, clips in self._clips.items():
            clips, name = clips[:at_most], flite.VOICES[speaker]
            keys = [random_key(random) for _ in clips]
            marked = [mark(self._silentcipher, clip, key, ADAPTIVE) for clip, key in zip(clips, keys, strict=True)]
            ratio_db = round(
                float(np.mean([sdr_db(clip, other) for clip, other in zip(clips, marked, strict=True)])), 2
            )
            for title, distortion in distortions().items():
                self._look(marked, keys, name, title, in_three_seconds(title, distortion), sdr_db=ratio_db)
            others = [random_key(random) for _ in clips]
            plain = in_three_seconds("none", distortions()["none"])
            self._look(marked, others, name, "none, another key", plain, sdr_db=ratio_db)

    def unmarked(self, kind: str, count: int) -> None:
        """A row for one kind of unmarked sound: pieces of half a second and longer, each searched for a random key."""
        random = np.random.default_rng([SEED, *kind.encode()])
        clips = self._unmarked_clips(kind)
        chosen = [clips[index % len(clips)] for index in range(count)]
        self._look(chosen, [random_key(random) for _ in chosen], kind, "not marked, a piece", piece, look_ahead=None)

    def _unmarked_clips(self, kind: str) -> list[Pcm]:
        if kind == "voice":
            return [clip for clips in self._clips.values() for clip in clips]
        normalize = load(TEXT_FRONTEND).normalize
        make: Callable[[flite.Utterance], Pcm] = _as_flite if kind == "flite" else _as_vocoder
        return [
            clip
            for voice in flite.VOICES
            for clip in joined([make(flite.utter(normalize(text.text), voice)) for text in self._texts], LEAST_SECONDS)
        ]

    def _look(
        self,
        clips: Sequence[Pcm],
        keys: Sequence[WatermarkKey],
        audio: str,
        title: str,
        distortion: Distortion,
        look_ahead: str | None = "adaptive",
        **more: float,
    ) -> None:
        judge = Judge(self._silentcipher)
        judge.look(clips, keys, audio, title, distortion, look_ahead)
        self._results.put({**asdict(judge.rows[0]), **more})


def in_three_seconds(title: str, distortion: Distortion) -> Distortion:
    """The distortion of the first SECONDS of a clip, or of those from a random place where it is a crop."""
    wanted = round(SECONDS * SAMPLE_RATE_HZ)

    def cut(pcm: Pcm, random: np.random.Generator) -> Recording:
        first = int(random.integers(len(pcm) - wanted + 1)) if title.startswith("crop") else 0
        return distortion(pcm[first : first + wanted], random)

    return cut


def _as_flite(said: flite.Utterance) -> Pcm:
    return resample(said.pcm, flite.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)


def _as_vocoder(said: flite.Utterance) -> Pcm:
    return synthesize(frames_of(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; the last three are unmarked")
    parser.add_argument("--texts", type=int, help="everyday sentences, each said by both speakers; all by default")
    parser.add_argument("--clips", type=int, default=50, help="of each speaker, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    parts = chosen_parts(parser, arguments.parts, PARTS)
    torch.set_num_threads(arguments.threads)
    voice = Voice(arguments.bundle)
    conditions = {**voice.conditions, "nominal_sdr_db": voice.silentcipher.hparams.sdr_db}
    results = Results(arguments.json, "voice_mark", ("audio", "distortion"), conditions)
    judge = Mark(voice, evaluation_texts("everyday", arguments.texts), results)
    for part in parts:
        if part == "marked":
            judge.marked(arguments.clips)
        else:
            judge.unmarked(part, UNMARKED[part])


if __name__ == "__main__":
    main()
