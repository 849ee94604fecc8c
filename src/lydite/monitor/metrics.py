"""The monitor in Prometheus' words, read when somebody scrapes.

Names begin with ``lydite_monitor_``, units are SI. Labels are bounded: device, channel, reason, and
never a process or a user. Counts nothing itself.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lydite.errors import ConfigurationError
from lydite.monitor.service import Monitor

_DEVICE_CHANNEL = ("device", "channel")


class MonitorCollector(Collector):
    """One monitor's metrics."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        yield from self._devices()
        yield from self._own()

    def _devices(self) -> Iterator[Metric]:
        gathering = self._monitor.gathering
        latest = _gauge("value", "The latest sample of a channel, in SI units.", *_DEVICE_CHANNEL)
        kept = _counter("samples", "Samples kept.", *_DEVICE_CHANNEL)
        joules = _counter("energy_joules", "Energy by the device's own counter.", "device")
        mishaps = _counter("mishaps", "Samples mended, left out or not read.", "device", "reason")
        refused = _gauge(
            "refused", "Channels that the self-check refused.", *_DEVICE_CHANNEL, "reason"
        )
        for number, source in enumerate(self._monitor.sources):
            device = source.device
            for channel, value in dict(gathering.latest[number]).items():
                latest.add_metric((device, channel), value)
            for channel, count in dict(gathering.kept[number]).items():
                kept.add_metric((device, channel), count)
            for reason, count in gathering.counts(number).items():
                mishaps.add_metric((device, reason), count)
            for channel, reason in gathering.refused[number].items():
                refused.add_metric((device, channel, reason), 1)
            joules.add_metric((device,), gathering.joules(number))
        for reason, count in gathering.own.counts().items():
            mishaps.add_metric(("", reason), count)
        yield from (latest, kept, joules, mishaps, refused)

    def _own(self) -> Iterator[Metric]:
        monitor = self._monitor
        end = monitor.sealer.end
        sealed = _counter("segments", "Segments sealed, of all runs.")
        sealed.add_metric((), 0 if end is None else end.said.index + 1)
        failures = _counter("seal_failures", "Times that the disk refused a segment.")
        failures.add_metric((), monitor.failures)
        used = _gauge("ring_used_ratio", "How full the ring of samples is.")
        used.add_metric((), monitor.ring.used / monitor.ring.capacity)
        cpu = _counter("cpu_seconds", "Processor time of the monitor.")
        cpu.add_metric((), time.process_time())
        yield from (sealed, failures, used, cpu)


class Server:
    """Serves ``/metrics`` until it is closed."""

    def __init__(self, monitor: Monitor, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address is taken or not ours.
        """
        registry = CollectorRegistry()
        registry.register(MonitorCollector(monitor))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigurationError(
                f"metrics on {host}:{port}: {error.strerror or error}"
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lydite_monitor_{name}", what, labels=labels)


def _counter(name: str, what: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"lydite_monitor_{name}", what, labels=labels)
