"""The layers of Mimi's stack of convolutions as filters over steps, transposed ones included. They hold no state.

A transposed convolution with a kernel of two strides gives, for each input step, one stride of outputs that depend on
this step and the one before. That is a filter of two taps with stride times as many outputs; laid out by steps, they
are the next layer's steps already.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from moshi.modules.conv import StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.seanet import SEANetDecoder, SEANetResnetBlock
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CausalFilter:
    """A causal filter over steps."""

    weight: Tensor  # (outputs, taps, inputs)
    bias: Tensor | None  # (outputs,)
    dilation: int
    stride: int  # steps made of one

    @staticmethod
    def of(module: Any) -> CausalFilter:
        if isinstance(module, StreamingConv1d):
            conv = module.conv.conv
            return CausalFilter(conv.weight.transpose(1, 2), conv.bias, conv.dilation[0], 1)
        conv = module.convtr.convtr
        stride = conv.stride[0]
        pieces = conv.weight.unflatten(2, (-1, stride)).flip(2)  # (inputs, outputs, taps, stride), oldest tap first
        weight = pieces.permute(3, 1, 2, 0).flatten(0, 1)  # (stride * outputs, taps, inputs)
        return CausalFilter(weight, None if conv.bias is None else conv.bias.repeat(stride), 1, stride)

    @property
    def kept_steps(self) -> int:
        return (self.weight.shape[1] - 1) * self.dilation


class Kind(Enum):
    """What a layer takes in and what it makes."""

    FIRST = auto()  # the latent; made: x
    UP = auto()  # x, or x + y behind a block; made: x
    NARROW = auto()  # x; made: the block's hidden values
    WIDEN = auto()  # the hidden values; made: y, which belongs to x


def convolutions(decoder: SEANetDecoder) -> list[tuple[Any, Kind]]:
    """In order. The last one's kind is of no use."""
    found: list[tuple[Any, Kind]] = []
    for module in decoder.model:
        if isinstance(module, StreamingConv1d):
            found.append((module, Kind.FIRST))
        elif isinstance(module, StreamingConvTranspose1d):
            found.append((module, Kind.UP))
        elif isinstance(module, SEANetResnetBlock):
            found += [(module.block[1], Kind.NARROW), (module.block[3], Kind.WIDEN)]
    return found
