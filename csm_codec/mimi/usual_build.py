"""Whether a Mimi is of the usual build, which cpu/ and batch/ compute without moshi's modules. Sizes may be any."""

from __future__ import annotations

from typing import Any

from moshi.modules.conv import NormConv1d, NormConvTranspose1d, StreamingConv1d
from moshi.modules.seanet import SEANetDecoder, SEANetResnetBlock
from moshi.modules.transformer import LayerScale, StreamingMultiheadAttention
from torch import nn
from torch.nn import functional

from csm_codec.mimi.conv_transpose import GemmConvTranspose1d


def is_usual(model: Any) -> bool:
    """model: moshi's MimiModel."""
    conv = model.upsample.convtr.convtr.convtr
    parts = (model.quantizer.rvq_first, model.quantizer.rvq_rest)
    return (
        isinstance(conv, nn.ConvTranspose1d)
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size[0] == 2 * conv.stride[0]
        and all(isinstance(part.output_proj, nn.Conv1d) and part.output_proj.bias is None for part in parts)
        and all(isinstance(layer.project_out, nn.Identity) for part in parts for layer in part.vq.layers)
        and _is_usual_transformer(model.decoder_transformer)
        and _are_usual_convolutions(model.decoder)
    )


def _is_usual_transformer(module: Any) -> bool:
    """Layers as Mimi has them, of the width of the latent."""
    inner = module.transformer
    return (
        module.input_proj is None
        and len(module.output_projs) == 1
        and isinstance(module.output_projs[0], nn.Identity)
        and inner.positional_embedding == "rope"
        and len(inner.layers) > 0
        and all(_is_usual_layer(layer) for layer in inner.layers)
    )


def _is_usual_layer(layer: Any) -> bool:
    attention = getattr(layer, "self_attn", None)
    return (
        isinstance(attention, StreamingMultiheadAttention)
        and attention.causal
        and attention.context is not None
        and attention.kv_repeat == 1
        and attention.rope is not None
        and attention.rope.interleave
        and len(attention.in_projs) == len(attention.out_projs) == 1
        and layer.cross_attention is None
        and type(layer.linear1) is nn.Linear
        and type(layer.linear2) is nn.Linear
        and layer.activation is functional.gelu
        and all(type(norm) is nn.LayerNorm for norm in (layer.norm1, layer.norm2))
        and all(isinstance(s, LayerScale | nn.Identity) for s in (layer.layer_scale_1, layer.layer_scale_2))
    )


def _are_usual_convolutions(decoder: SEANetDecoder) -> bool:
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
    return type(conv) is nn.ConvTranspose1d and GemmConvTranspose1d.fits(conv)
