"""The measures of the model card measure what they say."""

from __future__ import annotations

import ctypes.util
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest

from recipes.builtin_voice.evaluation.codec_quality import mel_distance_db
from recipes.builtin_voice.evaluation.recognizer import Recognizer, domain_grammar, word_errors
from recipes.builtin_voice.evaluation.speaker import SpeakerClassifier
from recipes.builtin_voice.flite import utter
from recipes.builtin_voice.sentences import sentences


@pytest.mark.parametrize(
    ("said", "heard", "errors", "words"),
    [
        ("Hello there, Anna.", "hello there anna", 0, 3),
        ("one two three", "one three", 1, 3),
        ("one two", "one too many two", 2, 2),
        ("one two", "", 2, 2),
    ],
)
def test_word_errors_are_the_least_edits(said: str, heard: str, errors: int, words: int) -> None:
    assert word_errors(said, heard) == (errors, words)


@pytest.mark.skipif(ctypes.util.find_library("flite") is None, reason="flite is not installed")
def test_listener_with_the_grammar_understands_sentences_of_the_domain() -> None:
    """Not always each word: flite's noise is another one every time."""
    listener = Recognizer(domain_grammar())
    texts = list(islice(sentences("held-out", 4), 3))
    counts = [word_errors(text, listener.recognize(utter(text, "rms").pcm, 16000)) for text in texts]
    assert sum(wrong for wrong, _ in counts) <= 0.2 * sum(words for _, words in counts)


def coloured(slope: float, seed: int) -> npt.NDArray[np.float32]:
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=24000))
    return np.fft.irfft(spectrum * np.linspace(1, 1 + slope, len(spectrum))).astype(np.float32)


def test_speakers_are_distinguished_by_spectrum_and_not_by_level() -> None:
    clips = [[coloured(slope, seed) for seed in range(8)] for slope in (0.0, 3.0)]
    classifier = SpeakerClassifier(clips)
    assert [classifier.speaker(coloured(0.0, 50 + i) * np.float32(9)) for i in range(5)] == [0] * 5
    assert [classifier.speaker(coloured(3.0, 90 + i) * np.float32(0.1)) for i in range(5)] == [1] * 5


def test_mel_distance_is_in_decibels() -> None:
    pcm = coloured(1.0, 0)
    assert mel_distance_db(pcm, pcm) == 0
    assert mel_distance_db(pcm, pcm * 2) == pytest.approx(20 * np.log10(2), rel=1e-3)
