"""Prompts and frame steps through the kernels as compiled, against plain torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton comes with CUDA builds of torch and with requirements/dev.txt")

from csm_engine.execution.frame_step import PackedFrameStep  # noqa: E402
from csm_engine.execution.matrix import Quantization  # noqa: E402
from csm_engine.execution.weights import PackedWeights, pack  # noqa: E402
from csm_engine.model.loader import random_model  # noqa: E402
from csm_engine.types import SamplingParams  # noqa: E402
from tests.csm_engine.execution.ops.test_depth_frame import SMALL  # noqa: E402
from tests.support.kernels.ptx.launches import compiled_kernels  # noqa: E402

CONFIG = replace(SMALL, backbone=replace(SMALL.backbone, num_layers=2))
SLOTS, FRAMES = 2, 2


def codes_of(weights: PackedWeights) -> Tensor:
    """Codes and outcomes of a prompt's first frames in two slots, (FRAMES, SLOTS, K + 1)."""
    step = PackedFrameStep(weights, SLOTS)
    for slot in range(SLOTS):
        prompt = torch.randn(4 + slot, CONFIG.backbone.dim, generator=torch.Generator().manual_seed(slot))
        prompt = prompt.to(weights.dtype)
        step.backbone.prefill(prompt[:-1], slot, 0)
        step.state.start(
            slot, prompt[-1], position=3 + slot, frame=0, max_frames=FRAMES + slot, sampling=SamplingParams(seed=slot)
        )
    return torch.stack([step(torch.arange(SLOTS)).clone() for _ in range(FRAMES)])


@torch.inference_mode()
@pytest.mark.parametrize("quantization", ["none", pytest.param("int8", marks=pytest.mark.slow)])
def test_frames_have_the_codes_of_plain_torch(quantization: Quantization) -> None:
    """In float32, where rounding changes no code."""
    weights = pack(random_model(CONFIG, seed=1, dtype=torch.float32), quantization=quantization, compiled=False)
    expected = codes_of(weights)
    with compiled_kernels() as ran:
        ours = codes_of(weights)
    assert torch.equal(ours, expected)
    kernels = {"rms_norm", "write_rows", "prompt_attention", "gather", "backbone_attention", "depth_attention"}
    kernels |= {"sample", "advance", "silu_mul" if quantization == "none" else "product"}
    assert set(ran) >= {f"{name}_kernel" for name in kernels}
