"""Training sequences are laid out as the server's prompts are."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from csm_engine.model.prompt import PromptBuilder
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Segment
from recipes.builtin_voice.csm.corpus import DIALOGUE_SHARE, TrainingCorpus
from recipes.builtin_voice.csm.tokenizer import VOCAB_SIZE, write_tokenizer
from recipes.builtin_voice.csm.turns import PHONE_PARTS, Turn

CODEBOOKS, CODES = 3, 50
HEARD = 100  # more than every code: tells what was heard of a recording


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path, ["Hello from the other side."] * 3)
    return TextTokenizer(path, VOCAB_SIZE)


@pytest.fixture(scope="module")
def corpus(tokenizer: TextTokenizer) -> TrainingCorpus:
    random = np.random.default_rng(0)

    def turn(index: int) -> Turn:
        frames = int(random.integers(3, 12))
        phones = np.zeros((frames, len(PHONE_PARTS)), np.int64)
        codes = random.integers(1, CODES, (frames, CODEBOOKS))
        codes[:, 0] = 1 + index % 2  # tells the voice
        return Turn(f"Turn {index}.", index % 2, codes, codes + HEARD, phones)

    return TrainingCorpus([turn(index) for index in range(20)], tokenizer, ["pau", "ah"])


def test_sequence_is_the_prompt_that_the_engine_builds(corpus: TrainingCorpus, tokenizer: TextTokenizer) -> None:
    turns = [voice[0] for voice in corpus._by_voice]
    row = corpus._joined([(turns[0], 0, True), (turns[1], 1, True)])
    builder = PromptBuilder(tokenizer, num_codebooks=CODEBOOKS, codebook_size=CODES, max_seq_len=512, reserved_frames=1)
    segments = [Segment(i, turn.text, turn.codes.astype(np.int16)) for i, turn in enumerate(turns)]
    prompt = builder.build([*segments, Segment(0, "x")], max_frames=1)
    np.testing.assert_array_equal(row.tokens, prompt.tokens[: len(row)])
    np.testing.assert_array_equal(row.is_audio, prompt.tokens_mask[: len(row), 0])


def test_every_turn_ends_with_the_all_zero_frame_which_is_learned(corpus: TrainingCorpus) -> None:
    row = corpus._joined([(corpus._by_voice[0][0], 0, True)])
    assert not row.tokens[-1].any() and row.is_learned[-1] and not row.is_learned[0]


def test_voice_of_a_speaker_is_learned_only_where_it_can_be_known(corpus: TrainingCorpus) -> None:
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        row = corpus._sequence(random, DIALOGUE_SHARE)
        starts = np.flatnonzero(np.diff(row.is_audio.astype(int), prepend=0) == 1)
        exact = [start for start in starts if row.tokens[start, 0] < HEARD]
        learned = [bool(row.is_learned[start]) for start in exact]
        seen.add((len(starts) > 1, all(learned)))
        assert len(starts) > 1 or learned == [True]
    assert seen == {(False, True), (True, True), (True, False)}  # alone, default voices, swapped voices


def test_what_the_encoder_heard_is_context_and_never_learned(corpus: TrainingCorpus) -> None:
    random = np.random.default_rng(2)
    rows = [corpus._sequence(random, dialogue_share=1.0) for _ in range(100)]
    heard = [row.tokens[:, 0] >= HEARD for row in rows]
    assert 20 < sum(is_heard.any() for is_heard in heard) < 100
    assert not any((is_heard & row.is_learned).any() for is_heard, row in zip(heard, rows, strict=True))
    assert not any(row.tokens[-2, 0] >= HEARD for row in rows)  # the last turn is what is said


def test_batches_hold_like_lengths_and_padding_is_not_learned(corpus: TrainingCorpus) -> None:
    for batch in islice(corpus.batches(np.random.default_rng(0), positions=200, pool=40), 12):
        assert batch.tokens.shape[0] * batch.tokens.shape[1] <= 200 or batch.tokens.shape[0] == 1
        assert not (batch.is_learned & ~batch.is_audio).any()
