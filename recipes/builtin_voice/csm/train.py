"""Trains the small CSM on the codes of the corpus.

    python -m recipes.builtin_voice.csm.train build/voice --minutes 370

Loss: codebook 0 of every frame from the backbone, the others from the depth decoder on a share of the frames, as the
published training does (sesame.com/research, "compute amortization"), the end of speech among them; and, so that text
and sound are aligned sooner, which phones the next frame says, from a head that is not kept. Some of the codes that
the model reads are replaced by random ones and, once it speaks, by what it would have said there itself (scheduled
sampling for transformers, arXiv 1906.07651), so that it recovers from its own mistakes. Stops after the minutes or
at Ctrl-C; running it again goes on from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from csm_engine.model.csm import CSM
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.csm.corpus import DIALOGUE_SHARE, Batch, TrainingCorpus
from recipes.builtin_voice.csm.network import backbone_states, csm_config, depth_logits, new_csm
from recipes.builtin_voice.csm.tokenizer import write_tokenizer
from recipes.builtin_voice.csm.turns import PHONE_PARTS
from recipes.builtin_voice.tracks import read_tracks
from recipes.builtin_voice.training import Schedule, Training, arguments

EARLY_SHARE = 0.5  # of the time, in which steps are small and hardly a dialogue is heard: text and sound find together
EARLY_POSITIONS, POSITIONS = 2048, 4096  # per step
EARLY_DIALOGUE_SHARE = 0.05
DEPTH_SHARE = 0.3  # of the frames
PHONE_WEIGHT = 1.0
REPLACED_SHARE = 0.06  # of the codes that the model reads, by random ones
OWN_BATCHES = 0.5  # share of the batches in which it reads its own frames
OWN_SHARE = 0.3  # of the frames of such a batch, on average over rows that have none to twice as many
OWN_TEMPERATURE = 0.6
JUDGED_BATCHES = 4


def main() -> None:
    asked = arguments(__doc__, minutes=370, rate=2e-3)
    folder = asked.folder
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder / "tokenizer.json", read_tracks(folder / "tracks-train.npz").texts)
    quantizer = Quantizer.load(folder / "quantizer.pt")
    corpus = TrainingCorpus.open(folder, "train")
    held_out = TrainingCorpus.open(folder, "heldout", corpus.phone_names)
    model = new_csm(csm_config(quantizer.num_codebooks, quantizer.bins), seed=asked.seed)
    teacher = Teacher(model, len(corpus.phone_names))
    schedule = Schedule(asked.minutes, asked.rate, warm_up_steps=200, log_every=25, judge_every=250)
    training = Training(teacher.parts, folder / "csm.pt", schedule, weight_decay=0.05)
    batches = _batches(corpus, training, np.random.default_rng(asked.seed + training.steps))
    training.run(
        lambda: teacher.losses(
            next(batches), replaced_share=REPLACED_SHARE, own_batches=0.0 if _is_early(training) else OWN_BATCHES
        ),
        lambda found: found["codebook0"] + found["depth"] + PHONE_WEIGHT * found["phones"],
        lambda: teacher.judge(held_out),
    )


class Teacher:
    """The model with the head that is only there in training."""

    def __init__(self, model: CSM, num_phones: int) -> None:
        self.model = model
        self.phone_head = nn.Linear(model.config.backbone.dim, len(PHONE_PARTS) * num_phones)
        self.parts = nn.ModuleDict({"csm": model, "phone_head": self.phone_head})

    def losses(self, batch: Batch, *, replaced_share: float, own_batches: float) -> dict[str, Tensor]:
        """Mean cross-entropies in nats: of a code of codebook 0, of one of the others, of a phone."""
        tokens = _some_replaced(batch, replaced_share, self.model.config.codebook_size)
        with torch.autocast("cpu", torch.bfloat16):
            if torch.rand(()) < own_batches:
                tokens = self._some_own(batch, tokens)
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
    def _some_own(self, batch: Batch, tokens: Tensor) -> Tensor:
        """tokens with some whole frames exchanged for what the model would say there, having read the tokens."""
        wanted = torch.rand(len(tokens), 1) * 2 * OWN_SHARE
        speech = batch.is_audio & (batch.tokens[..., :-1] != 0).any(dim=-1)
        chosen = (torch.rand(speech.shape) < wanted)[:, 1:] & speech[:, 1:]
        states = backbone_states(self.model, tokens, batch.is_audio)[:, :-1][chosen]
        logits0 = self.model.codebook0_head(states)[:, None]
        others = depth_logits(self.model, states, batch.tokens[:, 1:, :-1][chosen])
        own = _sampled(torch.cat([logits0, others], dim=1)[..., : self.model.config.codebook_size])
        tokens = tokens.clone()
        tokens[:, 1:, :-1][chosen] = own
        return tokens

    @torch.no_grad()
    def judge(self, held_out: TrainingCorpus) -> dict[str, float]:
        batches = held_out.batches(np.random.default_rng(0), positions=POSITIONS, pool=200)
        rows = [self.losses(next(batches), replaced_share=0.0, own_batches=0.0) for _ in range(JUDGED_BATCHES)]
        return {name: float(np.mean([row[name].item() for row in rows])) for name in rows[0]}


def _batches(corpus: TrainingCorpus, training: Training, random: np.random.Generator) -> Iterator[Batch]:
    """Without end."""
    while True:
        early = _is_early(training)
        yield from corpus.batches(
            random,
            positions=EARLY_POSITIONS if early else POSITIONS,
            dialogue_share=EARLY_DIALOGUE_SHARE if early else DIALOGUE_SHARE,
        )


def _is_early(training: Training) -> bool:
    return training.progress < EARLY_SHARE


def _sampled(logits: Tensor) -> Tensor:
    """(N, K, V) -> (N, K); never code 0, of which ends of speech are made."""
    chances = (logits[..., 1:].float() / OWN_TEMPERATURE).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1).view(logits.shape[:-1]) + 1


def _some_replaced(batch: Batch, share: float, codebook_size: int) -> Tensor:
    """tokens with some codes of some frames exchanged for random ones; text and ends of speech are left."""
    if share == 0:
        return batch.tokens
    codes = batch.tokens[..., :-1]
    ends = (codes == 0).all(dim=-1, keepdim=True)
    replaced = (torch.rand(codes.shape) < share) & batch.is_audio[..., None] & ~ends
    noisy = torch.where(replaced, torch.randint(1, codebook_size, codes.shape), codes)
    return torch.cat([noisy, batch.tokens[..., -1:]], dim=-1)


if __name__ == "__main__":
    main()
