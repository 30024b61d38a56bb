"""Mimi's decoding half as moshi's modules, with states for many streams, for networks of unusual build.

State and masks are those of moshi.modules.streaming. Its ring of keys holds exactly the attention span, so that the
second step of a frame overwrites a key that the first one still needs; the rings here are larger.
"""

from __future__ import annotations

from typing import Any

import torch
from moshi.modules.conv import NormConvTranspose1d
from moshi.modules.streaming import StreamingContainer
from moshi.modules.transformer import RingKVCache, StreamingMultiheadAttention
from moshi.utils.compile import CUDAGraphed
from torch import Tensor, nn

from csm_bundle.runtime.packed_linear import pack_linears
from csm_codec.mimi.conv_transpose import GemmConvTranspose1d
from csm_codec.mimi.loader import Mimi
from csm_codec.mimi.reach import steps_per_frame


class ModuleLanes:
    """`num_lanes` lanes of `lane_width` rows each, as decoder.py describes them."""

    def __init__(self, mimi: Mimi, num_lanes: int, lane_width: int, dtype: torch.dtype) -> None:
        """dtype: of all but the quantizer, which stays as loaded. bfloat16 converts the weights in place."""
        self._half = _DecoderHalf(mimi, dtype, lane_width)
        self.lane_width = lane_width
        self.device = next(self._half.parameters()).device
        self._lanes = [self._new_lane() for _ in range(num_lanes)]

    @torch.inference_mode()
    def begin(self, lane: int, row: int, frame: int) -> None:
        first = torch.zeros(self.lane_width, dtype=torch.bool, device=self.device)
        first[row] = True
        for state in self._lanes[lane].modules.values():
            state.reset(first)
            for counter in ("offset", "offsets"):
                if counter in vars(state):
                    vars(state)[counter][row] = frame * self._half.steps_per_frame
            cache = vars(state).get("kv_cache")
            if cache is not None:
                cache.end_offset[row] = frame * self._half.steps_per_frame

    @torch.inference_mode()
    def latent_step(self, lane: int, codes: Tensor, exec_mask: Tensor) -> None:
        self._run(lane, codes, exec_mask, None, self._lanes[lane].latent_step)

    @torch.inference_mode()
    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        return self._run(lane, codes, exec_mask, reset_mask, self._lanes[lane].step)[:, 0].float()

    def _run(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor | None, step: CUDAGraphed) -> Tensor:
        self._half.set_streaming_state(self._lanes[lane].modules)
        try:
            if reset_mask is not None:
                self._half.reset_streaming(reset_mask)
            self._half.set_exec_mask(exec_mask)
            output: Tensor = step(codes.to(self.device)[:, :, None])
        finally:
            self._half._stop_streaming()
        return output

    @torch.inference_mode()
    def forget(self, lane: int, row: int) -> None:
        """Zeroes a row that is not finite. A reset only masks old keys and values, and zero times NaN is NaN."""
        for state in self._lanes[lane].modules.values():
            cache = vars(state).get("kv_cache")
            if cache is not None:
                cache.cache[:, row] = 0

    def rebuild(self, lane: int) -> None:
        """Fresh states for a lane after a failed step; what its streams had is lost."""
        self._lanes[lane] = self._new_lane()

    @torch.inference_mode()
    def _new_lane(self) -> _Lane:
        self._half.streaming_forever(self.lane_width)
        modules = self._half.get_streaming_state()
        _enlarge_rings(self._half, self.lane_width)
        self._half._stop_streaming()
        no_graphs = self.device.type != "cuda"
        return _Lane(
            modules,
            CUDAGraphed(self._half, disable=no_graphs),
            CUDAGraphed(self._half.latent, disable=no_graphs),
        )


class _Lane:
    """The streaming state of every module, by name, and the step functions that are captured with it."""

    def __init__(self, modules: dict[str, Any], step: CUDAGraphed, latent_step: CUDAGraphed) -> None:
        self.modules = modules
        self.step, self.latent_step = step, latent_step


class _DecoderHalf(StreamingContainer):
    """The decoding half of Mimi. Only this half streams; encoding stays stateless."""

    def __init__(self, mimi: Mimi, dtype: torch.dtype, lane_width: int) -> None:
        super().__init__()
        model = mimi.model
        self.quantizer = model.quantizer
        self.upsample = model.upsample.to(dtype)
        self.decoder_transformer = model.decoder_transformer.to(dtype)
        self.decoder = model.decoder.to(dtype)
        self.dtype, self.steps_per_frame = dtype, steps_per_frame(model)
        if next(self.decoder.parameters()).device.type == "cpu":
            _replace_transposed_convolutions(self.decoder)
            for part in (self.decoder_transformer, self.decoder):
                pack_linears(part, lane_width * self.steps_per_frame)

    def latent(self, codes: Tensor) -> Tensor:
        """(rows, codebooks, 1) to (rows, width, steps per frame)"""
        (latent,) = self.decoder_transformer(self.upsample(self.quantizer.decode(codes).to(self.dtype)))
        made: Tensor = latent
        return made

    def forward(self, codes: Tensor) -> Tensor:
        """(rows, codebooks, 1) to (rows, 1, frame size)"""
        return self.decoder(self.latent(codes))


def _replace_transposed_convolutions(decoder: nn.Module) -> None:
    for module in list(decoder.modules()):
        if isinstance(module, NormConvTranspose1d):
            conv = module.convtr
            if isinstance(conv, nn.ConvTranspose1d) and GemmConvTranspose1d.fits(conv):
                module.add_module("convtr", GemmConvTranspose1d(conv))


def _enlarge_rings(half: _DecoderHalf, rows: int) -> None:
    for module in half.modules():
        if isinstance(module, StreamingMultiheadAttention):
            weight: Any = module.in_projs[0].weight
            assert module.context is not None
            module._streaming_state.kv_cache = RingKVCache(
                rows,
                module.num_heads,
                module.embed_dim // module.num_heads,
                module.context + 2 * half.steps_per_frame,
                device=weight.device,
                dtype=weight.dtype,
            )
