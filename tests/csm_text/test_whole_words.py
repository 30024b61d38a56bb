"""The letter-to-sound model that reads whole words: its accuracy, and that it computes the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csm_text.frontend import DATA, load
from csm_text.pronunciation.dictionary import Dictionary, Phones
from csm_text.pronunciation.letters import START, LetterModel
from csm_text.pronunciation.network import LARGEST, LEVELS, PER_UNIT, REACH, STEP, Floats, Network, Product
from csm_text.pronunciation.whole_words import BEAM, WRONG_STRESS, WholeWordModel
from csm_text.symbols import PHONES

WORDS = ["a", "zz", "glorbulation", "schwarzkopf", "qqqq", "eau", "xylographically", "naguib", "ufufufuf", "mmhm"]
DIGEST = "7dbac7d32624c787fc5b037bbdebdf997625a9ffaf591e03c9b46088ea60aaf2"


@pytest.fixture(scope="module")
def ngrams() -> LetterModel:
    return LetterModel(DATA / "letters.xz")


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(DATA / "whole-words.xz")


@pytest.fixture(scope="module")
def model(network: Network, ngrams: LetterModel) -> WholeWordModel:
    return WholeWordModel(network, ngrams)


@pytest.fixture(scope="module")
def held_out() -> dict[str, Phones]:
    """One in fifteen of the held-out words, with the dictionary's phones."""
    dictionary = Dictionary(DATA / "cmudict.z")
    words = [line.partition(b" ")[0].decode() for line in dictionary._lines.strip(b"\n").split(b"\n")]
    words = [word for word in words if word.isalpha() and len(word) > 1 and crc32(word.encode()) % 20 == 0]
    return {word: dictionary.get(word) or () for word in words[::15]}


@pytest.fixture(scope="module")
def said(model: WholeWordModel, held_out: dict[str, Phones]) -> dict[str, Phones]:
    """The held-out words with the model's phones."""
    return {word: model.phones(word) for word in held_out}


def test_the_networks_file_is_small() -> None:
    assert (DATA / "whole-words.xz").stat().st_size < 1_000_000


def test_more_held_out_words_are_right_than_with_ngrams_alone(
    said: dict[str, Phones], ngrams: LetterModel, held_out: dict[str, Phones]
) -> None:
    """recipes/english_phonemes measures all 5,800 held-out words."""
    right = sum(said[word] == phones for word, phones in held_out.items())
    before = sum(ngrams.phones(word) == phones for word, phones in held_out.items())
    assert len(held_out) > 300 and right > 0.65 * len(held_out) and right > before + 0.03 * len(held_out)


def test_phones_of_held_out_words_are_those_of_the_machine_that_the_digest_was_made_on(
    said: dict[str, Phones],
) -> None:
    lines = "\n".join(" ".join(phones) for phones in said.values())
    assert hashlib.sha256(lines.encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("word", [*WORDS, "q", "x" * 40])
def test_any_letters_give_phones(model: WholeWordModel, word: str) -> None:
    assert set(model.phones(word)) <= set(PHONES)


def test_words_are_read_by_one_core() -> None:
    """With OpenBLAS's threads a word takes ten times as long on busy cores, as they busy-wait for each other."""
    program = f"""
import time
from csm_text.frontend import load
front_end = load("english-phonemes-3")
began_s = time.process_time(), time.thread_time()
front_end.phonemize({" ".join(f"{word}ix{letter}" for word in WORDS for letter in "bcdfgklmnp")!r})
print(time.process_time() - began_s[0], time.thread_time() - began_s[1])
"""
    threads = {name: "" for name in os.environ if name.endswith("_NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | threads, capture_output=True, text=True, check=True
    )
    of_all_s, own_s = map(float, ran.stdout.split())
    assert of_all_s < 1.2 * own_s


def test_known_words_are_read_as_before() -> None:
    text = "The quick brown foxes' laptops aren't organised; they jumped over 12 lazy dogs."
    assert load("english-phonemes-3").phonemize(text) == load("english-phonemes-2").phonemize(text)


def test_an_unknown_word_is_read_by_the_new_model_only_under_the_new_name(
    model: WholeWordModel, ngrams: LetterModel, held_out: dict[str, Phones]
) -> None:
    word = next(w for word in held_out if model.phones(w := f"{word}ix") != ngrams.phones(w))
    assert load("english-phonemes-3").phonemize(word) == " ".join(model.phones(word))
    assert load("english-phonemes-2").phonemize(word) == " ".join(ngrams.phones(word))


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_a_product_is_that_of_whole_numbers(seed: int, rows: int) -> None:
    """At its limits too: 258 inputs with the largest weight at the highest level. Many rows are multiplied in parts."""
    random = np.random.default_rng(seed)
    matrix = random.integers(-127, 128, (258, 40))
    matrix[:, 0], matrix[:, 1] = 127, -127
    levels = random.integers(-LEVELS, LEVELS + 1, (rows, 258))
    levels[0] = LEVELS
    one, none = np.ones(40, np.float32), np.zeros(40, np.float32)
    assert (Product(matrix, one, none)(levels.astype(np.float32)) == levels @ matrix).all()


def test_a_matrix_whose_sums_may_not_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="sums are not exact"):
        Product(np.full((259, 1), 127), np.ones(1, np.float32), np.zeros(1, np.float32))


def test_ngrams_of_other_graphones_are_refused(network: Network) -> None:
    others = LetterModel(DATA / "letters.xz")
    others.graphones = others.graphones[:-1]
    with pytest.raises(ValueError, match="different graphones"):
        WholeWordModel(network, others)


def test_the_network_is_that_of_its_definition(network: Network) -> None:
    """Compared number by number with Python's integers, and with 32-bit floats in the order of the definition."""
    for word in ("a", "zoo", "glorbulation"):
        assert network.read(word).tobytes() == slowly_read(network, word).tobytes()


def test_a_words_phones_are_those_of_a_search_that_keeps_all_it_has_said(model: WholeWordModel) -> None:
    for word in WORDS:
        assert model.phones(word) == slowly_searched(model, word)


def slowly_read(network: Network, word: str) -> Floats:
    reach = len(network._window) // 2
    codes = [0] * reach + [ord(letter) - 96 for letter in word] + [0] * reach
    linear = [
        [
            np.float32(sum(int(network._window[place, codes[at + place], column]) for place in range(2 * reach + 1)))
            * network._window_scale[column]
            + network._window_bias[column]
            for column in range(network._window.shape[2])
        ]
        for at in range(len(word))
    ]
    read = _gated(network, linear, None)
    for layer in network._layers:
        read = _gated(network, _product(layer, read), read)
    return np.array(_product(network._up, read), np.float32)


def _product(product: Product, rows: list[list[np.float32]]) -> list[list[np.float32]]:
    matrix = [[int(weight) for weight in column] for column in product._matrix.T]
    result = []
    for row in rows:
        levels = [int(np.rint(number * np.float32(LEVELS))) for number in row]
        sums = [sum(level * weight for level, weight in zip(levels, column, strict=True)) for column in matrix]
        result.append([np.float32(s) * a + b for s, a, b in zip(sums, product._scale, product._bias, strict=True)])
    return result


def _gated(
    network: Network, linear: list[list[np.float32]], below: list[list[np.float32]] | None
) -> list[list[np.float32]]:
    one, half = np.float32(1), np.float32(0.5)
    width = len(linear[0]) // 3

    def bent(number: np.float32) -> np.float32:
        place = int(np.rint(min(max(number, np.float32(-REACH)), np.float32(REACH)) * np.float32(PER_UNIT)))
        value: np.float32 = network._tanh[place + REACH * PER_UNIT]
        return value

    result = [[one] * width for _ in linear]
    for column in range(width):
        places = range(len(linear)) if column < width // 2 else range(len(linear) - 1, -1, -1)
        state = np.float32(0)
        for at in places:
            kept = (bent(linear[at][column + width]) + one) * half
            through = (bent(linear[at][column + 2 * width]) + one) * half
            state = (one - kept) * bent(linear[at][column]) + kept * state
            under = None if below is None else below[at][column]
            result[at][column] = state * through if under is None else under + through * (state - under)
    return result


def slowly_searched(model: WholeWordModel, word: str) -> Phones:
    network, ngrams = model._network, model._ngrams
    hypotheses: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [(0, (), (START,))]
    for row, letter in zip(network.read(word), word, strict=True):
        first, last = network.of_letter[letter]
        extended = []
        for cost, said, context in hypotheses:
            past = np.array([[*said[::-1], START, START, START][: network.remembered]])
            stressed = np.array([int(any("1" in phone for of in said for phone in network.graphones[of][1]))])
            sums = network._after_stress[stressed[0]].astype(int)
            for ago in range(network.remembered):
                sums = sums + network._past[ago, past[0, ago]]
            hidden = np.clip(row + sums.astype(np.float32) * network._past_scale, 0, np.float32(LARGEST))
            logits = _product(network._out[letter], [(hidden / np.float32(LARGEST)).tolist()])[0]
            steps = [int(np.rint(logit * np.float32(1 / STEP))) for logit in logits]
            behind = [max(steps) - step for step in steps]
            total = sum(int(network._exp[min(step, len(network._exp) - 1)]) for step in behind)
            shared = sum(int(bound) <= total for bound in network._sums)
            costs, following = ngrams.after(letter, context)
            for place in range(last - first):
                added = behind[place] + shared + network.ngram_weight * costs[place]
                if stressed[0] and any("1" in phone for phone in network.graphones[first + place][1]):
                    added += WRONG_STRESS
                extended.append((cost + added, (*said, first + place), following[place]))
        hypotheses = sorted(extended, key=lambda hypothesis: hypothesis[0])[:BEAM]
    ended = [
        cost
        + network.ngram_weight * ngrams.after("", context)[0][0]
        + WRONG_STRESS * all("1" not in phone for of in said for phone in network.graphones[of][1])
        for cost, said, context in hypotheses
    ]
    best = hypotheses[ended.index(min(ended))][1]
    return tuple(phone for graphone in best for phone in network.graphones[graphone][1])


def test_costs_are_those_of_probabilities_that_make_one(network: Network) -> None:
    row = network.read("glorbulation")[3]
    costs = network.costs(row, np.full((1, network.remembered), START), np.zeros(1, np.int64), "r")
    assert abs(np.exp(-costs * STEP).sum() - 1) < 0.02
