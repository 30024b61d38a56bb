"""Codes to audio, frame by frame, for many streams at once: Mimi's decoder half with one state per stream.

Each stream has one row of one lane. A lane is a batch of fixed width with states of its own. A frame step computes one
lane, so lanes without work cost nothing. A row's result never depends on its neighbours, bit for bit.
It does not know which stream has which row (see lanes.py).

A row may also begin in the middle of a stream. Attention and convolutions reach a fixed number of frames back. When so
many frames have been computed, the row's state is that of a stream computed from its beginning, bit for bit: positions,
and with them the order of the keys in the ring, are counted from the beginning. For the attention alone the latent is
enough, which costs less than a frame of audio.

State and masks are those of moshi.modules.streaming. Its ring of keys holds exactly the attention span, so that the
second step of a frame overwrites a key that the first one still needs; the rings here are larger.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from moshi.modules.conv import NormConvTranspose1d, StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.streaming import StreamingContainer
from moshi.modules.transformer import RingKVCache, StreamingMultiheadAttention
from moshi.utils.compile import CUDAGraphed
from torch import Tensor, nn

from csm_bundle.runtime.packed_linear import pack_linears
from csm_codec.mimi.conv_transpose import GemmConvTranspose1d
from csm_codec.mimi.loader import Mimi


class MimiDecoder:
    """`num_lanes` lanes of `lane_width` rows each."""

    def __init__(self, mimi: Mimi, *, num_lanes: int, lane_width: int, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of all but the quantizer, which stays as loaded. bfloat16 converts the weights in place."""
        self._half = _DecoderHalf(mimi, dtype, lane_width)
        self.identity = mimi.identity
        self.num_lanes, self.lane_width = num_lanes, lane_width
        self.device = next(self._half.parameters()).device
        self._lanes = [self._new_lane() for _ in range(num_lanes)]

    @property
    def latent_frames(self) -> int:
        """Frames that a frame's latent depends on, besides itself."""
        return self._half.latent_frames

    @property
    def audio_frames(self) -> int:
        """Frames whose latents a frame's audio depends on, besides its own."""
        return self._half.audio_frames

    @torch.inference_mode()
    def begin(self, lane: int, row: int, frame: int) -> None:
        """Starts a stream in the middle: that frame comes next in the row."""
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
        """Like `frame_step` up to the latent: it costs less, and gives no audio."""
        self._run(lane, codes, exec_mask, None, self._lanes[lane].latent_step)

    @torch.inference_mode()
    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        """One frame for the rows of `exec_mask`; rows of `reset_mask` start a new stream with it.

        codes: (lane_width, codebooks) int64, already checked. Rows outside `exec_mask` hold any valid codes.
        Returns (lane_width, frame size) fp32. Rows outside `exec_mask` hold nothing of use and keep their state.
        """
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
        self.dtype = dtype
        if next(self.decoder.parameters()).device.type == "cpu":
            _replace_transposed_convolutions(self.decoder)
            for part in (self.decoder_transformer, self.decoder):
                pack_linears(part, lane_width * self.steps_per_frame)

    @property
    def steps_per_frame(self) -> int:
        """Of the transformer."""
        steps: int = self.upsample.convtr._stride
        return steps

    @property
    def latent_frames(self) -> int:
        """Each layer's attention reaches `context` - 1 steps back, and the upsampling one frame."""
        attentions = [module for module in self.modules() if isinstance(module, StreamingMultiheadAttention)]
        num_steps = sum(attention.context - 1 for attention in attentions if attention.context is not None)
        return math.ceil(num_steps / self.steps_per_frame) + 1

    @property
    def audio_frames(self) -> int:
        """Each convolution reaches as far back as its state: so many steps at its own rate."""
        steps_per_frame, num_frames = float(self.steps_per_frame), 0.0
        for module in self.decoder.modules():
            if isinstance(module, StreamingConv1d):
                num_frames += module._padding_total / steps_per_frame
                steps_per_frame /= module._stride
            elif isinstance(module, StreamingConvTranspose1d):
                num_frames += math.ceil((module._kernel_size - module._stride) / module._stride) / steps_per_frame
                steps_per_frame *= module._stride
        return math.ceil(num_frames)

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
