"""Trains the small CSM on the codes of the corpus.

    python -m recipes.voice_in_the_box.csm.train build/voice --minutes 90

Loss: codebook 0 of every frame from the backbone, the others from the depth decoder on a share of the frames, as the
published training does (sesame.com/research, "compute amortization"), the end of speech among them; and, so that text
and sound are aligned sooner, which phones the next frame says, from a head that is not kept. A share of the codes
that the model reads is replaced by others, so that it recovers from its own mistakes. Stops after the minutes or at
Ctrl-C; running it again goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from csm_engine.model.csm import CSM
from recipes.voice_in_the_box.codec.quantizer import Quantizer
from recipes.voice_in_the_box.csm.corpus import PHONE_PARTS, Batch, TrainingCorpus
from recipes.voice_in_the_box.csm.network import backbone_states, csm_config, depth_logits, new_csm
from recipes.voice_in_the_box.csm.tokenizer import write_tokenizer
from recipes.voice_in_the_box.tracks import read_tracks

POSITIONS = 4096  # per step
DEPTH_SHARE = 0.3  # of the frames
PHONE_WEIGHT = 0.3
REPLACED_SHARE = 0.06  # of the codes that the model reads
JUDGED_BATCHES = 4


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    folder = arguments.folder
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder / "tokenizer.json", read_tracks(folder / "tracks-train.npz").texts)
    quantizer = Quantizer.load(folder / "quantizer.pt")
    corpus = TrainingCorpus.open(folder, "tracks-train.npz")
    held_out = TrainingCorpus.open(folder, "tracks-heldout.npz", corpus.phone_names)
    model = new_csm(csm_config(quantizer.num_codebooks, quantizer.bins), seed=arguments.seed)
    Trainer(model, corpus, folder / "csm.pt", arguments).run(held_out)


class Trainer:
    """Steps, with the clock as the schedule: the rate falls by a cosine over the minutes asked for."""

    def __init__(self, model: CSM, corpus: TrainingCorpus, path: Path, arguments: argparse.Namespace) -> None:
        self.model, self._path, self._arguments = model, path, arguments
        self.phone_head = nn.Linear(model.config.backbone.dim, len(PHONE_PARTS) * len(corpus.phone_names))
        self._parts = nn.ModuleDict({"csm": model, "phone_head": self.phone_head})
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self._parts.parameters() if p.dim() > 1], "weight_decay": 0.05},
                {"params": [p for p in self._parts.parameters() if p.dim() == 1], "weight_decay": 0.0},
            ],
            lr=arguments.rate,
            betas=(0.9, 0.98),
        )
        self.steps, self.seconds = 0, 0.0
        if path.exists():
            state = torch.load(path, weights_only=True)
            self._parts.load_state_dict(state["parts"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.steps, self.seconds = state["steps"], state["seconds"]
        random = np.random.default_rng(arguments.seed + self.steps)
        self._batches = corpus.batches(random, positions=POSITIONS)

    def run(self, held_out: TrainingCorpus) -> None:
        budget = 60 * self._arguments.minutes
        began, saved, running = time.monotonic() - self.seconds, time.monotonic(), []
        while (spent := time.monotonic() - began) < budget:
            running.append(self.step(spent / budget))
            self.seconds = spent
            if self.steps % 25 == 0:
                self._log("train", running)
                running = []
            if self.steps % 250 == 0:
                self._log("held-out", self.judge(held_out))
            if time.monotonic() - saved > 180:
                self.save()
                saved = time.monotonic()
        self._log("held-out", self.judge(held_out))
        self.save()

    def step(self, progress: float) -> dict[str, float]:
        warm_up = min(1.0, (self.steps + 1) / 200)
        for group in self._optimizer.param_groups:
            group["lr"] = self._arguments.rate * warm_up * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        losses = self.losses(next(self._batches), replaced_share=REPLACED_SHARE)
        total = losses["codebook0"] + losses["depth"] + PHONE_WEIGHT * losses["phones"]
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self._parts.parameters(), 1.0)
        self._optimizer.step()
        self.steps += 1
        return {name: loss.item() for name, loss in losses.items()}

    def losses(self, batch: Batch, *, replaced_share: float) -> dict[str, Tensor]:
        """Mean cross-entropies in nats: of a code of codebook 0, of one of the others, of a phone."""
        tokens = _some_replaced(batch, replaced_share, self.model.config.codebook_size)
        with torch.autocast("cpu", torch.bfloat16):
            states = backbone_states(self.model, tokens, batch.is_audio)[:, :-1]
            learned = batch.is_learned[:, 1:]
            states, frames, phones = states[learned], batch.tokens[:, 1:, :-1][learned], batch.phones[:, 1:][learned]
            logits0 = self.model.codebook0_head(states)
            spoken = self.phone_head(states).view(-1, self.phone_head.out_features // len(PHONE_PARTS))
            chosen = (torch.rand(len(frames)) < DEPTH_SHARE) | (frames == 0).all(dim=1)
            others = depth_logits(self.model, states[chosen], frames[chosen])
        return {
            "codebook0": F.cross_entropy(logits0.float(), frames[:, 0]),
            "depth": F.cross_entropy(others.float().flatten(0, 1), frames[chosen][:, 1:].flatten()),
            "phones": F.cross_entropy(spoken.float(), phones.flatten()),
        }

    @torch.no_grad()
    def judge(self, held_out: TrainingCorpus) -> list[dict[str, float]]:
        batches = held_out.batches(np.random.default_rng(0), positions=POSITIONS, pool=200)
        rows = [self.losses(next(batches), replaced_share=0.0) for _ in range(JUDGED_BATCHES)]
        return [{name: loss.item() for name, loss in row.items()} for row in rows]

    def save(self) -> None:
        draft = self._path.with_suffix(".new")
        state = {"parts": self._parts.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save({**state, "steps": self.steps, "seconds": self.seconds}, draft)
        draft.rename(self._path)

    def _log(self, split: str, losses: list[dict[str, float]]) -> None:
        row: dict[str, object] = {"split": split, "steps": self.steps, "minutes": round(self.seconds / 60, 2)}
        row |= {name: round(float(np.mean([loss[name] for loss in losses])), 4) for name in losses[0]}
        print(json.dumps(row), flush=True)
        with self._path.with_suffix(".jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def _some_replaced(batch: Batch, share: float, codebook_size: int) -> Tensor:
    """tokens with some codes of some frames exchanged for random ones; text and ends of speech are left."""
    if share == 0:
        return batch.tokens
    codes = batch.tokens[..., :-1]
    ends = (codes == 0).all(dim=-1, keepdim=True)
    replaced = (torch.rand(codes.shape) < share) & batch.is_audio[..., None] & ~ends
    noisy = torch.where(replaced, torch.randint(1, codebook_size, codes.shape), codes)
    return torch.cat([noisy, batch.tokens[..., -1:]], dim=-1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
