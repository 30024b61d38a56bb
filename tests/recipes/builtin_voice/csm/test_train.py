"""What the CSM reads in training beside the truth: random codes, and what it would have said itself."""

from __future__ import annotations

import pytest
import torch

from recipes.builtin_voice.csm.corpus import Batch
from recipes.builtin_voice.csm.network import csm_config, new_csm
from recipes.builtin_voice.csm.train import Teacher

CODEBOOKS, BINS, PHONES = 3, 32, 5
TEXT = 4  # positions before the speech of each row


def batch_of(rows: int, length: int) -> Batch:
    """Text, frames of codes, the all-zero frame that ends them."""
    generator = torch.Generator().manual_seed(1)
    is_audio = (torch.arange(length) >= TEXT).expand(rows, length).clone()
    codes = torch.randint(1, BINS, (rows, length, CODEBOOKS), generator=generator) * is_audio[..., None]
    codes[:, -1] = 0
    text = torch.randint(1, 90, (rows, length, 1), generator=generator) * ~is_audio[..., None]
    learned = is_audio.flatten().nonzero()[:, 0]
    deep = (learned % 2 == length % 2).nonzero()[:, 0]  # the ends of speech among them
    phones = torch.randint(0, PHONES, (len(learned), 4), generator=generator)
    return Batch(torch.cat([codes, text], dim=2), is_audio, learned, deep, phones)


def teacher() -> Teacher:
    return Teacher(new_csm(csm_config(CODEBOOKS, BINS), seed=0), PHONES)


def test_sampled_frames_replace_speech_frames_only() -> None:
    torch.manual_seed(0)
    batch = batch_of(rows=8, length=40)
    read = teacher()._some_own(batch, batch.tokens)
    changed = (read != batch.tokens).any(dim=2)
    speech = batch.is_audio & (batch.tokens[..., :-1] != 0).any(dim=2)
    assert not changed[~speech].any() and torch.equal(read[..., -1], batch.tokens[..., -1])
    assert 0.15 < changed[speech].float().mean() < 0.45, "about OWN_SHARE of them"
    shares = changed.float().sum(dim=1) / speech.float().sum(dim=1)
    assert shares.min() < 0.2 < 0.35 < shares.max(), "some rows nearly clean, some hardly"
    own = read[..., :-1][changed]
    assert own.min() >= 1 and own.max() < BINS, "codes, and never those that end speech"


def test_losses_with_and_without_sampled_inputs_reach_the_backbone() -> None:
    batch, taught = batch_of(rows=2, length=20), teacher()
    for own_batches in (0.0, 1.0):
        losses = taught.losses(batch, replaced_share=0.1, own_batches=own_batches)
        assert set(losses) == {"codebook0", "depth", "phones"}
        sum(losses.values(), torch.zeros(())).backward()
    assert all(parameter.grad is not None for parameter in taught.model.backbone.parameters())


def test_a_row_that_is_taught_repeatedly_is_learned() -> None:
    """A model that is taught one row again and again says the row."""
    torch.manual_seed(0)
    batch, taught = batch_of(rows=1, length=16), teacher()
    optimizer = torch.optim.AdamW(taught.parts.parameters(), lr=2e-3)
    for _ in range(60):
        losses = taught.losses(batch, replaced_share=0.0, own_batches=0.0)
        if losses["codebook0"] < 0.1 and losses["depth"] < 0.5:
            return
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimizer.step()
    pytest.fail(f"not learned in 60 steps: {losses}")
