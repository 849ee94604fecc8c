"""Spans: what they say, which requests get one, and that a trace context passes untouched."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lydite.gateway.settings import Telemetry, Upstream
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, ask, get, post
from tests.gateway.scripted_engine import chat, chat_stream, plain, script

pytest.importorskip("opentelemetry.sdk")
trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

Eventually = Callable[[Callable[[], bool]], None]
SECRET = "the client's own words"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes OTLP over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.pages: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.pages.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        found = []
        for page in self.pages:
            request = trace_service.ExportTraceServiceRequest.FromString(page)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def said(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def body(raw: bytes, **more: Any) -> bytes:
    return json.dumps({"model": "small", "prompt": SECRET, **script(raw, **more)}).encode()


def test_spans_tell_the_operation_and_nothing_of_its_content(
    bench: Bench, tmp_path: Path, collector: Collector
) -> None:
    gateway = bench.gateway(
        str(tmp_path),
        upstream=None,
        upstreams=(Upstream(url=bench.engine.url, models=("small",)),),
        telemetry=Telemetry(endpoint=collector.url, sample_ppm=1_000_000),
    )
    plain_answer = ask(gateway.port, post(CHAT, body(plain(chat()))))
    assert plain_answer.status == 200
    assert ask(gateway.port, post(CHAT, body(chat_stream()))).whole
    assert ask(gateway.port, post(CHAT, body(b"", end="reset"))).status == 502
    assert ask(gateway.port, get(b"/v1/models")).status == 200
    bench.stop(gateway)  # sends what waits
    spans = collector.spans()
    assert [span.name for span in spans] == ["chat small"] * 3
    first, stream, failed = map(said, spans)
    assert first["gen_ai.operation.name"] == "chat"
    assert first["gen_ai.request.model"] == "small"
    assert first["http.response.status_code"] == 200
    assert first["lydite.receipt.id"] == plain_answer.fields[b"x-lydite-receipt-id"].decode()
    assert stream["lydite.time_to_first_byte"] > 0
    assert failed["error.type"] == "502"
    assert all(0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9 for span in spans)
    assert not any(SECRET.encode() in page for page in collector.pages)
    assert not any(b"127.0.0.1" in page for page in collector.pages)


@pytest.mark.parametrize(("flags", "count"), [("01", 1), ("00", 0)])
def test_a_clients_trace_is_continued_and_passes_untouched(
    bench: Bench, tmp_path: Path, collector: Collector, flags: str, count: int
) -> None:
    telemetry = Telemetry(endpoint=collector.url, sample_ppm=1_000_000)
    gateway = bench.gateway(str(tmp_path), telemetry=telemetry)
    context = f"00-{TRACE}-{PARENT}-{flags}".encode()
    fields = b"Traceparent: %s\r\nTracestate: a=b\r\n" % context
    assert ask(gateway.port, post(CHAT, body(plain(chat())), fields)).status == 200
    head = bench.engine.seen[-1].head
    assert b"traceparent: %s\r\n" % context in head
    assert b"tracestate: a=b\r\n" in head
    bench.stop(gateway)
    spans = collector.spans()
    assert len(spans) == count
    for span in spans:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_spans_are_off_unless_asked_for_and_sampled_when_on(
    bench: Bench, tmp_path: Path, collector: Collector
) -> None:
    silent = bench.gateway(str(tmp_path / "off"))
    assert silent.operations.front._tracer is None
    never = Telemetry(endpoint=collector.url, sample_ppm=0)
    gateway = bench.gateway(str(tmp_path / "never"), telemetry=never)
    context = f"00-{TRACE}-{PARENT}-01".encode()
    for _ in range(20):
        fields = b"Traceparent: %s\r\n" % context
        assert ask(gateway.port, post(CHAT, body(plain(chat())), fields)).status == 200
    bench.stop(gateway)
    assert not collector.spans()


@pytest.mark.parametrize("context", [b"", b"nonsense", b"00-" + b"0" * 32 + b"-x-01", b"\xff-01"])
def test_a_trace_context_that_makes_no_sense_harms_nothing(
    bench: Bench, tmp_path: Path, collector: Collector, context: bytes
) -> None:
    telemetry = Telemetry(endpoint=collector.url, sample_ppm=1_000_000)
    gateway = bench.gateway(str(tmp_path), telemetry=telemetry)
    got = ask(gateway.port, post(CHAT, body(plain(chat())), b"Traceparent: %s\r\n" % context))
    assert got.status in {200, 400}
    assert ask(gateway.port, post(CHAT, body(plain(chat())))).status == 200
    bench.stop(gateway)


def test_a_collector_that_is_gone_holds_nobody_up(bench: Bench, tmp_path: Path) -> None:
    telemetry = Telemetry(endpoint="http://127.0.0.1:9/v1/traces", sample_ppm=1_000_000)
    gateway = bench.gateway(str(tmp_path), telemetry=telemetry)
    for _ in range(5):
        assert ask(gateway.port, post(CHAT, body(plain(chat())))).status == 200
    bench.stop(gateway)
