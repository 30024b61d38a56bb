"""Judges a bundle by its own speech: how it ends, and whose voice it is.

    python -m recipes.builtin_voice.evaluation bundles/builtin --json bench/results/builtin_voice.json
    python -m recipes.builtin_voice.evaluation bundles/builtin --sets domain --parts context

Which words are understood is in words.py, what a long talk costs in long_talk.py, what the context of a
long text does in text_contexts.py, the watermark in mark.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from csm_codec.resample import Pcm
from csm_engine.types import Codes, Segment
from csm_text.frontend import FrontEnd, load
from recipes.builtin_voice import flite
from recipes.builtin_voice.codec.recordings import sound_of
from recipes.builtin_voice.csm.tokenizer import TEXT_FRONTEND
from recipes.builtin_voice.evaluation.codec_quality import mel_distance_db
from recipes.builtin_voice.evaluation.options import chosen_parts
from recipes.builtin_voice.evaluation.results import Results, Row
from recipes.builtin_voice.evaluation.sets import SEED, evaluation_texts
from recipes.builtin_voice.evaluation.speaker import SpeakerClassifier
from recipes.builtin_voice.evaluation.voice import MAX_FRAMES, Saying, Voice
from recipes.builtin_voice.sentences import sentences
from recipes.builtin_voice.vocoder import SAMPLE_RATE_HZ, frames_of, synthesize

SPEAKERS = range(len(flite.VOICES))
RUNAWAY_FACTOR = 2.0  # an utterance this much longer than flite's has run away, even if it ends
PARTS = ("endings", "speakers", "context", "codec")


class Evaluation:
    """The figures of a voice for a set of texts, each spoken by both speakers."""

    def __init__(self, voice: Voice, texts: Sequence[str], classifier: SpeakerClassifier) -> None:
        self._voice, self._classifier = voice, classifier
        self._asked = [(text, speaker) for text in texts for speaker in SPEAKERS]

    def figures(self, part: str) -> Row:
        """The figures of one of PARTS."""
        match part:
            case "endings":
                return self._endings()
            case "speakers":
                return {"told_apart": sum(self._is_right(self._sayings))}
            case "context":
                return {"follows_context": sum(not right for right in self._is_right(self._voice.say(self._swapped())))}
            case _:
                return self._codec()

    @cached_property
    def _sayings(self) -> list[Saying]:
        return self._voice.say([[Segment(speaker, text)] for text, speaker in self._asked])

    def _endings(self) -> Row:
        lengths = [len(s.pcm) / len(vocoded(*asked)) for s, asked in zip(self._sayings, self._asked, strict=True)]
        ended = [saying.ended for saying in self._sayings]
        return {
            "sayings": len(ended),
            "ended_by_the_model": sum(ended),
            "ran_away": sum(not end or length > RUNAWAY_FACTOR for end, length in zip(ended, lengths, strict=True)),
            "length_against_flite": round(float(np.median(lengths)), 3),
            "longest_against_flite": round(max(lengths), 3),
            "shortest_against_flite": round(min(lengths), 3),
            "most_frames": MAX_FRAMES,
        }

    def _is_right(self, sayings: Sequence[Saying]) -> list[bool]:
        """Whether each utterance has the voice of the requested speaker."""
        return [self._classifier.speaker(s.pcm) == who for s, (_, who) in zip(sayings, self._asked, strict=True)]

    def _swapped(self) -> list[list[Segment]]:
        """The same texts, after a recording of the other voice under the speaker's number."""
        earlier = islice(sentences("held-out", SEED + 1), len(self._asked))
        return [
            [Segment(speaker, before, self._recorded(before, 1 - speaker)), Segment(speaker, text)]
            for (text, speaker), before in zip(self._asked, earlier, strict=True)
        ]

    def _recorded(self, text: str, speaker: int) -> Codes:
        return self._voice.encode(sound_of(utter(text, speaker)), SAMPLE_RATE_HZ)

    def _codec(self) -> Row:
        """Distances of mel spectra after encoding and decoding: for the vocoder's sound and for flite's own."""
        made = [vocoded(*asked) for asked in self._asked]
        recorded = [sound_of(utter(*asked)) for asked in self._asked]
        return {
            "mel_db_of_vocoder": _mean([mel_distance_db(pcm, self._through_codec(pcm)) for pcm in made]),
            "mel_db_of_recording": _mean([mel_distance_db(pcm, self._through_codec(pcm)) for pcm in recorded]),
            "mel_db_of_another_sentence": _mean([mel_distance_db(a, b) for a, b in zip(made, made[2:], strict=False)]),
        }

    def _through_codec(self, pcm: Pcm) -> Pcm:
        return self._voice.decode(self._voice.encode(pcm, SAMPLE_RATE_HZ))


@cache
def utter(text: str, speaker: int) -> flite.Utterance:
    """The text for flite, with figures in words as the front end reads them."""
    return flite.utter(_front_end().normalize(text), flite.VOICES[speaker])


@cache
def vocoded(text: str, speaker: int) -> Pcm:
    return synthesize(frames_of(utter(text, speaker)))


@cache
def _front_end() -> FrontEnd:
    return load(TEXT_FRONTEND)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sets", default="domain,everyday")
    parser.add_argument("--at-most", type=int, help="texts of a set")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    parts = chosen_parts(parser, arguments.parts, PARTS)
    torch.set_num_threads(arguments.threads)
    voice = Voice(arguments.bundle)
    results = Results(arguments.json, "voice", ("set",), voice.conditions)
    known = [text.text for text in evaluation_texts("domain")]
    classifier = SpeakerClassifier([[vocoded(text, speaker) for text in known] for speaker in SPEAKERS])
    for name in arguments.sets.split(","):
        evaluation = Evaluation(voice, [text.text for text in evaluation_texts(name, arguments.at_most)], classifier)
        for part in parts:
            figures = evaluation.figures(part)
            print(json.dumps({"set": name, **figures}), file=sys.stderr, flush=True)
            results.put({"set": name, **figures})


if __name__ == "__main__":
    main()
