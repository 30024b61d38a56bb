"""The arms of the frame-step benchmark, all with the same weights. A call makes one frame for a whole batch.

`Reference` is the published step: torchtune's forward, KV cache and masks, a projection of every code, softmax sampling
(after github.com/SesameAILabs/csm models.py). `Transformers` is the transformers library's model with its caches, and
its depth decoder through `generate`; it draws codebook 0 greedily, which is cheaper than the other arms' sampling.
`Ours` is the engine's step.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.graph_runner import GraphRunner
from csm_engine.execution.matrix import FLOAT8
from csm_engine.execution.ops import dispatch as ops
from csm_engine.execution.weights import PackedWeights
from csm_engine.model.csm import CSM
from csm_engine.types import SamplingParams
from tests.support.tiny.csm import transformers_state


class Arm(Protocol):
    """`start` prefills prompts, (B, T, D); `frame` makes the next codes, (B, K)."""

    dtype: torch.dtype

    def start(self, prompts: Tensor, sampling: SamplingParams) -> None: ...

    def frame(self) -> Tensor: ...


class Ours:
    """The engine's step, replayed from CUDA graphs where the device is a GPU."""

    def __init__(self, weights: PackedWeights, batch: int, *, kv_dtype: torch.dtype | None = None) -> None:
        self.dtype = weights.dtype
        self.in_eight_bits = kv_dtype is FLOAT8 or weights.backbone.layers[0].qkv.scale is not None
        self._packed = PackedFrameStep(weights, batch, kv_dtype=kv_dtype)
        self._step = GraphRunner(self._packed, batch)
        self._slots = torch.arange(batch, device=weights.device)

    def start(self, prompts: Tensor, sampling: SamplingParams) -> None:
        for slot, prompt in enumerate(prompts.to(self.dtype)):
            self._step.backbone.prefill(prompt[:-1], slot, 0)
            own = SamplingParams(sampling.temperature, sampling.top_k, sampling.seed + slot)
            self._step.state.start(slot, prompt[-1], position=len(prompt) - 1, frame=0, sampling=own)

    def frame(self) -> Tensor:
        return self._step(self._slots)[:, :-1]

    def prefill(self, prompt: Tensor, start: int) -> None:
        """Writes keys and values of slot 0 from that position on. prompt: (T, D)."""
        self._step.backbone.prefill(prompt, 0, start)

    def kept(self, length: int) -> Tensor:
        """Keys and values of slot 0, of the first positions."""
        return torch.stack([part[0, :length] for layer in self._step.backbone.cache.layers for part in layer])

    def any_row_ended(self) -> bool:
        """Whether the speech of a row has ended, or its slot is full."""
        return not bool(self._step.state.active[self._slots].all())

    def logits(self, prompts: Tensor, codes: Tensor) -> Tensor:
        """The logits of the frame after the prompts, (B, K, V), when its codes are `codes`, (B, K)."""
        self.start(prompts, SamplingParams())
        state, step = self._step.state, self._packed
        hidden = step.backbone.step(state.next_embedding[self._slots], self._slots, state.position[self._slots])
        first = ops.linear(hidden, step.weights.codebook0_head)
        return torch.cat([first.unsqueeze(1), step.depth_decoder.logits(hidden, codes)], dim=1)


class OursNarrow(Ours):
    """Without AVX-512 in the compiled kernels of a CPU. Torch and its libraries use it as ever."""

    def __init__(self, weights: PackedWeights, batch: int) -> None:
        from csm_bundle.runtime.wide_vectors import narrow_vectors  # needs numba, which other arms do not

        super().__init__(weights, batch)
        self._narrow = narrow_vectors

    def frame(self) -> Tensor:
        with self._narrow():
            return super().frame()

    def prefill(self, prompt: Tensor, start: int) -> None:
        with self._narrow():
            super().prefill(prompt, start)


class Reference:
    """The published step."""

    def __init__(self, model: CSM, batch: int) -> None:
        from csm_engine.reference.torchtune_stacks import with_torchtune

        self.dtype = model.dtype
        self._model, self._batch = with_torchtune(model), batch
        for stack, length in (
            (self._model.backbone, model.config.max_seq_len),
            (self._model.depth_decoder, model.config.num_codebooks),
        ):
            with torch.device(model.device):
                stack.setup_caches(batch, model.dtype, decoder_max_seq_len=length)
        self._masks = [
            torch.ones(length, length, dtype=torch.bool, device=model.device).tril()
            for length in (model.config.max_seq_len, model.config.num_codebooks)
        ]

    def start(self, prompts: Tensor, sampling: SamplingParams) -> None:
        self._sampling = sampling
        self._generator = torch.Generator(self._model.device).manual_seed(sampling.seed)
        self._model.backbone.reset_caches()
        self._input = prompts
        self._positions = torch.arange(prompts.shape[1], device=prompts.device).expand(self._batch, -1)

    def frame(self) -> Tensor:
        model = self._model
        hidden = self._run(model.backbone, self._input, self._positions, self._masks[0])[:, -1]
        codes = [self._sample(model.codebook0_head(hidden))]
        model.depth_decoder.reset_caches()
        x = torch.stack([hidden, model.embed_code(codes[0], 0)], dim=1)
        positions = torch.arange(2, device=x.device).expand(self._batch, -1)
        for codebook in range(1, model.config.num_codebooks):
            out = self._run(model.depth_decoder, model.projection(x), positions, self._masks[1])[:, -1]
            codes.append(self._sample(out @ model.audio_head[codebook - 1]))
            x = model.embed_code(codes[-1], codebook).unsqueeze(1)
            positions = positions[:, -1:] + 1
        frame = torch.stack(codes, dim=1)
        self._input = model.embed_frame(frame).unsqueeze(1)
        self._positions = self._positions[:, -1:] + 1
        return frame

    def _run(self, stack: torch.nn.Module, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = stack(x, input_pos=positions, mask=mask[positions])
        return hidden.to(x.dtype)

    def _sample(self, logits: Tensor) -> Tensor:
        logits = logits[:, : self._model.config.codebook_size]
        if self._sampling.temperature == 0:
            return logits.argmax(dim=-1)
        scaled = logits / self._sampling.temperature
        kept = scaled.masked_fill(scaled < torch.topk(scaled, self._sampling.top_k).values[:, -1:], float("-inf"))
        odds = torch.empty_like(kept).exponential_(1, generator=self._generator)
        return (torch.softmax(kept, dim=-1) / odds).argmax(dim=-1)


class Transformers:
    """The transformers library's model: eager, with its own dynamic caches."""

    def __init__(self, config_values: dict[str, Any], model: CSM, batch: int) -> None:
        from transformers import CsmConfig, CsmForConditionalGeneration

        with torch.device(model.device):
            self._model = CsmForConditionalGeneration(CsmConfig(**config_values)).eval()
        self._model.load_state_dict(transformers_state(model), strict=False)
        self._model.to(model.device, model.dtype)
        self.dtype = model.dtype
        self._num_codebooks, self._batch = model.config.num_codebooks, batch
        self._codebook_size, self._vocab_size = model.config.codebook_size, model.config.audio_vocab_size

    def start(self, prompts: Tensor, sampling: SamplingParams) -> None:
        self._next: dict[str, Tensor] = {"inputs_embeds": prompts}
        self._cache = None
        # Only this arm can draw ids that are no codes. Suppressing them takes time, so only the gate does it.
        spare = list(range(self._codebook_size, self._vocab_size))
        self._options: dict[str, object] = {"do_sample": False, "suppress_tokens": spare}
        if sampling.temperature:
            self._options = {"do_sample": True, "temperature": sampling.temperature, "top_k": sampling.top_k}

    def frame(self) -> Tensor:
        model, count = self._model, self._num_codebooks
        output = model.backbone_model(**self._next, past_key_values=self._cache, use_cache=True)
        self._cache = output.past_key_values
        hidden = output.last_hidden_state[:, -1]
        code0 = model.lm_head(hidden)[:, : self._codebook_size].argmax(dim=-1)
        codes = model.depth_decoder.generate(
            torch.nn.functional.pad(code0[:, None], (1, 0)),
            attention_mask=torch.ones(self._batch, 2, dtype=torch.int64, device=hidden.device),
            backbone_last_hidden_state=hidden.clone(),
            max_new_tokens=count - 1,
            min_new_tokens=count - 1,
            pad_token_id=0,
            **self._options,
        )[:, 1:]
        self._next = {"input_ids": codes.unsqueeze(1)}
        return codes
