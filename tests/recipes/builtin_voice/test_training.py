"""The loop of every training: it ends with its minutes and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from recipes.builtin_voice.training import Schedule, Training, state_of


def schedule(minutes: float) -> Schedule:
    return Schedule(minutes, rate=0.05, warm_up_steps=2, log_every=5, judge_every=10)


def run(path: Path, minutes: float) -> tuple[nn.Linear, Training]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    training = Training(nn.ModuleDict({"layer": layer}), path, schedule(minutes), weight_decay=0.0)
    x = torch.randn(64, 3)
    training.run(
        lambda: {"error": (layer(x)[:, 0] - x.sum(dim=1)).square().mean()},
        lambda found: found["error"],
        lambda: {"weight": layer.weight.detach().mean().item()},
    )
    return layer, training


@pytest.mark.slow
def test_training_learns_until_its_time_is_up_and_leaves_a_log(tmp_path: Path) -> None:
    layer, training = run(tmp_path / "line.pt", 0.04)
    assert training.progress == 1 and training.steps > 10
    assert layer.weight.detach().numpy() == pytest.approx(1.0, abs=0.1)
    rows = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert rows[0]["split"] == "train" and rows[0]["steps"] == 5
    assert rows[-1]["split"] == "held-out" and rows[-1]["steps"] == training.steps


def test_training_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    first, before = run(tmp_path / "line.pt", 0.005)
    again, after = run(tmp_path / "line.pt", 0.005)
    assert after.steps == before.steps  # nothing is left of its minutes
    torch.testing.assert_close(again.weight, first.weight)
    _, longer = run(tmp_path / "line.pt", 0.04)
    assert longer.steps > before.steps


def test_trained_parts_are_read_by_name(tmp_path: Path) -> None:
    trained, _ = run(tmp_path / "line.pt", 0.002)
    fresh = nn.Linear(3, 1)
    state_of(tmp_path / "line.pt", fresh, prefix="layer.")
    torch.testing.assert_close(fresh.weight, trained.weight)
