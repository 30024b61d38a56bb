"""The training loop of all parts: steps until the minutes are over, with checkpoints and a log.

The schedule follows the clock: the rate rises over the first steps and falls to zero along a cosine over the given
minutes. The losses are read only once in several steps, so that the host does not wait for a GPU.
A run that was stopped goes on from its last checkpoint, with the time that it had spent. It knows no network.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

SAVE_EVERY_S = 120.0

Losses = Mapping[str, Tensor]  # scalars by name
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes of a training, its learning rate, and the steps between two lines of the log."""

    minutes: float
    rate: float
    warm_up_steps: int
    log_every: int
    judge_every: int


class Training:
    """Trains `parts`. Its state is in the file `path`, its log beside it as JSON lines."""

    def __init__(self, parts: nn.Module, path: Path, schedule: Schedule, *, weight_decay: float) -> None:
        """weight_decay: of matrices; vectors have none."""
        self._parts, self._path, self._schedule = parts, path, schedule
        self._parameters = list(parts.parameters())
        self._optimizers = _optimizers(parts, schedule.rate, weight_decay)
        self.steps, self.seconds = 0, 0.0
        self._savers: list[Callable[[], None]] = []
        if path.exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the minutes that have passed, 0 to 1."""
        return min(1.0, self.seconds / (60 * self._schedule.minutes))

    def run(
        self, losses: Callable[[], Losses], total: Callable[[Losses], Tensor], judge: Callable[[], Figures]
    ) -> None:
        """losses: of a new batch. total: the scalar to minimise, from these. judge: figures on held-out data."""
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        running: list[Losses] = []
        with tqdm(
            total=round(60 * self._schedule.minutes), initial=round(self.seconds), unit="s", mininterval=5, disable=None
        ) as bar:
            while self.progress < 1:
                found = losses()
                self._step(total(found))
                running.append({name: loss.detach() for name, loss in found.items()})
                bar.update(round(time.monotonic() - began) - round(self.seconds))
                self.seconds = time.monotonic() - began
                if self.steps % self._schedule.log_every == 0:
                    self._log(
                        "train", {name: torch.stack([r[name] for r in running]).mean().item() for name in running[0]}
                    )
                    running = []
                if self.steps % self._schedule.judge_every == 0:
                    self._log("held-out", judge())
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self.save()
                    saved = time.monotonic()
        self._log("held-out", judge())
        self.save()

    def also_saves(self, saver: Callable[[], None]) -> None:
        """Adds a function that is called whenever the state is saved."""
        self._savers.append(saver)

    def save(self) -> None:
        for saver in self._savers:
            saver()
        draft = self._path.with_suffix(".new")
        optimizers = [optimizer.state_dict() for optimizer in self._optimizers]
        state = {"parts": self._parts.state_dict(), "optimizers": optimizers}
        torch.save({**state, "steps": self.steps, "seconds": self.seconds}, draft)
        draft.rename(self._path)

    def _step(self, total: Tensor) -> None:
        warm_up = min(1.0, (self.steps + 1) / self._schedule.warm_up_steps)
        fall = (1 + math.cos(math.pi * self.progress)) / 2
        rate = self._schedule.rate * warm_up * fall
        self._parts.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.steps += 1

    def _load(self) -> None:
        state = torch.load(self._path, weights_only=True, map_location=self._parameters[0].device)
        self._parts.load_state_dict(state["parts"])
        for optimizer, its_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.steps, self.seconds = state["steps"], state["seconds"]

    def _log(self, split: str, figures: Figures) -> None:
        row: dict[str, object] = {"split": split, "steps": self.steps, "minutes": round(self.seconds / 60, 2)}
        row |= {name: round(figure, 4) for name, figure in figures.items()}
        print(json.dumps(row), flush=True)
        with self._path.with_suffix(".jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def _optimizers(parts: nn.Module, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon (kellerjordan.github.io/posts/muon) for the matrices of transformer layers, AdamW for all others.

    Muon's updates are scaled to the size of AdamW's (arXiv 2502.16982), so one rate serves both.
    """
    inner: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in parts.named_parameters():
        if parameter.dim() == 2 and ".layers." in name:
            inner.append(parameter)
        else:
            (matrices if parameter.dim() > 1 else vectors).append(parameter)
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    if not inner:
        return [adam]
    return [adam, torch.optim.Muon(inner, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")]


def arguments(
    documentation: str | None, *, minutes: float, rate: float, more: Mapping[str, Callable[[str], object]] = {}
) -> argparse.Namespace:
    """The command line that the parts share: folder, minutes, rate, threads, seed, device. Seeds and threads are set.

    more: further options by name, with the type of each.
    """
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="as cuda")
    for name, kind in more.items():
        parser.add_argument(f"--{name}", type=kind)
    found = parser.parse_args()
    torch.manual_seed(found.seed)
    torch.set_num_threads(found.threads)
    return found


def state_of(path: Path, parts: nn.Module, prefix: str = "") -> None:
    """Fills `parts` with what a training has saved. prefix: of the parts' names in the training."""
    saved: Iterable[tuple[str, Tensor]] = torch.load(path, weights_only=True)["parts"].items()
    parts.load_state_dict({key.removeprefix(prefix): value for key, value in saved if key.startswith(prefix)})
