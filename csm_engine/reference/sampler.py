"""The reference sampler: top-k and Gumbel-max over the noise of all candidates. It does not know the model.

Top-k keeps every candidate that ties with the k-th, as github.com/SesameAILabs/csm models.py does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csm_engine.execution.sampling import SamplingRows


@dataclass(frozen=True, slots=True)
class FrameSampler:
    """Samples one frame's codes, codebook by codebook.

    noise: (B, K, V) float32; sampling: of B rows; codebook_size: number of codes; larger ids are never drawn.
    max_top_k: largest top_k of the batch, known to the host.
    """

    noise: Tensor
    sampling: SamplingRows
    max_top_k: int
    codebook_size: int

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        """logits: (B, V) of one codebook, any float type -> (B,) int64 codes, `codebook_size` where a logit is NaN.
        Ties go to the lowest id.
        """
        logits = logits[:, : self.codebook_size].float()
        noise = self.noise[:, codebook, : self.codebook_size]
        best = torch.topk(logits, min(self.max_top_k, self.codebook_size), dim=-1).values
        last = (self.sampling.top_k.clamp(max=best.shape[-1]) - 1).unsqueeze(-1)
        kept = logits.masked_fill(logits < best.gather(-1, last), float("-inf"))
        # Temperature 0 is greedy: the noise is multiplied by 0, and only the logits decide.
        scores = kept + self.sampling.temperature.unsqueeze(-1) * noise
        return scores.argmax(dim=-1).masked_fill(scores.isnan().any(dim=-1), self.codebook_size)
