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
_LEVEL = 0.5  # of full scale, of the loudest sample
_MARGIN = np.zeros(SAMPLE_RATE_HZ // 5, np.float32)
_HISS = 1e-4  # digital silence is none of the sounds that the recogniser was trained on


class Recognizer:
    """Recognises one clip after another. The result of one does not depend on the others."""

    def __init__(self, grammar: str | None = None) -> None:
        """grammar: in JSGF; any English when None."""
        self._grammar = grammar
        self._decoder: Decoder | None = None

    def hear(self, pcm: Pcm, sample_rate_hz: int) -> str:
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


def hear_all(grammar: str | None, clips: Sequence[Pcm], sample_rate_hz: int, processes: int) -> list[str]:
    """The words recognised in each clip, by that many processes at once. Empty clips give no words."""
    count = len(clips)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return list(pool.map(_hear, [grammar] * count, clips, [sample_rate_hz] * count, chunksize=8))


def _hear(grammar: str | None, pcm: Pcm, sample_rate_hz: int) -> str:
    return _listener(grammar).hear(pcm, sample_rate_hz) if len(pcm) else ""


@cache
def _listener(grammar: str | None) -> Recognizer:
    return Recognizer(grammar)


def domain_grammar() -> str:
    """Every sentence of sentences.py, and no other."""
    kinds = [f"<{kind}> = {' | '.join(word.lower() for word in words)};" for kind, words in sentences.WORDS.items()]
    templates = " | ".join(re.sub(r"\{(\w+)\}", r"<\1>", _plain(template)) for template in sentences.TEMPLATES)
    return "\n".join(["#JSGF V1.0;", "grammar domain;", *kinds, f"public <sentence> = {templates};"])


def words_of(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Least number of words to insert, delete or exchange, and the number of words said."""
    wanted, got = words_of(said), words_of(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(wanted)


def _plain(template: str) -> str:
    return re.sub(r"[^a-z{} ]", "", template.lower())
