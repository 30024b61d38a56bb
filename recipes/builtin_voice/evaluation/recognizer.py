"""The speech recogniser: pocketsphinx from PyPI, with its open English vocabulary or with the domain's grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
from pocketsphinx import Decoder

from csm_codec.resample import Pcm, resample
from recipes.builtin_voice import sentences

SAMPLE_RATE_HZ = 16000
_LEVEL = 0.5  # of the loudest sample, relative to full scale
_MARGIN = np.zeros(SAMPLE_RATE_HZ // 5, np.float32)
_HISS = 1e-4  # noise instead of digital silence, on which the recogniser was not trained


class Recognizer:
    """Recognises clips one after another. Results do not depend on earlier clips."""

    def __init__(self, grammar: str | None = None) -> None:
        """grammar: in JSGF; None is any English."""
        self._grammar = grammar
        self._decoder: Decoder | None = None

    def recognize(self, pcm: Pcm, sample_rate_hz: int) -> str:
        self._decoder = decoder = self._decoder or self._new_decoder()
        clip = pcm if sample_rate_hz == SAMPLE_RATE_HZ else resample(pcm, sample_rate_hz, SAMPLE_RATE_HZ)
        clip = np.concatenate([_MARGIN, clip / max(1e-6, float(np.abs(clip).max())) * _LEVEL, _MARGIN])
        hissing = clip + np.random.default_rng(0).normal(scale=_HISS, size=len(clip))
        decoder.start_utt()
        decoder.process_raw((hissing * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return re.sub(r"\(\d+\)", "", found.hypstr) if found else ""

    def _new_decoder(self) -> Decoder:
        decoder = Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL")
        if self._grammar is not None:
            decoder.add_jsgf_string("domain", self._grammar)
            decoder.activate_search("domain")
        return decoder


def recognize_all(grammar: str | None, clips: Sequence[Pcm], sample_rate_hz: int, processes: int) -> list[str]:
    """The words recognised in each clip, with that many processes. An empty clip has no words."""
    count = len(clips)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return list(pool.map(_recognize, [grammar] * count, clips, [sample_rate_hz] * count, chunksize=8))


def _recognize(grammar: str | None, pcm: Pcm, sample_rate_hz: int) -> str:
    return _recognizer(grammar).recognize(pcm, sample_rate_hz) if len(pcm) else ""


@cache
def _recognizer(grammar: str | None) -> Recognizer:
    return Recognizer(grammar)


def domain_grammar() -> str:
    """The grammar of all sentences of sentences.py, in JSGF."""
    kinds = [f"<{kind}> = {' | '.join(word.lower() for word in words)};" for kind, words in sentences.WORDS.items()]
    templates = " | ".join(re.sub(r"\{(\w+)\}", r"<\1>", _plain(template)) for template in sentences.TEMPLATES)
    return "\n".join(["#JSGF V1.0;", "grammar domain;", *kinds, f"public <sentence> = {templates};"])


def words_of(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def word_errors(spoken: str, recognized: str) -> tuple[int, int]:
    """(the least number of insertions, deletions and substitutions, the number of spoken words)"""
    expected, found = words_of(spoken), words_of(recognized)
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(expected)


def _plain(template: str) -> str:
    return re.sub(r"[^a-z{} ]", "", template.lower())
