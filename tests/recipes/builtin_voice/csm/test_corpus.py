"""Training sequences are laid out as the server's prompts are."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from csm_engine.model.prompt import PromptBuilder
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.types import Segment as PromptSegment
from recipes.builtin_voice.codec.quantizer import DIM, Quantizer
from recipes.builtin_voice.csm.corpus import Segment, TrainingCorpus
from recipes.builtin_voice.csm.misheard import EncoderErrors
from recipes.builtin_voice.csm.tokenizer import IDS, VOCAB_SIZE, write_tokenizer
from recipes.builtin_voice.csm.turns import PHONE_PARTS, Turns, packed
from recipes.builtin_voice.csm.utterances import Utterances

CODEBOOKS, CODES = 4, 64
SYMBOLS = "HH AH0 L OW1 , DH EH1 R | Y UW1 ."


def write(folder: Path, number: int, split: str = "train") -> Turns:
    """Ten utterances of a file."""
    random = np.random.default_rng(number)
    lengths = random.integers(3, 12, 10)
    count = int(lengths.sum())
    turns = Turns(
        texts=["Hello, there you."] * 10,
        symbols=[SYMBOLS] * 10,
        voices=np.arange(10, dtype=np.uint8) % 2,
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        codes=random.integers(1, CODES, (count, CODEBOOKS)).astype(np.int16),
        phones=random.integers(0, 41, (count, len(PHONE_PARTS))).astype(np.uint8),
    )
    np.savez(
        folder / f"turns-{split}-{number:05}.npz",
        texts=np.frombuffer("\n".join(turns.texts).encode(), np.uint8),
        symbols=np.frombuffer("\n".join(turns.symbols).encode(), np.uint8),
        voices=turns.voices,
        starts=turns.starts,
        codes=packed(turns.codes),
        phones=turns.phones,
    )
    return turns


@pytest.fixture(scope="module")
def encoder_errors() -> EncoderErrors:
    generator = torch.Generator().manual_seed(0)
    books = torch.randn(CODEBOOKS, CODES, DIM, generator=generator)
    quantizer = Quantizer(torch.zeros(480), torch.eye(480, DIM), books[0], books[1:])
    return EncoderErrors(quantizer, torch.device("cpu"))


@pytest.fixture
def corpus(tmp_path: Path, encoder_errors: EncoderErrors) -> TrainingCorpus:
    for number in range(2):
        write(tmp_path, number)
    return TrainingCorpus(Utterances(tmp_path, "train", torch.device("cpu")), encoder_errors)


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    write_tokenizer(tmp_path / "tokenizer.json")
    return TextTokenizer(tmp_path / "tokenizer.json", VOCAB_SIZE)


def test_batch_is_the_prompt_that_the_engine_builds(corpus: TrainingCorpus, tokenizer: TextTokenizer) -> None:
    said = corpus.utterances
    rows = [
        [Segment(3, 0, True, False), Segment(16, 7, True, False)],
        [Segment(5, 1, True, False)],
    ]
    batch = corpus._batch(rows, np.random.default_rng(0), 0.5)
    builder = PromptBuilder(tokenizer, num_codebooks=CODEBOOKS, codebook_size=CODES, max_seq_len=512, reserved_frames=1)
    for index, row in enumerate(rows):
        segments = []
        for segment in row:
            frames = slice(said.frame_starts[segment.utterance], said.frame_starts[segment.utterance + 1])
            segments.append(PromptSegment(segment.speaker, SYMBOLS, said.codes[frames].numpy()))
        prompt = builder.build([*segments, PromptSegment(0, "AH0")], max_frames=1)
        length = int(batch.is_audio[index].nonzero()[-1]) + 1
        expected = prompt.rows[:length]
        np.testing.assert_array_equal(batch.tokens[index, :length].numpy(), expected.clip(min=0))
        np.testing.assert_array_equal(batch.is_audio[index, :length].numpy(), expected[:, 0] >= 0)
        assert not batch.tokens[index, length:].any()


def test_every_speaker_has_a_token_and_every_symbol_is_known(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode(7, SYMBOLS)
    assert ids[1] == IDS["[7]"] and ids[2:-1] == [IDS[symbol] for symbol in SYMBOLS.split()]
    assert tokenizer.encode(12, "AH0")[1] == IDS["[unknown]"]


def test_frames_and_the_all_zero_frame_that_ends_them_are_learned(corpus: TrainingCorpus) -> None:
    rows = [[Segment(0, 0, False, False), Segment(2, 0, True, False)], [Segment(1, 1, True, False)]]
    batch = corpus._batch(rows, np.random.default_rng(0), 0.5)
    frames = batch.tokens.flatten(0, 1)[batch.learned, :-1]
    is_end = torch.arange(len(frames)) >= len(frames) - 2
    assert not frames[is_end].any() and frames[~is_end].all()
    assert set(batch.deep.tolist()) >= {len(frames) - 2, len(frames) - 1} and 2 < len(batch.deep) < len(frames)
    said = corpus.utterances
    wanted = [said.codes[said.frame_starts[u] : said.frame_starts[u + 1]] for u in (2, 1)]
    assert torch.equal(frames[~is_end].short(), torch.cat(wanted))
    phones = [said.phones[said.frame_starts[u] : said.frame_starts[u + 1]] for u in (2, 1)]
    assert torch.equal(batch.phones[~is_end].byte(), torch.cat(phones))
    assert (batch.is_audio.flatten()[batch.learned]).all()


def test_a_voice_is_learned_only_where_the_context_has_it(corpus: TrainingCorpus) -> None:
    random, seen = np.random.default_rng(1), set()
    said = corpus.utterances
    corpus._of_voice = [np.flatnonzero(said.voices == voice) for voice in range(2)]
    for _ in range(600):
        (row,) = corpus._sequences(random, 1, 0.5, said.text_lengths + said.num_frames + 1)
        known: set[int] = set()
        for segment in row:
            swapped = said.voices[segment.utterance] != segment.speaker % 2
            assert not (segment.is_learned and (segment.is_recorded or (swapped and segment.speaker not in known)))
            known.add(segment.speaker)
            seen.add((swapped, segment.is_learned, segment.is_recorded))
        assert not row[-1].is_recorded, "what is said comes from no recording"
        assert len({said.voices[s.utterance] != s.speaker % 2 for s in row}) == 1
    assert seen == {
        (False, True, False),
        (False, False, True),
        (True, False, False),
        (True, True, False),
        (True, False, True),
    }


def test_only_the_context_has_codes_as_the_encoder_hears_them(corpus: TrainingCorpus) -> None:
    torch.manual_seed(0)
    rows = [[Segment(0, 0, False, heard), Segment(1, 1, True, False)] for heard in (False, True)]
    exact, heard = corpus._batch(rows, np.random.default_rng(0), 0.5).tokens
    changed = (exact[:, :-1] != heard[:, :-1]).any(dim=1)
    first = int(corpus.utterances.text_lengths[0])
    assert changed[first : first + int(corpus.utterances.num_frames[0])].any()
    assert not changed[first + int(corpus.utterances.num_frames[0]) :].any() and not changed[:first].any()


def test_batches_hold_like_lengths_and_no_more_positions_than_asked(corpus: TrainingCorpus) -> None:
    batches = corpus.batches(np.random.default_rng(0), positions=200, dialogue_share=0.3, depth_share=0.3, pool=40)
    for batch in islice(batches, 12):
        assert batch.tokens.shape[0] * batch.tokens.shape[1] <= 200 or batch.tokens.shape[0] == 1


def test_files_added_during_training_are_used(corpus: TrainingCorpus, tmp_path: Path) -> None:
    assert len(corpus.utterances) == 20 and corpus.utterances.look() == 0
    turns = write(tmp_path, 2)
    assert corpus.utterances.look() == 1 and len(corpus.utterances) == 30
    start = corpus.utterances.frame_starts[20]
    assert torch.equal(corpus.utterances.codes[start:], torch.from_numpy(turns.codes))
