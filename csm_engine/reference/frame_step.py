"""The reference frame step: backbone step, codebook 0, the depth decoder's steps, sampling, one after the other.

The fast step (csm_engine/execution) is compared with it. A sequence's state is on the device, by slot; the host passes
only slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csm_engine.execution.prompt_rows import PromptRows
from csm_engine.execution.sampling import gumbel_noise
from csm_engine.execution.slot_state import SlotState
from csm_engine.execution.stage_timer import StageTimer
from csm_engine.model.csm import CSM
from csm_engine.model.prompt import Rows
from csm_engine.reference.backbone import Backbone
from csm_engine.reference.depth_decoder import DepthDecoder
from csm_engine.reference.sampler import FrameSampler
from csm_engine.reference.torchtune_stacks import with_torchtune


class ReferenceFrameStep:
    """Backbone and depth decoder over torchtune's modules. K: codebooks."""

    def __init__(self, model: CSM, num_slots: int) -> None:
        self._model = model = with_torchtune(model)
        self.config = model.config
        self.device = model.device
        self.backbone = Backbone(model, num_slots)
        self.depth_decoder = DepthDecoder(model)
        self.state = SlotState(model.config, num_slots, device=model.device, dtype=model.dtype)
        self.timer: StageTimer[str] = StageTimer(model.device)

    def prefill(self, prompts: Sequence[PromptRows]) -> None:
        """Prefills the prompts one after the other, and starts the slots whose prompts are complete."""
        for prompt in prompts:
            if len(prompt.rows):
                self.backbone.prefill(self._embed(prompt.rows), prompt.slot, prompt.start)
            if (first := prompt.first_frame) is not None:
                self.state.start(
                    prompt.slot,
                    self._embed(first.row[None])[0],
                    position=first.position,
                    frame=first.frame,
                    sampling=first.sampling,
                    max_frames=first.max_frames,
                )

    def _embed(self, rows: Rows) -> Tensor:
        return self._model.embed_rows(torch.from_numpy(rows).to(self.device))

    def __call__(self, slots: Tensor) -> Tensor:
        """Makes one frame of each row and advances the row's state; rows that have ended run as padding.

        slots: (B,) int64, each once -> (B, K + 1) int16: codes, and in the last column an Outcome.
        """
        state, config = self.state, self._model.config
        slots = state.live(slots)
        with self.timer.measure("backbone"):
            positions = state.position[slots]
            window = int(positions.max()) + 1
            hidden = self.backbone.step(state.next_embedding[slots], slots, positions, window)
            sampling = state.sampling.at(slots)
            sampler = FrameSampler(
                noise=gumbel_noise(
                    sampling.seed,
                    state.frame[slots],
                    config.num_codebooks,
                    config.audio_vocab_size,
                ),
                sampling=sampling,
                max_top_k=int(sampling.top_k.max()),
                codebook_size=config.codebook_size,
            )
            code0 = sampler.sample(self.backbone.codebook0_logits(hidden), 0)
        with self.timer.measure("depth_decoder"):
            codes = self.depth_decoder.frame(hidden, code0, sampler)
        return state.advance(slots, codes, self._model.embed_frame(codes))
