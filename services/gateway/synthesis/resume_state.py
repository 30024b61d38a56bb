"""The state from which a synthesis resumes after another run of its plan. It knows no RPC and no backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The frames of an earlier run, which the engine does not generate again, and where the codec resumes."""

    codes: rvq_pb2.CodeFrames
    started: engine_pb2.GenerateStarted
    complete: engine_pb2.GenerateComplete | None = None  # None: frames are missing
    checkpoint: codec_pb2.StreamDecodeCheckpoint = field(default_factory=codec_pb2.StreamDecodeCheckpoint)
    skip_samples: int = 0  # not to deliver again, at the codec's rate; the checkpoint is at or before their end
