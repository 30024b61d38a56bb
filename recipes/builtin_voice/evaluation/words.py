"""The word error rate by set, voice and recogniser, beside that of the voice's models.

    python -m recipes.builtin_voice.evaluation.words bundles/builtin --sets everyday,figures --cache build/heard
    python -m recipes.builtin_voice.evaluation.words bundles/builtin --sets development --temperature 0.1

The arms are flite, the frame-locked vocoder, the vocoder's sound through the bundle's encoder and decoder ("codec"),
flite's exact codes through the bundle's decoder, noise, which a grammar turns into sentences as well, and the voice.
The words recognised of all but the voice are cached: they depend on texts, front end and codec, not on the CSM.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from csm_codec.resample import Pcm
from csm_engine.types import Segment
from csm_text.frontend import load
from recipes.builtin_voice import flite
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.csm.tokenizer import TEXT_FRONTEND
from recipes.builtin_voice.evaluation.recognizer import domain_grammar, recognize_all
from recipes.builtin_voice.evaluation.results import Results, Row
from recipes.builtin_voice.evaluation.sets import SETS, EvaluationText, evaluation_texts
from recipes.builtin_voice.evaluation.voice import Voice
from recipes.builtin_voice.vocoder import SAMPLE_RATE_HZ, frames_of, synthesize

SPEAKERS = range(len(flite.VOICES))
ARMS = ("flite", "vocoder", "codec", "codes", "noise", "voice")
NOISE_LEVEL = 0.07  # about that of speech
Clips = Sequence[tuple[Pcm, int]]  # samples, rate


class Words:
    """Lets the arms speak a set, and counts the words that are recognised wrong."""

    def __init__(self, voice: Voice, quantizer: Quantizer | None, cache: Path | None, listeners: int) -> None:
        """quantizer: for the arm with exact codes, which is left out without one."""
        self._voice, self._quantizer, self._cache, self._listeners = voice, quantizer, cache, listeners
        self._normalize = load(TEXT_FRONTEND).normalize

    def rows(self, name: str, texts: Sequence[EvaluationText], arms: Sequence[str]) -> Iterator[Row]:
        """A row for each arm and recogniser, as soon as it is measured."""
        asked = [(text, speaker) for text in texts for speaker in SPEAKERS]
        grammars = {"open": None} | ({"grammar": domain_grammar()} if name == "domain" else {})
        for listener, grammar in grammars.items():
            for arm in (arm for arm in arms if arm != "codes" or self._quantizer):
                heard = self._heard(arm, asked, grammar)
                yield {"set": name, "texts": len(texts), "arm": arm, "listener": listener, **_rates(asked, heard)}

    def _heard(self, arm: str, asked: Sequence[tuple[EvaluationText, int]], grammar: str | None) -> list[str]:
        if arm == "voice":
            sayings = self._voice.say([[Segment(speaker, text.text)] for text, speaker in asked])
            return self._listen([(saying.pcm, self._voice.sample_rate_hz) for saying in sayings], grammar)
        path = self._kept(arm, asked, grammar)
        if path and path.exists():
            return list(json.loads(path.read_text()))
        heard = self._listen([self._taught(arm, text.text, speaker) for text, speaker in asked], grammar)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(heard))
        return heard

    def _kept(self, arm: str, asked: Sequence[tuple[EvaluationText, int]], grammar: str | None) -> Path | None:
        codec = self._voice.codec_digest if arm in ("codec", "codes") else ""
        spoken = [self._normalize(text.text) for text, _ in asked]
        digest = sha256(json.dumps([arm, codec, grammar, spoken]).encode()).hexdigest()
        return self._cache / f"{digest[:24]}.json" if self._cache else None

    def _taught(self, arm: str, text: str, speaker: int) -> tuple[Pcm, int]:
        said = flite.utter(self._normalize(text), flite.VOICES[speaker])
        if arm == "flite":
            return said.pcm, flite.SAMPLE_RATE_HZ
        frames = frames_of(said)
        if arm in ("vocoder", "codec", "noise"):
            return self._changed(arm, synthesize(frames))
        assert self._quantizer is not None
        codes = self._quantizer.encode(self._quantizer.latents(frames)).astype(np.int16)
        return self._voice.decode(codes), self._voice.sample_rate_hz

    def _changed(self, arm: str, vocoded: Pcm) -> tuple[Pcm, int]:
        if arm == "codec":
            return self._voice.decode(self._voice.encode(vocoded, SAMPLE_RATE_HZ)), self._voice.sample_rate_hz
        if arm == "noise":
            random = np.random.default_rng(len(vocoded))
            return random.normal(scale=NOISE_LEVEL, size=len(vocoded)).astype(np.float32), SAMPLE_RATE_HZ
        return vocoded, SAMPLE_RATE_HZ

    def _listen(self, clips: Clips, grammar: str | None) -> list[str]:
        rate = clips[0][1]
        return recognize_all(grammar, [pcm for pcm, _ in clips], rate, self._listeners)


def _rates(asked: Sequence[tuple[EvaluationText, int]], heard: Sequence[str]) -> dict[str, float]:
    """Word error rates: for all, and for each voice."""
    counts = [text.word_errors(words) for (text, _), words in zip(asked, heard, strict=True)]
    rates = {"all": _rate(counts)}
    for speaker in SPEAKERS:
        its = [count for count, (_, who) in zip(counts, asked, strict=True) if who == speaker]
        rates[flite.VOICES[speaker]] = _rate(its)
    return rates


def _rate(counts: Sequence[tuple[int, int]]) -> float:
    return round(sum(wrong for wrong, _ in counts) / sum(words for _, words in counts), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--at-most", type=int, help="texts of a set")
    parser.add_argument("--quantizer", type=Path, help="for the arm of exact codes")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--listeners", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    voice = Voice(arguments.bundle, temperature=arguments.temperature, top_k=arguments.top_k)
    quantizer = Quantizer.load(arguments.quantizer) if arguments.quantizer else None
    words = Words(voice, quantizer, arguments.cache, arguments.listeners)
    results = Results(arguments.json, "words", ("set", "arm", "listener"), voice.conditions)
    for name in arguments.sets.split(","):
        for row in words.rows(name, evaluation_texts(name, arguments.at_most), arguments.arms.split(",")):
            results.put(row)
            print(json.dumps(row), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
