"""The layers of Mimi's stack of convolutions as filters over steps, transposed ones included. They hold no state.

A transposed convolution with a kernel of two strides gives, for each input step, one stride of outputs that depend on
this step and the one before. That is a filter of two taps with stride times as many outputs; laid out by steps, they
are the next layer's steps already.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from moshi.modules.conv import NormConv1d, NormConvTranspose1d, StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.seanet import SEANetDecoder, SEANetResnetBlock
from torch import Tensor, nn


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


def _is_of_strides(conv: nn.Module) -> bool:
    """One group, no padding, no dilation, a kernel of whole strides."""
    if type(conv) is not nn.ConvTranspose1d or conv.groups != 1 or conv.dilation != (1,):
        return False
    return conv.padding == conv.output_padding == (0,) and conv.kernel_size[0] % conv.stride[0] == 0
