"""Trains the small CSM on the codes of the corpus.

    python -m recipes.builtin_voice.csm.train build/voice --minutes 370
    python -m recipes.builtin_voice.csm.train build/voice --minutes 9 --device cuda --export build/weights

The loss has three parts. The backbone predicts codebook 0 of every frame. The depth decoder predicts the other
codebooks on a share of the frames, as in the published training (sesame.com/research, "compute amortization"). The end
of speech counts as a frame. A head that is not kept predicts the phones of the next frame, so that text and sound are
aligned sooner. Some of the codes in the input are replaced by random ones and, later in the training, by the model's
own predictions (scheduled sampling for transformers, arXiv 1906.07651), so that it recovers from its own mistakes.
Files of turns that appear during the run are used too. It stops after the minutes or at Ctrl-C, and the next run goes
on from the last checkpoint.

--export: a folder for the weights alone, as float16 in files of less than 15 MiB, written whenever the state is saved.
--begin: such a folder; the training starts from its weights in place of random ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from csm_engine.model.csm import CSM
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.csm.ahead import ahead
from recipes.builtin_voice.csm.corpus import DIALOGUE_SHARE, Batch, TrainingCorpus
from recipes.builtin_voice.csm.misheard import EncoderErrors
from recipes.builtin_voice.csm.network import backbone_states, csm_config, depth_logits, new_csm
from recipes.builtin_voice.csm.shards import read_shards, write_shards
from recipes.builtin_voice.csm.turns import PHONE_PARTS, PHONES
from recipes.builtin_voice.csm.utterances import Utterances
from recipes.builtin_voice.training import Schedule, Training, arguments

EARLY_SHARE = 0.35  # of the time has small steps and few dialogues, in which text and sound become aligned
EARLY_DIALOGUE_SHARE = 0.05
POSITIONS = {"cpu": (2048, 4096), "cuda": (16384, 32768)}  # per step, early and later
DEPTH_SHARE = {"cpu": 0.3, "cuda": 0.5}  # of the frames are in the depth decoder's loss
PHONE_WEIGHT = 1.0
REPLACED_SHARE = 0.06  # of the input codes are replaced by random ones
OWN_BATCHES = 0.5  # share of the batches with the model's own frames in the input
OWN_SHARE = 0.3  # mean share of own frames in such a batch; it differs from row to row, from 0 to twice as many
OWN_TEMPERATURE = 0.6
JUDGED_BATCHES = 4
LOOK_EVERY_S = 20.0  # time between two looks for new files, and two lines about the speed


def main() -> None:
    asked = arguments(__doc__, minutes=370, rate=2e-3, more={"export": Path, "begin": Path})
    device = torch.device(asked.device)
    quantizer = Quantizer.load(asked.folder / "quantizer.pt")
    utterances = Utterances(asked.folder, "train", device)
    encoder_errors = EncoderErrors(quantizer, device)
    held_out = TrainingCorpus(Utterances(asked.folder, "heldout", device), encoder_errors)
    model = new_csm(csm_config(quantizer.num_codebooks, quantizer.bins), seed=asked.seed, device=device)
    if asked.begin:
        read_shards(asked.begin, model)
    teacher = Teacher(model, len(PHONES))
    cuda = device.type == "cuda"
    schedule = Schedule(
        asked.minutes, asked.rate, 200, log_every=100 if cuda else 25, judge_every=1000 if cuda else 250
    )
    training = Training(teacher.parts, asked.folder / "csm.pt", schedule, weight_decay=0.05)
    if asked.export:
        training.also_saves(lambda: write_shards(asked.export, model))
    random = np.random.default_rng(asked.seed + training.steps)
    batches = ahead(_batches(TrainingCorpus(utterances, encoder_errors), training, random))
    training.run(
        lambda: teacher.losses(
            next(batches), replaced_share=REPLACED_SHARE, own_batches=0.0 if _is_early(training) else OWN_BATCHES
        ),
        lambda found: found["codebook0"] + found["depth"] + PHONE_WEIGHT * found["phones"],
        lambda: teacher.judge(held_out),
    )


class Teacher:
    """The model, and the head for phones, which exists only in training."""

    def __init__(self, model: CSM, num_phones: int) -> None:
        self.model = model
        self.phone_head = nn.Linear(model.config.backbone.dim, len(PHONE_PARTS) * num_phones).to(model.device)
        self.parts = nn.ModuleDict({"csm": model, "phone_head": self.phone_head})

    def losses(self, batch: Batch, *, replaced_share: float, own_batches: float) -> dict[str, Tensor]:
        """Mean cross-entropies in nats: of codebook 0, of the other codebooks, of phones."""
        device = self.model.device
        tokens = _some_replaced(batch, replaced_share, self.model.config.codebook_size)
        if torch.rand(()) < own_batches:
            with torch.autocast(device.type, torch.bfloat16):
                tokens = self._some_own(batch, tokens)
        with torch.autocast(device.type, torch.bfloat16):
            states = backbone_states(self.model, tokens, batch.is_audio).flatten(0, 1)[batch.learned - 1]
            frames = batch.tokens.flatten(0, 1)[batch.learned, :-1]
            logits0 = self.model.codebook0_head(states)
            spoken = self.phone_head(states).view(-1, self.phone_head.out_features // len(PHONE_PARTS))
            wanted = frames[batch.deep]
            others = depth_logits(self.model, states[batch.deep], wanted)
        return {
            "codebook0": F.cross_entropy(logits0.float(), frames[:, 0]),
            "depth": F.cross_entropy(others.float().flatten(0, 1), wanted[:, 1:].flatten()),
            "phones": F.cross_entropy(spoken.float(), batch.phones.flatten()),
        }

    @torch.no_grad()
    def _some_own(self, batch: Batch, tokens: Tensor) -> Tensor:
        """The tokens, with some frames replaced by the model's predictions from these tokens."""
        rows, width, _ = tokens.shape
        wanted = torch.rand(rows, 1, device=tokens.device) * 2 * OWN_SHARE
        speech = batch.is_audio & (batch.tokens[..., :-1] != 0).any(dim=-1)
        speech[:, 0] = False
        places = ((torch.rand(rows, width, device=tokens.device) < wanted) & speech).flatten().nonzero()[:, 0]
        states = backbone_states(self.model, tokens, batch.is_audio).flatten(0, 1)[places - 1]
        logits0 = self.model.codebook0_head(states)[:, None]
        others = depth_logits(self.model, states, batch.tokens.flatten(0, 1)[places, :-1])
        own = _sampled(torch.cat([logits0, others], dim=1)[..., : self.model.config.codebook_size])
        tokens = tokens.clone()
        tokens.view(rows * width, -1)[places, :-1] = own
        return tokens

    @torch.no_grad()
    def judge(self, held_out: TrainingCorpus) -> dict[str, float]:
        kind = self.model.device.type
        batches = held_out.batches(
            np.random.default_rng(0),
            positions=POSITIONS[kind][1],
            dialogue_share=DIALOGUE_SHARE,
            depth_share=DEPTH_SHARE[kind],
            pool=1200,
        )
        rows = [self.losses(next(batches), replaced_share=0.0, own_batches=0.0) for _ in range(JUDGED_BATCHES)]
        return {name: float(np.mean([row[name].item() for row in rows])) for name in rows[0]}


def _batches(corpus: TrainingCorpus, training: Training, random: np.random.Generator) -> Iterator[Batch]:
    """Batches without end. From time to time it looks for new files and prints the training's speed."""
    looked, steps, positions = time.monotonic(), training.steps, 0
    device = corpus.utterances.codes.device
    while True:
        early = _is_early(training)
        for batch in corpus.batches(
            random,
            positions=POSITIONS[device.type][0 if early else 1],
            dialogue_share=EARLY_DIALOGUE_SHARE if early else DIALOGUE_SHARE,
            depth_share=DEPTH_SHARE[device.type],
            pool=4096 if device.type == "cuda" else 512,
        ):
            positions += batch.is_audio.numel()
            yield batch
            if time.monotonic() - looked > LOOK_EVERY_S:
                seconds = time.monotonic() - looked
                new = corpus.utterances.look()
                speed = {"steps_per_s": (training.steps - steps) / seconds, "positions_per_s": positions / seconds}
                counts = {"utterances": len(corpus.utterances), "new_files": new}
                print(json.dumps({name: round(value, 1) for name, value in speed.items()} | counts), flush=True)
                looked, steps, positions = time.monotonic(), training.steps, 0
                if new:
                    break


def _is_early(training: Training) -> bool:
    return training.progress < EARLY_SHARE


def _sampled(logits: Tensor) -> Tensor:
    """Samples codes, (N, K), from logits, (N, K, V). Never code 0, which means the end of speech."""
    chances = (logits[..., 1:].float() / OWN_TEMPERATURE).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1).view(logits.shape[:-1]) + 1


def _some_replaced(batch: Batch, share: float, codebook_size: int) -> Tensor:
    """The batch's tokens with some codes replaced by random ones. Text and ends of speech are kept."""
    if share == 0:
        return batch.tokens
    codes = batch.tokens[..., :-1]
    ends = (codes == 0).all(dim=-1, keepdim=True)
    replaced = (torch.rand(codes.shape, device=codes.device) < share) & batch.is_audio[..., None] & ~ends
    noisy = torch.where(replaced, torch.randint(1, codebook_size, codes.shape, device=codes.device), codes)
    return torch.cat([noisy, batch.tokens[..., -1:]], dim=-1)


if __name__ == "__main__":
    main()
