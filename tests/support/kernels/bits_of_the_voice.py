"""`python -m tests.support.kernels.bits_of_the_voice`: prints a digest of codes, keys and values of the built-in voice.

For processors that are not at hand, in emulation. Half of the frames are prefilled again, as after a loss.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.prompt_rows import FirstFrame, PromptRows
from csm_engine.execution.weights import pack
from csm_engine.model.loader import load_model
from csm_engine.types import SamplingParams

_MODEL = Path(__file__).parents[3] / "bundles" / "builtin" / "model"
_SAMPLING = SamplingParams(temperature=0.9, top_k=50, seed=3)
_FRAMES = 24


@torch.inference_mode()
def digest() -> str:
    weights = pack(load_model(_MODEL, device=torch.device("cpu"), dtype=torch.float32))
    assert weights.on_cpu is not None
    rows = np.full((40, weights.config.num_codebooks + 1), -1, np.int32)
    rows[:, -1] = np.random.default_rng(0).integers(0, weights.config.text_vocab_size, len(rows))
    step = PackedFrameStep(weights, 2)
    frames = _frames(step, 0, rows, 0)
    resumed = np.pad(frames[: _FRAMES // 2], ((0, 0), (0, 1)), constant_values=-1)
    again = _frames(step, 1, np.concatenate([rows, resumed]), _FRAMES // 2)
    kept = [part[:2, : len(rows) + _FRAMES - 1] for layer in step.backbone.cache.layers for part in layer]
    assert np.array_equal(again, frames[_FRAMES // 2 :]) and all(torch.equal(*part) for part in kept)
    found = hashlib.sha256(frames.tobytes())
    for array in (*(part[0] for part in kept), step.state.next_embedding[0], weights.projected_embeddings):
        found.update(array.contiguous().numpy().tobytes())
    return found.hexdigest()


def _frames(step: PackedFrameStep, slot: int, rows: np.ndarray, frame: int) -> np.ndarray:
    """Frames from that one on. (F, K) int32"""
    last = len(rows) - 1
    step.prefill([PromptRows(slot, 0, rows[:last], FirstFrame(rows[last], last, frame, _SAMPLING))])
    made = [step(torch.tensor([slot])).numpy()[0, :-1] for _ in range(frame, _FRAMES)]
    return np.stack(made).astype(np.int32)


if __name__ == "__main__":
    print(digest())
