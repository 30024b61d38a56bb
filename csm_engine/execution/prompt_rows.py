"""The prompts of one prefill pass, and the table of numbers that carries them to the device.

A pass is a table of (C, R + MOST_PROMPTS) int64, one column for each row. R rows are prefilled; behind them stand the
first inputs of the slots that the pass starts. C fields: K + 1 ids, -1 where masked; slot; position; and for a start
also the frame, the limit of frames and the sampling parameters. One copy takes all of it to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from csm_bundle.sampling import LIMITS
from csm_engine.execution.sampler import SamplingRows
from csm_engine.execution.slot_state import NO_LIMIT
from csm_engine.model.prompt import Rows
from csm_engine.scheduling.buckets import MOST_PROMPTS
from csm_engine.types import SamplingParams

_SAMPLING = tuple(field.name for field in fields(SamplingRows))


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """What a slot's first frame step begins with.

    row: (K + 1,) the prompt's last row, -1 where masked; position: of that row; frame: number of the frame that the
    step makes; max_frames: limit of frames, resumed ones included.
    """

    row: Rows
    position: int
    frame: int
    sampling: SamplingParams
    max_frames: int = NO_LIMIT


@dataclass(frozen=True, slots=True)
class PromptRows:
    """Rows of one prompt. rows: (T, K + 1) of the positions from `start` on, -1 where masked; T may be 0.

    first_frame: starts the slot after the pass; None while rows are missing.
    """

    slot: int
    start: int
    rows: Rows
    first_frame: FirstFrame | None = None


def rows_in(prompts: Sequence[PromptRows], tile: int) -> int:
    """Rows of a pass when each prompt begins at a multiple of `tile`."""
    return sum(-(-len(prompt.rows) // tile) * tile for prompt in prompts)


def table_of(prompts: Sequence[PromptRows], num_rows: int, *, num_codebooks: int, pad_slot: int, tile: int) -> Tensor:
    """The table of a pass of `num_rows` rows, on the CPU. Rows and starts that are not used belong to the spare slot.

    Each prompt begins at a multiple of `tile`. Raises: ValueError when there are more rows or prompts than fit.
    """
    if rows_in(prompts, tile) > num_rows or len(prompts) > MOST_PROMPTS:
        raise ValueError(
            f"{len(prompts)} prompts of {rows_in(prompts, tile)} rows; at most {MOST_PROMPTS} of {num_rows} fit"
        )
    ids = num_codebooks + 1
    table = np.zeros((ids + 4 + len(_SAMPLING), num_rows + MOST_PROMPTS), dtype=np.int64)
    table[:ids] = -1
    table[ids] = pad_slot
    for index, name in enumerate(_SAMPLING):
        table[ids + 4 + index] = _bits(name, LIMITS[name].least)
    at, started = 0, num_rows
    for prompt in prompts:
        here = slice(at, at + len(prompt.rows))
        table[:ids, here] = prompt.rows.T
        table[ids, here] = prompt.slot
        table[ids + 1, here] = np.arange(prompt.start, prompt.start + len(prompt.rows))
        at += rows_in([prompt], tile)
        if (first := prompt.first_frame) is not None:
            table[:ids, started] = first.row
            sampling = [_bits(name, getattr(first.sampling, name)) for name in _SAMPLING]
            table[ids:, started] = [prompt.slot, first.position, first.frame, first.max_frames, *sampling]
            started += 1
    return torch.from_numpy(table)


def _bits(name: str, value: float) -> int:
    """A sampling parameter as int64; that of a fraction has the bits of the float64."""
    return int(np.float64(value).view(np.int64)) if LIMITS[name].kind is float else int(value)


@dataclass(frozen=True, slots=True)
class PassTable:
    """The table on the device, by field. R rows, S starts."""

    ids: Tensor  # (K + 1, R + S) int64, -1 where masked
    slots: Tensor  # (R,) int64
    positions: Tensor  # (R,) int64
    started: Tensor  # (S,) int64, the spare slot where nothing is started
    first_positions: Tensor  # (S,) int64
    first_frames: Tensor  # (S,) int64
    max_frames: Tensor  # (S,) int64
    sampling: SamplingRows  # of S rows

    @classmethod
    def of(cls, table: Tensor) -> PassTable:
        """table: as `table_of` made it, on any device."""
        ids, num_rows = len(table) - 4 - len(_SAMPLING), table.shape[1] - MOST_PROMPTS
        numbers = table[ids:, num_rows:]
        sampling = {
            name: row.view(torch.float64).float() if LIMITS[name].kind is float else row
            for name, row in zip(_SAMPLING, numbers[4:], strict=True)
        }
        return cls(
            ids=table[:ids],
            slots=table[ids, :num_rows],
            positions=table[ids + 1, :num_rows],
            started=numbers[0],
            first_positions=numbers[1],
            first_frames=numbers[2],
            max_frames=numbers[3],
            sampling=SamplingRows(**sampling),
        )
