"""Options that all parts of a lease have, and what they say."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.lease.figures import Figures
from bench.shapes import SHAPES
from bench.timing import DTYPES
from csm_engine.model.shapes import ModelConfig


@dataclass(frozen=True, slots=True)
class Given:
    """The model that a part measures, and where."""

    model: ModelConfig
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def by(cls, options: argparse.Namespace) -> Given:
        return cls(SHAPES[options.shape], options.device, DTYPES[options.dtype])

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def parser(description: str | None) -> argparse.ArgumentParser:
    """With --out, --shape, --device and --dtype."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("build/lease/figures.jsonl"), help="file of figures")
    options.add_argument("--shape", choices=SHAPES, default="csm-1b")
    options.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    options.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    return options


def opened(part: str, options: argparse.Namespace) -> Figures:
    """Opens the figures of a part, whose first line says what they are measured on."""
    figures = Figures(options.out, part)
    on_gpu = options.device.type == "cuda"
    figures.add(
        device=torch.cuda.get_device_name(options.device) if on_gpu else "cpu",
        torch=torch.__version__,
        shape=options.shape,
        dtype=options.dtype,
    )
    return figures
