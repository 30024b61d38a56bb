"""The network that is trained and the one of whole numbers that is written of it, on made-up words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from csm_text.pronunciation.letters import END, START
from csm_text.pronunciation.network import STEP
from csm_text.pronunciation.network import Network as Quantized
from recipes.english_phonemes import network as recipe
from recipes.english_phonemes.align import Graphone
from recipes.english_phonemes.network import Network, _gated
from recipes.english_phonemes.quantize import write
from recipes.english_phonemes.whole_words import train

ROWS: dict[str, list[Graphone]] = {
    "aba": [("a", ("AA1",)), ("b", ("B",)), ("a", ("AH0",))],
    "bab": [("b", ("B",)), ("a", ("AA1",)), ("b", ())],
    "ab": [("a", ("AH0",)), ("b", ("B",))],
}
GRAPHONES: list[Graphone] = [("", ()), ("", ()), *sorted({graphone for row in ROWS.values() for graphone in row})]


@pytest.fixture(scope="module")
def trained() -> Network:
    return train(ROWS, GRAPHONES, 60)


def test_gradients_of_a_layer_are_those_of_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "WIDTH", 4)
    torch.manual_seed(1)
    linear = torch.randn(4, 2, 12, dtype=torch.float64, requires_grad=True)
    read = torch.randn(4, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_gated, (linear, read))
    assert torch.autograd.gradcheck(lambda only: _gated(only, None), (linear,))


@pytest.mark.slow
def test_training_again_gives_the_same_weights_and_words_are_learned(trained: Network) -> None:
    again = train(ROWS, GRAPHONES, 60).state_dict()
    assert all(torch.equal(again[name], value) for name, value in trained.state_dict().items())
    letters, truth = torch.tensor([[1], [2], [1]]), torch.tensor([[GRAPHONES.index(g)] for g in ROWS["aba"]])
    assert torch.equal(trained(letters, truth).argmax(-1), truth)


@pytest.mark.slow
def test_the_written_network_has_the_costs_of_the_trained_one(trained: Network, tmp_path: Path) -> None:
    weights = {name: value.double().numpy() for name, value in trained.state_dict().items()}
    write(tmp_path / "model.xz", GRAPHONES, weights, ngram_weight=3)
    written = Quantized(tmp_path / "model.xz")
    assert written.graphones == GRAPHONES and written.ngram_weight == 3 and (START, END) == (0, 1)
    places = [GRAPHONES.index(graphone) for graphone in ROWS["aba"]]
    with torch.no_grad():
        logits = trained(torch.tensor([[1], [2], [1]]), torch.tensor(places)[:, None])[:, 0]
    past, after_stress = [START] * written.remembered, 0
    for row, letter, place, expected in zip(written.read("aba"), "aba", places, logits, strict=True):
        first, last = written.of_letter[letter]
        costs = written.costs(row, np.array([past]), np.array([after_stress]), letter)[0] * STEP
        assert np.abs(costs + expected.log_softmax(-1)[first:last].numpy()).max() < 0.3
        assert costs.argmin() == expected[first:last].argmax()
        past = [place, *past[:-1]]
        after_stress |= int(written.stressed[place])
