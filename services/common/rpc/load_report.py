"""A replica's load report at the end of a call, for the caller's weighted round robin (gRFC A51, A58)."""

from __future__ import annotations

from csm.engine.v1 import engine_pb2

KEY = "endpoint-load-metrics-bin"  # the name is gRPC's
FAULTY = 1000  # utilization of a replica that could not compute: others get the calls until one of its own ends well


def as_metadata(num_calls: int, num_slots: int) -> tuple[tuple[str, bytes]]:
    """Trailing metadata for a call. num_calls: calls with a slot or waiting; one is added for the next call"""
    report = engine_pb2.LoadReport(rps_fractional=1.0, application_utilization=(num_calls + 1) / num_slots)
    return ((KEY, report.SerializeToString()),)


def of_faulty() -> tuple[tuple[str, bytes]]:
    """Trailing metadata for a call that failed because the replica could not compute.

    Without it the replica would count as little used, because it ends its calls early.
    """
    return as_metadata(FAULTY - 1, 1)
