"""Spans of sampled requests, in OpenTelemetry's words for generative AI; off unless asked for.

A span is written after its request is over, from the times that are counted anyway, so a request
that is not sampled pays for one draw. A client's trace context is continued, and passes to the
engine untouched. Spans hold no prompt, no answer and no address of a client.
"""

import random
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from lydite.gateway import heads
from lydite.gateway.settings import Telemetry
from lydite.gateway.tally import Served

_MILLION = 1_000_000
_SEND_S = 2
"""A collector that is gone holds up the end of a gateway for no longer, in seconds."""
_OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
_CONTEXT = TraceContextTextMapPropagator()
_NAMES = (b"traceparent", b"tracestate")


class Tracer:
    """Samples exchanges and hands their spans to an exporter, which sends them from a thread."""

    def __init__(self, settings: Telemetry, exporter: SpanExporter | None = None) -> None:
        self._sample_ppm = settings.sample_ppm
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "lydite-gateway"}), shutdown_on_exit=False
        )
        sender = exporter or OTLPSpanExporter(endpoint=settings.endpoint, timeout=_SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("lydite.gateway")

    def served(self, exchange: Served) -> None:
        """Write a span, if the draw and the client's trace context ask for one."""
        if random.randrange(_MILLION) >= self._sample_ppm:
            return
        carrier = {
            name.decode(): value.decode("latin-1")
            for name in _NAMES
            for value in heads.values(exchange.fields, name)
        }
        parent = _CONTEXT.extract(carrier) if carrier else None
        if parent is not None and not _sampled(carrier):
            return
        operation = _OPERATIONS.get(exchange.route, exchange.route)
        name = f"{operation} {exchange.model}".strip()
        ended_ns, now = time.time_ns(), time.perf_counter()
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(exchange, operation),
            start_time=ended_ns - int((now - exchange.times.came) * 1e9),
        )
        if exchange.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    def close(self) -> None:
        """Send what waits. Blocks."""
        self._provider.shutdown()


def _sampled(carrier: dict[str, str]) -> bool:
    """Say whether the caller samples its trace: the last bit of its flags (W3C Trace Context)."""
    flags = carrier.get("traceparent", "").rpartition("-")[2]
    return flags[-1:] in set("13579bdf")


def _attributes(exchange: Served, operation: str) -> dict[str, AttributeValue]:
    times = exchange.times
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "lydite.receipt.id": exchange.receipt_id,
    }
    if exchange.model:
        found["gen_ai.request.model"] = exchange.model
    if times.first:
        found["lydite.time_to_first_byte"] = times.first - times.came
    if exchange.status >= 500:
        found["error.type"] = str(exchange.status)
    return found
