"""A replica's load report, as gRPC's weighted round robin reads it."""

from __future__ import annotations

import struct

from services.common.rpc import load_report


def test_a_report_has_the_wire_format_that_grpc_reads() -> None:
    """As of xds.data.orca.v3.OrcaLoadReport: doubles in the fields 6 (requests a second) and 9 (utilization)."""
    ((key, report),) = load_report.as_metadata(num_calls=5, num_slots=4)
    assert (key, report[0], report[9]) == ("endpoint-load-metrics-bin", 6 << 3 | 1, 9 << 3 | 1)
    assert struct.unpack("<xdxd", report) == (1, 6 / 4)
