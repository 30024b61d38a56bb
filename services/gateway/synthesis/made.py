"""What another run of a plan has made. It knows no RPC and no backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2


@dataclass(frozen=True, slots=True)
class Made:
    """Frames that the engine does not make again, and samples that nobody wants again."""

    codes: rvq_pb2.CodeFrames
    started: engine_pb2.GenerateStarted
    complete: engine_pb2.GenerateComplete | None = None  # None: the engine has more to make
    checkpoint: codec_pb2.StreamDecodeCheckpoint = field(default_factory=codec_pb2.StreamDecodeCheckpoint)
    unwanted_samples: int = 0  # the first ones, at the codec's rate; the checkpoint is not behind them
