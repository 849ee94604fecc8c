"""What an operator sees: health, readiness, metrics, and what counting costs."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lydite.gateway import tally
from lydite.gateway.office.control_app import control_app
from lydite.gateway.settings import Health, Upstream
from lydite.gateway.tally import SECONDS, Histogram, Tally, Times
from tests.gateway.conftest import Bench, prepare
from tests.gateway.fleet_process import Running, until
from tests.gateway.raw_client import CHAT, Wire, ask, post
from tests.gateway.scripted_engine import chat, chat_stream, plain, script

Eventually = Callable[[Callable[[], bool]], None]
OK = json.dumps({"model": "small", **script(plain(chat()))}).encode()
STREAM = json.dumps({"model": "small", **script(chat_stream())}).encode()


def fetch(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def scrape(port: int) -> dict[str, float]:
    """Return every sample by its name and labels."""
    status, page = fetch(port, "/metrics")
    assert status == 200
    return {
        sample.name
        + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_route_model_and_code(bench: Bench, tmp_path: Path) -> None:
    upstreams = (Upstream(url=bench.engine.url, models=("small",)),)
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams, control_port=0)
    port = gateway.operations.control_port
    for body in (OK, OK, STREAM):
        assert ask(gateway.port, post(CHAT, body)).whole
    for secret in ("user-7f3a", "another"):
        body = json.dumps({"model": secret, "user": secret}).encode()
        assert ask(gateway.port, post(CHAT, body)).status == 503
    poison = json.dumps({"model": "small", **script(b"", end="reset")}).encode()
    assert ask(gateway.port, post(CHAT, poison)).status == 502
    found = scrape(port)
    assert found["lydite_requests_total|200|small|/v1/chat/completions"] == 3
    assert found["lydite_requests_total|503||/v1/chat/completions"] == 2
    assert found["lydite_requests_total|502|small|/v1/chat/completions"] == 1
    assert found["lydite_receipts_total|complete"] == 3
    assert found["lydite_receipts_total|refused"] == 1
    assert found["lydite_upstream_errors_total|reset"] == 1
    assert found["lydite_request_duration_seconds_count"] == 6
    assert found["lydite_overhead_seconds_count"] == 4
    assert found["lydite_ttfb_seconds_count"] == 1
    assert found["lydite_log_fsync_seconds_count"] >= 5
    assert found["lydite_log_entries"] == 5
    assert found["lydite_inflight"] == 0
    assert found["lydite_ready"] == 1
    page = fetch(port, "/metrics")[1]
    assert b"user-7f3a" not in page
    assert b"another" not in page


def test_what_is_under_way_is_seen_and_a_client_that_leaves_is_counted_out(
    bench: Bench, tmp_path: Path, eventually: Eventually
) -> None:
    gateway = bench.gateway(str(tmp_path), control_port=0)
    port = gateway.operations.control_port
    with Wire(gateway.port) as connection:
        connection.send(post(CHAT, json.dumps(script(b"", hang=True)).encode()))
        eventually(lambda: scrape(port)["lydite_inflight"] == 1)
    eventually(lambda: scrape(port)["lydite_inflight"] == 0)
    assert scrape(port)["lydite_requests_total|499||/v1/chat/completions"] == 1


def test_numbers_of_all_workers_are_one_number_and_survive_a_worker(
    bench: Bench, tmp_path: Path
) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=2, control_port=0)
    running = Running(settings, tmp_path)
    port = int(running.said["control"].rpartition(":")[2])
    name = "lydite_requests_total|200||/v1/chat/completions"
    for _ in range(40):
        assert ask(running.port, post(CHAT, OK)).status == 200
    until(lambda: scrape(port).get(name) == 40)
    os.kill(running.workers()[0], signal.SIGKILL)
    until(lambda: scrape(port)["lydite_worker_restarts_total"] == 1)
    until(lambda: len(running.workers()) == 2)
    assert scrape(port)[name] == 40
    for _ in range(10):
        assert ask(running.port, post(CHAT, OK)).status == 200
    until(lambda: scrape(port)[name] == 50)
    assert fetch(port, "/readyz")[0] == 200
    assert running.end() == 0


def test_ready_says_what_is_missing(bench: Bench, tmp_path: Path, eventually: Eventually) -> None:
    gateway = bench.gateway(
        str(tmp_path),
        upstream="http://127.0.0.1:9",
        health=Health(interval_ms=20, failures=1),
        control_port=0,
    )
    port = gateway.operations.control_port
    assert fetch(port, "/healthz") == (200, b'{"alive":true}')
    eventually(lambda: fetch(port, "/readyz")[0] == 503)
    found = json.loads(fetch(port, "/readyz")[1])
    assert found == {"recording": True, "serving": True, "upstreams": False}
    gateway._recorder.failing = True
    assert json.loads(fetch(port, "/readyz")[1])["recording"] is False


def test_a_gateway_that_drains_is_not_ready(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url, control_port=0)
    running = Running(settings, tmp_path)
    port = int(running.said["control"].rpartition(":")[2])
    slow = json.dumps(script(chat_stream(), [200, 600], pause_s=0.4)).encode()
    with Wire(running.port) as connection:
        connection.send(post(CHAT, slow))
        time.sleep(0.2)
        running.send(signal.SIGTERM)
        until(lambda: fetch(port, "/readyz")[0] == 503)
        assert connection.read().whole
    assert running.process.wait(10) == 0


def test_the_operators_port_is_closed_by_default_and_never_the_clients(
    bench: Bench, tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path))
    assert gateway.operations.control_port is None
    for path in (b"/metrics", b"/healthz", b"/readyz", b"/v1/admin/instructions"):
        assert ask(gateway.port, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path).status == 404


def test_other_parts_put_their_routes_beside_ours() -> None:
    async def hello(_: Request) -> JSONResponse:
        return JSONResponse("hello")

    app = control_app([Route("/v1/hello", hello)], dict, lambda: b"")
    assert [getattr(route, "path", "") for route in app.routes] == [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/hello",
    ]


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_agrees_with_the_obvious_one(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    for index, bound in enumerate(SECONDS):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)


def test_tallies_do_not_share_what_they_count() -> None:
    one, two = Tally(), Tally()
    one.recorded("complete")
    one.served("/r", "", 200, Times())
    assert two == Tally()
    both: list[Any] = [one, one, two]
    assert tally.total(both).outcomes == {"complete": 2}
    assert one.outcomes == {"complete": 1}


@pytest.mark.slow
def test_counting_costs_a_request_two_microseconds_at_most() -> None:
    counted = Tally()

    def once() -> None:
        times = Times()
        counted.inflight += 1
        times.sent = time.perf_counter()
        times.first = time.perf_counter()
        times.heard = time.perf_counter()
        counted.recorded("complete")
        counted.served("/v1/chat/completions", "", 200, times)

    best = 1.0
    for _ in range(20):
        began = time.process_time()
        for _ in range(5_000):
            once()
        best = min(best, (time.process_time() - began) / 5_000)
    assert best < 2e-6, f"{best * 1e6:.2f} us"
