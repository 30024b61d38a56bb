"""Mimi's stack of convolutions: a product per layer over the taps of a causal filter, transposed ones included.

A transposed convolution with a kernel of two strides gives, for each input step, one stride of outputs that depend on
this step and the one before. That is a filter of two taps with stride times as many outputs; laid out by steps, they
are the next layer's steps already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from moshi.modules.conv import NormConv1d, NormConvTranspose1d, StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.seanet import SEANetDecoder, SEANetResnetBlock
from torch import Tensor, nn

from csm_codec.mimi.cpu.frame_kernels import FrameKernels
from csm_codec.mimi.cpu.product import Array, Product

_OWN_STEPS = 64  # of a row in a layer; so many make a product as fast as those of all rows together


@dataclass(frozen=True, slots=True)
class _Filter:
    """A causal filter over steps."""

    weight: Tensor  # (outputs, taps, inputs)
    bias: Tensor | None  # (outputs,)
    dilation: int
    stride: int  # steps made of one

    @staticmethod
    def of(module: Any) -> _Filter:
        if isinstance(module, StreamingConv1d):
            conv = module.conv.conv
            return _Filter(conv.weight.transpose(1, 2), conv.bias, conv.dilation[0], 1)
        conv = module.convtr.convtr
        stride = conv.stride[0]
        pieces = conv.weight.unflatten(2, (-1, stride)).flip(2)  # (inputs, outputs, taps, stride), oldest tap first
        weight = pieces.permute(3, 1, 2, 0).flatten(0, 1)  # (stride * outputs, taps, inputs)
        return _Filter(weight, None if conv.bias is None else conv.bias.repeat(stride), 1, stride)

    @property
    def kept_steps(self) -> int:
        return (self.weight.shape[1] - 1) * self.dilation


class _Kind(Enum):
    """What a layer takes in and what it makes."""

    FIRST = auto()  # the latent; made: x
    UP = auto()  # x, or x + y behind a block; made: x
    NARROW = auto()  # x; made: the block's hidden values
    WIDEN = auto()  # the hidden values; made: y, which belongs to x


class Convolutions:
    """The layers, with room to work in, and no state. A row's state is one array per layer, from `new_state`."""

    def __init__(
        self, decoder: SEANetDecoder, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype
    ) -> None:
        """decoder: one that `fits`. steps: of a frame's latent."""
        self._kernels = kernels
        self._layers: list[_Layer] = []
        *convolutions, (last, _) = _convolutions(decoder)
        for module, kind in convolutions:
            self._layers.append(_Layer(_Filter.of(module), kind, kernels, rows, steps, dtype))
            steps *= self._layers[-1].filter.stride
        workspace = torch.zeros(max(layer.product.size for layer in self._layers), dtype=dtype)
        padded = np.zeros(max(layer.padded_size for layer in self._layers), kernels.stored)
        for layer in self._layers:
            layer.use(workspace, padded)
        self._num_shared = sum(layer.rows > 1 for layer in self._layers)
        conv = last.conv.conv
        self._last_weight = conv.weight[0].t().flatten().numpy().astype(kernels.real)
        self._last_bias = 0.0 if conv.bias is None else float(conv.bias[0])
        self._last_kept = last._padding_total * conv.in_channels
        self._last_padded = np.zeros(self._last_kept + steps * conv.in_channels, kernels.real)

    @staticmethod
    def fits(decoder: SEANetDecoder) -> bool:
        """ELU and plain convolutions, one residual block with a plain shortcut behind each transposed convolution, one
        channel at the end.
        """
        names = [type(module).__name__ for module in decoder.model]
        stage = ["ELU", "StreamingConvTranspose1d", "SEANetResnetBlock"]
        stages, rest = divmod(len(names) - 3, len(stage))
        modules = list(decoder.modules())
        blocks = [module for module in modules if isinstance(module, SEANetResnetBlock)]
        convs = [module for module in modules if isinstance(module, StreamingConv1d)]
        return (
            stages > 0
            and rest == 0
            and names == ["StreamingConv1d", *stages * stage, "ELU", "StreamingConv1d"]
            and all(module.alpha == 1 for module in modules if isinstance(module, nn.ELU))
            and all(isinstance(block.shortcut, nn.Identity) and len(block.block) == 4 for block in blocks)
            and all(conv.pad_mode == "constant" and conv._stride == 1 for conv in convs)
            and all(
                type(module.conv) is nn.Conv1d and module.conv.groups == 1
                for module in modules
                if isinstance(module, NormConv1d)
            )
            and all(_is_of_strides(module.convtr) for module in modules if isinstance(module, NormConvTranspose1d))
            and convs[-1].conv.conv.out_channels == 1
            and convs[-1].conv.conv.dilation[0] == 1
        )

    def new_state(self) -> list[Array]:
        """Of one row, in silence."""
        kept = [np.zeros(layer.kept_size, self._kernels.stored) for layer in self._layers]
        return [*kept, np.zeros(self._last_kept, self._kernels.real)]

    def step(self, latent: Array, states: Mapping[int, Sequence[Array]], pcm: Array) -> None:
        """latent: (rows * steps * channels,). states: of the rows to compute. pcm: (rows, samples), written there."""
        values = self._through(self._layers[: self._num_shared], _Values(latent), states)
        for row, state in states.items():
            mine = self._through(self._layers[self._num_shared :], values.of_row(row, len(pcm)), {0: state})
            weight, bias, padded = self._last_weight, self._last_bias, self._last_padded
            self._kernels.last(mine.x, mine.y, state[-1], weight, bias, padded, pcm[row])

    def _through(self, layers: Sequence[_Layer], values: _Values, states: Mapping[int, Sequence[Array]]) -> _Values:
        for layer in layers:
            at = self._layers.index(layer)
            kept = {row: state[at] for row, state in states.items()}
            match layer.kind:
                case _Kind.FIRST | _Kind.UP:
                    values = _Values(layer.apply(values.x, values.y, kept))
                case _Kind.NARROW:
                    values.hidden = layer.apply(values.x, None, kept)
                case _Kind.WIDEN:
                    assert values.hidden is not None
                    values.y = layer.apply(values.hidden, None, kept)
        return values


@dataclass(slots=True)
class _Values:
    """Between two layers, of all rows or of one."""

    x: Array
    y: Array | None = None
    hidden: Array | None = None

    def of_row(self, row: int, rows: int) -> _Values:
        arrays = (None if a is None else _row(a, row, rows) for a in (self.y, self.hidden))
        return _Values(_row(self.x, row, rows), *arrays)


class _Layer:
    """One layer. One product serves all rows, or, where a row alone has steps enough, each row has its own."""

    def __init__(
        self, filter_: _Filter, kind: _Kind, kernels: FrameKernels, rows: int, steps: int, dtype: torch.dtype
    ) -> None:
        """steps: of a row's input."""
        _, self._taps, self._channels = filter_.weight.shape
        self.filter, self.kind, self._kernels = filter_, kind, kernels
        self.rows = 1 if steps >= _OWN_STEPS else rows
        self.product = Product(filter_.weight.flatten(1), filter_.bias, self.rows * steps, dtype)
        self.kept_size = filter_.kept_steps * self._channels
        self.padded_size = self.kept_size + steps * self._channels

    def use(self, workspace: Tensor, padded: Array) -> None:
        """Takes its scratch memory, which layers share, so that it stays in the caches."""
        self.product.use(workspace)
        self._padded = padded

    def apply(self, x: Array, y: Array | None, kept: Mapping[int, Array]) -> Array:
        """Of the rows with something in `kept`. What other rows get is of no use."""
        for row, mine in kept.items():
            inputs = self.product.inputs
            where = (mine, self._padded, inputs, row, self._channels, self._taps, self.filter.dilation)
            if self.kind is _Kind.FIRST:
                self._kernels.first_taps(_row(x, row, self.rows), *where)
            elif y is None:
                self._kernels.taps(_row(x, row, self.rows), *where)
            else:
                self._kernels.summed_taps(_row(x, row, self.rows), _row(y, row, self.rows), *where)
        return self.product.multiply()


def _convolutions(decoder: SEANetDecoder) -> list[tuple[Any, _Kind]]:
    """In order. The last one's kind is of no use."""
    found: list[tuple[Any, _Kind]] = []
    for module in decoder.model:
        if isinstance(module, StreamingConv1d):
            found.append((module, _Kind.FIRST))
        elif isinstance(module, StreamingConvTranspose1d):
            found.append((module, _Kind.UP))
        elif isinstance(module, SEANetResnetBlock):
            found += [(module.block[1], _Kind.NARROW), (module.block[3], _Kind.WIDEN)]
    return found


def _is_of_strides(conv: nn.Module) -> bool:
    """One group, no padding, no dilation, a kernel of whole strides."""
    if type(conv) is not nn.ConvTranspose1d or conv.groups != 1 or conv.dilation != (1,):
        return False
    return conv.padding == conv.output_padding == (0,) and conv.kernel_size[0] % conv.stride[0] == 0


def _row(x: Array, row: int, rows: int) -> Array:
    size = len(x) // rows
    return x[row * size : (row + 1) * size]
