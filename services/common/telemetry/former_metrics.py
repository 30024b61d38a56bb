"""Metrics under their former names, for one more release: dashboards and rules can move without a gap.

It knows no metric: values are copied when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector


class FormerMetrics(Collector):
    """Exports each metric once more, under its former name."""

    def __init__(self, registry: CollectorRegistry, metrics: Mapping[str, MetricWrapperBase]) -> None:
        """metrics: by former names, without the suffixes that samples have."""
        self._metrics = dict(metrics)
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The former names, so that a registry refuses a metric that takes one of them."""
        return list(self.collect())

    def collect(self) -> Iterable[Metric]:
        """Copies of the metrics, made at each scrape of the registry."""
        for former, metric in self._metrics.items():
            for present in metric.collect():
                copy = Metric(former, f"Former name of {present.name}, until the next release.", present.type)
                copy.samples = [
                    sample._replace(name=former + sample.name.removeprefix(present.name)) for sample in present.samples
                ]
                yield copy
