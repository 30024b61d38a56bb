"""How far back Mimi's decoding half looks."""

from __future__ import annotations

import math

from moshi.models.compression import MimiModel
from moshi.modules.conv import StreamingConv1d, StreamingConvTranspose1d
from moshi.modules.transformer import StreamingMultiheadAttention


def latent_frames(model: MimiModel) -> int:
    """Frames that a frame's latent depends on, besides itself.

    Each layer's attention reaches `context` - 1 steps back, and the upsampling one frame.
    """
    modules = model.decoder_transformer.modules()
    attentions = [module for module in modules if isinstance(module, StreamingMultiheadAttention)]
    num_steps = sum(attention.context - 1 for attention in attentions if attention.context is not None)
    return math.ceil(num_steps / steps_per_frame(model)) + 1


def audio_frames(model: MimiModel) -> int:
    """Frames whose latents a frame's audio depends on, besides its own.

    Each convolution reaches as far back as its state: so many steps at its own rate.
    """
    steps, num_frames = float(steps_per_frame(model)), 0.0
    for module in model.decoder.modules():
        if isinstance(module, StreamingConv1d):
            num_frames += module._padding_total / steps
            steps /= module._stride
        elif isinstance(module, StreamingConvTranspose1d):
            num_frames += math.ceil((module._kernel_size - module._stride) / module._stride) / steps
            steps *= module._stride
    return math.ceil(num_frames)


def steps_per_frame(model: MimiModel) -> int:
    """Of the transformer."""
    steps: int = model.upsample.convtr._stride
    return steps
