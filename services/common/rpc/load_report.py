"""How full a replica is, told at the end of a call to gRPC's weighted round robin at the caller (gRFC A51, A58)."""

from __future__ import annotations

from csm.engine.v1 import engine_pb2

KEY = "endpoint-load-metrics-bin"  # the name is gRPC's


def as_metadata(num_calls: int, num_slots: int) -> tuple[tuple[str, bytes]]:
    """Trailing metadata for a call. num_calls: that have a slot or wait for one; one more counts"""
    report = engine_pb2.LoadReport(rps_fractional=1.0, application_utilization=(num_calls + 1) / num_slots)
    return ((KEY, report.SerializeToString()),)
