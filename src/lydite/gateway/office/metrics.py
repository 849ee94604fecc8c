"""Metrics in Prometheus' words, read from tallies when somebody scrapes.

Names begin with ``lydite_``, times are in seconds, and labels are bounded: route, model (declared
ones only), code, kind, outcome; never a user, never an id. Counts nothing itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lydite.gateway.tally import SECONDS, Histogram, Tally, total

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (*map(str, SECONDS), "+Inf")


class Plant(NamedTuple):
    """What the numbers of one gateway are at the moment of a scrape."""

    tallies: list[Tally]
    commits: Histogram
    """How long the log took for each batch."""
    unsynced: int
    entries: int
    workers: int
    restarts: int
    ready: bool


class GatewayCollector(Collector):
    """One gateway's metrics, summed over its workers."""

    def __init__(self, look: Callable[[], Plant]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        plant = self._look()
        tally = total(plant.tallies)
        yield from _traffic(tally)
        yield from _upkeep(plant)


def exposition(look: Callable[[], Plant], more: Iterable[Collector] = ()) -> Callable[[], bytes]:
    """Return what writes the page of ``/metrics``: this gateway's, and ``more`` of other parts."""
    registry = CollectorRegistry()
    for each in (GatewayCollector(look), *more):
        registry.register(each)
    return lambda: generate_latest(registry)


def _traffic(tally: Tally) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "lydite_requests",
        "Requests to models that are over, by what the client was told.",
        labels=("route", "model", "code"),
    )
    for (route, model, code), count in sorted(tally.requests.items()):
        requests.add_metric((route, model, str(code)), count)
    yield requests
    yield _counter("lydite_receipts", "Receipts in the log.", "outcome", tally.outcomes)
    yield _counter(
        "lydite_upstream_errors",
        "Failures of upstreams: connect, reset, timeout or protocol.",
        "kind",
        tally.failures,
    )
    yield _gauge("lydite_inflight", "Requests to models that are under way.", tally.inflight)
    yield _histogram("lydite_request_duration_seconds", "Whole requests.", tally.duration)
    yield _histogram(
        "lydite_overhead_seconds",
        "The gateway's own share of each request, its receipt included.",
        tally.overhead,
    )
    yield _histogram("lydite_ttfb_seconds", "From a request to its stream.", tally.first_byte)


def _upkeep(plant: Plant) -> Iterator[Metric]:
    yield _histogram(
        "lydite_log_fsync_seconds", "Writing one batch, with its flush to disk.", plant.commits
    )
    yield _gauge("lydite_log_unsynced_records", "Records that wait to be written.", plant.unsynced)
    yield _gauge("lydite_log_entries", "Entries of the log.", plant.entries)
    yield _gauge("lydite_workers", "Processes that serve clients.", plant.workers)
    yield _gauge("lydite_ready", "Whether requests can be served.", int(plant.ready))
    restarts = CounterMetricFamily("lydite_worker_restarts", "Workers that had to be replaced.")
    restarts.add_metric((), plant.restarts)
    yield restarts


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in sorted(counts.items()):
        family.add_metric((value,), count)
    return family


def _gauge(name: str, text: str, value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    counts = accumulate(histogram.counts)
    buckets = list(zip(_BOUNDS, map(float, counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
