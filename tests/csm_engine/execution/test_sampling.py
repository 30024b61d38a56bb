"""The sampler draws from softmax and top-k, with random numbers that depend only on their counters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_engine.execution.sampling import SamplingRows, gumbel_noise, gumbel_noise_of, philox
from csm_engine.reference.sampler import FrameSampler


def words(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers from the Random123 library
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    (a, b, c, d), (low, high) = map(words, counter), map(words, key)
    made = philox((a, b, c, d), (low, high))
    assert [int(word) for word in made] == list(expected)


def test_noise_of_a_row_does_not_depend_on_its_neighbours_or_the_batch() -> None:
    seeds, frames = words(5, 2**63 - 1, 5, 123456789012), words(0, 7, 1, 4000)
    together = gumbel_noise(seeds, frames, 8, 67)
    for row in range(4):
        alone = gumbel_noise(seeds[row : row + 1], frames[row : row + 1], 8, 67)
        assert torch.equal(together[row : row + 1], alone)


def test_noise_of_candidates_is_the_noise_of_all() -> None:
    seeds, frames = words(5, 2**63 - 1), words(0, 4000)
    ids = torch.tensor([[0, 66, 3], [17, 1, 64]])
    expected = gumbel_noise(seeds, frames, 3, 67)[:, 2].gather(1, ids)
    assert torch.equal(gumbel_noise_of(seeds, frames, 2, ids), expected)


def test_noise_differs_in_every_counter_and_both_halves_of_the_seed() -> None:
    base = gumbel_noise(words(1), words(1), 4, 64)
    assert not torch.equal(base, gumbel_noise(words(2), words(1), 4, 64))
    assert not torch.equal(base, gumbel_noise(words(1 + 2**32), words(1), 4, 64))
    assert not torch.equal(base, gumbel_noise(words(1), words(2), 4, 64))
    assert len(base.unique()) > 0.99 * base.numel()


def test_noise_is_finite_even_at_the_ends_of_the_uniform() -> None:
    ends = torch.tensor([0, 0xFFFFFFFF])
    uniform = ((ends >> 9).float() + 0.5) * 2.0**-23
    assert 0 < uniform[0] and uniform[1] < 1
    assert torch.isfinite(-torch.log(-torch.log(uniform))).all()


def draw(logits: torch.Tensor, *, draws: int, temperature: float, top_k: int, codebook_size: int) -> np.ndarray:
    """How often each id is drawn for one row of logits, over that many frames of one seed."""
    counts = np.zeros(logits.shape[-1], dtype=np.int64)
    for first in range(0, draws, 1000):
        frames = torch.arange(first, first + 1000)
        sampler = FrameSampler(
            noise=gumbel_noise(torch.full_like(frames, 99), frames, 1, logits.shape[-1]),
            sampling=SamplingRows(
                torch.full((1000,), temperature), torch.full((1000,), top_k), torch.full_like(frames, 99)
            ),
            max_top_k=top_k,
            codebook_size=codebook_size,
        )
        counts += np.bincount(sampler.sample(logits.expand(1000, -1), 0).numpy(), minlength=logits.shape[-1])
    return counts


@pytest.mark.parametrize(("temperature", "top_k"), [(0.9, 10), (1.0, 61), (0.3, 50), (2.0, 3)])
def test_draws_follow_softmax_over_the_top_k(temperature: float, top_k: int) -> None:
    from scipy.stats import chisquare

    logits = torch.randn(64, generator=torch.Generator().manual_seed(2)) * 2
    kept = logits.clone()
    kept[61:] = -torch.inf  # ids that are no codes
    kept[kept < kept.topk(top_k).values[-1]] = -torch.inf
    expected = torch.softmax(kept.double() / temperature, -1).numpy()
    draws = 20_000
    counts = draw(logits, draws=draws, temperature=temperature, top_k=top_k, codebook_size=61)
    assert counts[expected == 0].sum() == 0
    likely = expected * draws >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * draws
    if wanted[-1] < 5:
        observed, wanted = observed[:-1], wanted[:-1] * observed[:-1].sum() / wanted[:-1].sum()
    assert chisquare(observed, wanted).pvalue > 0.001


def test_ties_at_the_kth_place_are_all_kept() -> None:
    logits = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0])
    counts = draw(logits, draws=3000, temperature=1.0, top_k=2, codebook_size=5)
    assert (counts[:4] > 0).all() and counts[4] == 0


def test_each_row_has_its_own_top_k_and_temperature() -> None:
    logits = torch.randn(3, 32, generator=torch.Generator().manual_seed(4))
    noise = gumbel_noise(words(1, 1, 1), words(0, 0, 0), 1, 32)
    sampler = FrameSampler(noise, SamplingRows(torch.tensor([0.0, 5.0, 5.0]), words(32, 1, 32), words(1, 1, 1)), 32, 32)
    codes = sampler.sample(logits, 0)
    assert codes[0] == logits[0].argmax()  # greedy by temperature
    assert codes[1] == logits[1].argmax()  # greedy by top-k
    assert codes[2] == (logits[2] + 5.0 * noise[2, 0]).argmax()


def test_greedy_ties_go_to_the_lowest_id() -> None:
    sampler = FrameSampler(
        gumbel_noise(words(1), words(0), 1, 4), SamplingRows(torch.zeros(1), words(4), words(1)), 4, 4
    )
    assert sampler.sample(torch.tensor([[0.0, 7.0, 7.0, 7.0]]), 0).item() == 1
