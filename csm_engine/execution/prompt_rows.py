"""The prompts of one prefill pass, and the table in which one copy takes them to the device.

The table is int64. Its first R columns are prompt rows to prefill. The last MAX_PREFILL_PROMPTS columns are starts: the
first frame step's inputs of slots whose prompts are complete after the pass. A column holds K + 1 ids, -1 where masked,
the slot and the position; that of a start also the frame, the most frames, and the sampling parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from csm_bundle.sampling import LIMITS
from csm_engine.execution.sampling import SamplingRows
from csm_engine.execution.slot_state import NO_LIMIT
from csm_engine.model.prompt import Rows
from csm_engine.scheduling.buckets import MAX_PREFILL_PROMPTS
from csm_engine.types import SamplingParams

_SAMPLING = tuple(field.name for field in fields(SamplingRows))


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The inputs of a slot's first frame step.

    row: (K + 1,) the prompt's last row, -1 where masked; position: of that row; frame: index of the frame that the step
    makes, above 0 when resumed; max_frames: most frames, resumed ones included.
    """

    row: Rows
    position: int
    frame: int
    sampling: SamplingParams
    max_frames: int = NO_LIMIT


@dataclass(frozen=True, slots=True)
class PromptRows:
    """Rows of one prompt. rows: (T, K + 1) for the positions from `start` on, -1 where masked; T may be 0.

    first_frame: starts the slot after the pass; None while the prompt is incomplete.
    """

    slot: int
    start: int
    rows: Rows
    first_frame: FirstFrame | None = None


def rows_in(prompts: Sequence[PromptRows], tile: int) -> int:
    """Rows of a pass when each prompt begins at a multiple of `tile`."""
    return sum(-(-len(prompt.rows) // tile) * tile for prompt in prompts)


def table_of(prompts: Sequence[PromptRows], num_rows: int, *, num_codebooks: int, pad_slot: int, tile: int) -> Tensor:
    """The table of a pass of `num_rows` rows, on the CPU. Unused rows and starts have the pad slot.

    Each prompt begins at a multiple of `tile`. Raises: ValueError when there are more rows or prompts than fit.
    """
    if rows_in(prompts, tile) > num_rows or len(prompts) > MAX_PREFILL_PROMPTS:
        raise ValueError(
            f"{len(prompts)} prompts of {rows_in(prompts, tile)} rows; at most {MAX_PREFILL_PROMPTS} of {num_rows} fit"
        )
    ids = num_codebooks + 1
    table = np.zeros((ids + 4 + len(_SAMPLING), num_rows + MAX_PREFILL_PROMPTS), dtype=np.int64)
    table[:ids] = -1
    table[ids] = pad_slot
    for index, name in enumerate(_SAMPLING):
        table[ids + 4 + index] = _bits(name, LIMITS[name].least)
    row_column, start_column = 0, num_rows
    for prompt in prompts:
        columns = slice(row_column, row_column + len(prompt.rows))
        table[:ids, columns] = prompt.rows.T
        table[ids, columns] = prompt.slot
        table[ids + 1, columns] = np.arange(prompt.start, prompt.start + len(prompt.rows))
        row_column += rows_in([prompt], tile)
        if (first := prompt.first_frame) is not None:
            table[:ids, start_column] = first.row
            sampling = [_bits(name, getattr(first.sampling, name)) for name in _SAMPLING]
            table[ids:, start_column] = [prompt.slot, first.position, first.frame, first.max_frames, *sampling]
            start_column += 1
    return torch.from_numpy(table)


def _bits(name: str, value: float) -> int:
    """A sampling parameter as int64; a float parameter as the bits of its float64."""
    return int(np.float64(value).view(np.int64)) if LIMITS[name].kind is float else int(value)


@dataclass(frozen=True, slots=True)
class PassTable:
    """Views of the table's fields, on its device. R rows, S starts."""

    ids: Tensor  # (K + 1, R + S) int64, -1 where masked
    slots: Tensor  # (R,) int64
    positions: Tensor  # (R,) int64
    started: Tensor  # (S,) int64 slots, the pad slot where unused
    first_positions: Tensor  # (S,) int64
    first_frames: Tensor  # (S,) int64
    max_frames: Tensor  # (S,) int64
    sampling: SamplingRows  # of S rows

    @classmethod
    def of(cls, table: Tensor) -> PassTable:
        """table: from `table_of`, on any device."""
        ids, num_rows = len(table) - 4 - len(_SAMPLING), table.shape[1] - MAX_PREFILL_PROMPTS
        starts = table[ids:, num_rows:]
        sampling = {
            name: row.view(torch.float64).float() if LIMITS[name].kind is float else row
            for name, row in zip(_SAMPLING, starts[4:], strict=True)
        }
        return cls(
            ids=table[:ids],
            slots=table[ids, :num_rows],
            positions=table[ids + 1, :num_rows],
            started=starts[0],
            first_positions=starts[1],
            first_frames=starts[2],
            max_frames=starts[3],
            sampling=SamplingRows(**sampling),
        )
