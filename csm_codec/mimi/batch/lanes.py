"""Lanes of streams as batches of fixed shape, as decoder.py describes them. On a GPU a frame is one launch of a graph.

A row's state is at a fixed address. There is a graph for each bucket of rows, over the first rows of the lane, so a
frame costs as much as the bucket of the last row that takes part. Streams get the first free row. All graphs are
captured before the first use. Between launches only the table of numbers changes. Rows begin and are cleared outside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csm_bundle.runtime.captured import Captured, GraphPool, graph_pool, host_room, on_device, on_host
from csm_codec.buckets import bucket_of, buckets_up_to
from csm_codec.mimi.batch.network import FIRST, POSITION, TAKES_PART, BatchNetwork
from csm_codec.mimi.loader import Mimi


class BatchLanes:
    """`num_lanes` lanes of `lane_width` rows each."""

    def __init__(
        self, mimi: Mimi, num_lanes: int, lane_width: int, dtype: torch.dtype, constant_shape: bool = False
    ) -> None:
        """mimi: one whose model `is_usual`. dtype: of all but the quantizer.

        constant_shape: one bucket, the whole lane. Then the library's products have one shape in every step, and a
        row's bits do not depend on how many rows take part.
        """
        with torch.inference_mode():
            self._network = BatchNetwork(mimi.model, dtype)
            buckets = [lane_width] if constant_shape else buckets_up_to(lane_width)
            pool = graph_pool(self._network.device)
            self._lanes = [_Lane(self._network, lane_width, buckets, pool) for _ in range(num_lanes)]

    def begin(self, lane: int, row: int, frame: int) -> None:
        self._lanes[lane].begin([row], frame * self._network.steps)

    @torch.inference_mode()
    def latent_step(self, lane: int, codes: Tensor, exec_mask: Tensor) -> None:
        self._lanes[lane].step(codes, exec_mask, audio=False)

    @torch.inference_mode()
    def frame_step(self, lane: int, codes: Tensor, exec_mask: Tensor, reset_mask: Tensor) -> Tensor:
        if rows := reset_mask.nonzero().flatten().tolist():
            self._lanes[lane].begin(rows, 0)
        return self._lanes[lane].step(codes, exec_mask, audio=True).float()

    @torch.inference_mode()
    def forget(self, lane: int, row: int) -> None:
        self._lanes[lane].state.forget(slice(row, row + 1))

    @torch.inference_mode()
    def rebuild(self, lane: int) -> None:
        self._lanes[lane].state.forget(slice(None))


class _Lane:
    """One lane's state, and its frame by bucket, with audio and without."""

    def __init__(self, network: BatchNetwork, width: int, buckets: list[int], pool: GraphPool | None) -> None:
        self._network, self._buckets = network, buckets
        self.state = network.new_state(width)
        self._numbers = torch.zeros(2, width, dtype=torch.int64)  # position of the next frame, and first one, by row
        self._table, self._pcm = network.new_table(width), network.new_pcm(width)
        self._steps: dict[tuple[int, bool], Captured] = {}
        for bucket in reversed(buckets):  # the largest first: smaller ones fit into its memory
            for audio in (True, False):
                self._steps[bucket, audio] = self._captured(bucket, audio, pool)

    @torch.inference_mode()
    def begin(self, rows: list[int], position: int) -> None:
        self._numbers[:, rows] = position
        self.state.begin(on_device(torch.tensor(rows), self._network.device))

    def step(self, codes: Tensor, exec_mask: Tensor, *, audio: bool) -> Tensor:
        """codes: (width, codebooks). Returns the samples of the bucket's rows, on the host; nothing without `audio`."""
        books = self._network.num_codebooks
        rows = int(exec_mask.nonzero()[-1]) + 1 if exec_mask.any() else 0
        bucket = bucket_of(rows, self._buckets)
        table = host_room((bucket, self._table.shape[1]), torch.int64, self._network.device)
        table[:, :books] = codes[:bucket]
        table[:, books + POSITION], table[:, books + FIRST] = self._numbers[:, :bucket]
        table[:, books + TAKES_PART] = exec_mask[:bucket]
        self._table[:bucket].copy_(table, non_blocking=True)
        self._steps[bucket, audio]()
        self._numbers[0] += exec_mask * self._network.steps
        return on_host(self._pcm[:bucket]) if audio else self._pcm[:0]

    def _captured(self, bucket: int, audio: bool, pool: GraphPool | None) -> Captured:
        table, state, pcm = self._table[:bucket], self.state.of(bucket), self._pcm[:bucket]
        return Captured(lambda: self._network.step(table, state, pcm if audio else None), self._network.device, pool)
