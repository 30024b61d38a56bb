"""The packed dictionary, and the accuracy and search of the n-gram model."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from zlib import crc32

import pytest

from csm_text.frontend import DATA
from csm_text.pronunciation.dictionary import Dictionary, pack
from csm_text.pronunciation.letters import BEAM, END, START, LetterModel
from csm_text.symbols import PHONES


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    return Dictionary(DATA / "cmudict.z")


@pytest.fixture(scope="module")
def letters() -> LetterModel:
    return LetterModel(DATA / "letters.xz")


def test_every_word_that_was_packed_is_found_and_no_other(tmp_path: Path) -> None:
    words = {"a": ("AH0",), "a's": ("EY1", "Z"), "ab": ("AE1", "B"), "b": ("B", "IY1"), "zoo": ("Z", "UW1")}
    (tmp_path / "words.z").write_bytes(pack(words))
    dictionary = Dictionary(tmp_path / "words.z")
    assert {word: dictionary.get(word) for word in words} == words
    assert [dictionary.get(word) for word in ("", "aa", "c", "zo", "zooo", "é", "\n", " ", "a ")] == [None] * 9


def test_dictionary_holds_124_926_words(dictionary: Dictionary) -> None:
    lines = dictionary._lines.strip(b"\n").split(b"\n")
    assert len(lines) == 124_926
    words = [line.partition(b" ")[0].decode() for line in lines]
    assert words == sorted(words)
    assert all(dictionary.get(word) for word in words[::997])


def test_notice_of_the_dictionary_lies_beside_it() -> None:
    assert "Carnegie Mellon University" in (DATA / "cmudict-LICENSE.txt").read_text()


def test_data_is_small() -> None:
    assert (DATA / "cmudict.z").stat().st_size < 800_000 and (DATA / "letters.xz").stat().st_size < 1_000_000


def test_seven_of_ten_held_out_words_are_right_but_for_the_stress(dictionary: Dictionary, letters: LetterModel) -> None:
    """recipes/english_phonemes measures all 5,800: 37.8 % of the words wrong, 29.8 % without stress."""
    lines = dictionary._lines.strip(b"\n").split(b"\n")
    words = [line.partition(b" ")[0].decode() for line in lines]
    held_out = [w for w in words if w.isalpha() and len(w) > 1 and crc32(w.encode()) % 20 == 0][::15]
    right = [_plain(letters.phones(word)) == _plain(dictionary.get(word) or ()) for word in held_out]
    assert len(held_out) > 300 and 0.64 < sum(right) / len(right) < 0.77


@pytest.mark.parametrize("word", ["a", "q", "zz", "glorbulation", "x" * 40])
def test_any_letters_give_phones(letters: LetterModel, word: str) -> None:
    assert set(letters.phones(word)) <= set(PHONES)


def test_phones_are_those_of_the_models_definition(dictionary: Dictionary, letters: LetterModel) -> None:
    """A slow beam search over n-grams in a plain table, which looks up the longest history first."""
    reference = Reference(DATA / "letters.xz")
    words = ["a", "zz", "glorbulation", "schwarzkopf", "qqqq", "eau", "xylographically", "naguib", "ufufufuf", "mmhm"]
    lines = dictionary._lines.strip(b"\n").split(b"\n")[::2999]
    words += [word for line in lines if (word := line.partition(b" ")[0].decode()).isalpha()]
    assert {word: letters.phones(word) for word in words} == {word: reference.phones(word) for word in words}


class Reference:
    """Reads the model's file."""

    def __init__(self, path: Path) -> None:
        header, _, body = lzma.decompress(path.read_bytes()).partition(b"\n")
        described = json.loads(header)
        self.graphones = [(letter, tuple(phones)) for letter, phones in described["graphones"]]
        self.ngrams: list[dict[tuple[int, ...], tuple[int, int]]] = []  # cost, and weight where it fails as a context
        contexts: list[tuple[int, ...]] = [()]
        for count, length in described["orders"]:
            key, keys, shift, value = 0, [], 0, 0
            for byte in body[:length]:
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    key += value
                    keys.append(key)
                    shift = value = 0
            costs, weights = body[length : length + count], body[length + count : length + 2 * count]
            body = body[length + 2 * count :]
            size = len(self.graphones)
            contexts = [(*contexts[key // size], key % size) for key in keys]
            signed = (weight - 256 * (weight > 127) for weight in weights)
            self.ngrams.append(dict(zip(contexts, zip(costs, signed, strict=True), strict=True)))

    def phones(self, word: str) -> tuple[str, ...]:
        hypotheses: list[tuple[int, tuple[int, ...]]] = [(0, (START,))]
        for letter in word:
            following = [i for i, (of, _) in enumerate(self.graphones) if of == letter and i > END]
            extended = [(cost + self.cost(past, new), (*past, new)) for cost, past in hypotheses for new in following]
            hypotheses = sorted(extended, key=lambda hypothesis: hypothesis[0])[:BEAM]
        best = min(hypotheses, key=lambda hypothesis: hypothesis[0] + self.cost(hypothesis[1], END))
        return tuple(phone for graphone in best[1][1:] for phone in self.graphones[graphone][1])

    def cost(self, past: tuple[int, ...], new: int) -> int:
        added = 0
        for length in range(min(len(self.ngrams) - 1, len(past)), -1, -1):
            context = past[len(past) - length :]
            if length and context not in self.ngrams[length - 1]:
                continue
            if (*context, new) in self.ngrams[length]:
                return added + self.ngrams[length][*context, new][0]
            added += self.ngrams[length - 1][context][1] if length else 0
        return added


def _plain(phones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phone.rstrip("012") for phone in phones)
