"""A metric that was renamed is read under both names, with the same values."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.common.telemetry.former_metrics import FormerMetrics


def test_every_sample_is_there_under_both_names() -> None:
    registry = CollectorRegistry()
    counter = Counter("new_losses", "Losses.", ["stage"], registry=registry)
    histogram = Histogram("new_seconds", "Seconds.", buckets=(1.0, 2.0), registry=registry)
    FormerMetrics(registry, {"old_losses": counter, "old_seconds": histogram})
    counter.labels("codec").inc(3)
    histogram.observe(1.5)
    value = registry.get_sample_value
    for name in ("new", "old"):
        assert value(f"{name}_losses_total", {"stage": "codec"}) == 3
        assert value(f"{name}_seconds_count") == 1
        assert value(f"{name}_seconds_bucket", {"le": "2.0"}) == 1
        assert value(f"{name}_seconds_bucket", {"le": "1.0"}) == 0
    text = generate_latest(registry).decode()
    assert "# TYPE old_losses_total counter" in text and "# TYPE old_seconds histogram" in text


def test_a_former_name_is_taken() -> None:
    registry = CollectorRegistry()
    FormerMetrics(registry, {"old_bytes": Gauge("new_bytes", "Bytes.", registry=registry)})
    with pytest.raises(ValueError, match="old_bytes"):
        Gauge("old_bytes", "Bytes.", registry=registry)
