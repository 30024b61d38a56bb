"""The built-in voice, through the whole server: its words are recognised, it has two speakers, ends, and is marked."""

from __future__ import annotations

from collections.abc import Iterator

import csm_client
import numpy as np
import numpy.typing as npt
import pytest
from csm.v1 import tts_pb2
from csm_client import Turn

from recipes.builtin_voice.evaluation.recognizer import Recognizer, domain_grammar, word_errors, words_of
from recipes.builtin_voice.sentences import split_of
from tests.support.wav import wav_of

SENTENCES = (  # held out
    "It is ten past twelve and the station is closed.",
    "The train to London leaves at eleven on Thursday.",
    "It is nine past eight and the market is closed.",
    "Please walk until Monday, because Emma is tired.",
)
SPEAKERS = {"slt": 0, "rms": 1}
MOST_ERRORS = 0.3  # of the words, by a recogniser with the grammar of the domain


@pytest.fixture(scope="module")
def client(voice_target: str) -> Iterator[csm_client.Client]:
    with csm_client.Client(voice_target, timeout_s=100) as opened:
        yield opened


class Spoken:
    """The sentences, each spoken by both voices when a test first needs it."""

    def __init__(self, client: csm_client.Client) -> None:
        self._client = client
        self._made = dict[tuple[str, str], csm_client.Speech]()

    def __getitem__(self, key: tuple[str, str]) -> csm_client.Speech:
        if key not in self._made:
            text, voice = key
            self._made[key] = self._client.synthesize(text, speaker=SPEAKERS[voice], seed=1, return_codes=True)
        return self._made[key]

    def items(self) -> list[tuple[tuple[str, str], csm_client.Speech]]:
        """Two sentences, by both voices."""
        return [((text, voice), self[text, voice]) for text in SENTENCES[:2] for voice in SPEAKERS]


@pytest.fixture(scope="module")
def spoken(client: csm_client.Client) -> Spoken:
    return Spoken(client)


def pcm(speech: csm_client.Speech) -> npt.NDArray[np.float32]:
    return (np.frombuffer(speech.samples, "<i2") / 32768).astype(np.float32)


def pitch_hz(clip: npt.NDArray[np.float32], sample_rate_hz: int) -> float:
    """The median pitch of the loud parts, by autocorrelation."""
    size, lags = sample_rate_hz // 20, np.arange(sample_rate_hz // 300, sample_rate_hz // 70)
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    loud = frames[np.square(frames).mean(axis=1) > 0.2 * np.square(frames).mean()]
    strongest = [lags[np.argmax([frame[lag:] @ frame[:-lag] / (size - lag) for lag in lags])] for frame in loud]
    return sample_rate_hz / float(np.median(strongest))


def test_the_sentences_are_held_out_of_training() -> None:
    assert {split_of(text) for text in SENTENCES} == {"held-out"}


@pytest.mark.parametrize("voice", SPEAKERS)
@pytest.mark.parametrize(
    "text", [*SENTENCES[:2], *(pytest.param(text, marks=pytest.mark.slow) for text in SENTENCES[2:])]
)
def test_speech_ends_by_itself_and_takes_as_long_as_speech_does(spoken: Spoken, text: str, voice: str) -> None:
    speech = spoken[text, voice]
    assert speech.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert 0.2 < speech.duration_s / len(text.split()) < 0.6


def test_words_are_understood(spoken: Spoken) -> None:
    recognizer, noise = Recognizer(domain_grammar()), np.random.default_rng(0)
    errors = {"speech": 0, "noise": 0}
    for (text, _), speech in spoken.items():
        clip = pcm(speech)
        hiss = noise.normal(scale=0.07, size=len(clip)).astype(np.float32)
        for name, sound in (("speech", clip), ("noise", hiss)):
            errors[name] += word_errors(text, recognizer.recognize(sound, speech.sample_rate_hz))[0]
    words = len(SPEAKERS) * sum(len(words_of(text)) for text in SENTENCES[:2])
    assert errors["speech"] <= MOST_ERRORS * words <= 0.6 * errors["noise"]


def test_speakers_are_a_woman_and_a_man(spoken: Spoken) -> None:
    for text in SENTENCES[:2]:
        woman, man = (spoken[text, voice] for voice in SPEAKERS)
        assert pitch_hz(pcm(woman), woman.sample_rate_hz) > 150 > 130 > pitch_hz(pcm(man), man.sample_rate_hz)


def test_mark_of_its_speech_is_found(client: csm_client.Client, spoken: Spoken) -> None:
    for voice in SPEAKERS:
        speech = spoken[SENTENCES[0], voice]
        answer = client.detect_watermark(wav_of(speech.samples, speech.sample_rate_hz))
        assert (answer.detected, answer.key_id) == (True, speech.summary.watermark.key_id)


def test_voice_follows_the_context(client: csm_client.Client, spoken: Spoken) -> None:
    """Speaker 0 is the woman, unless the conversation has shown that it is the man."""
    text, question = SENTENCES[:2]
    heard_as_a_man = [Turn(0, question, codes=spoken[question, "rms"].codes)]
    answered = client.synthesize(text, speaker=0, seed=1, context=heard_as_a_man)
    pitches = [pitch_hz(pcm(speech), speech.sample_rate_hz) for speech in (spoken[text, "slt"], answered)]
    assert pitches[0] > 150 > 130 > pitches[1]
