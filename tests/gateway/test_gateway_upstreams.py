"""Several engines behind one gateway: who is asked, who is left out, and what is tried twice."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError
from lydite.gateway import wire
from lydite.gateway.plane import fleet
from lydite.gateway.plane.health import Breaker
from lydite.gateway.settings import Health, Limits, Upstream
from lydite.messages import compact
from tests.gateway.conftest import Bench, prepare
from tests.gateway.raw_client import CHAT, Got, Wire, ask, get, post
from tests.gateway.scripted_engine import ScriptedEngine, chat, plain, script

Eventually = Callable[[Callable[[], bool]], None]
OK = json.dumps(script(plain(chat()))).encode()
HANGS = json.dumps(script(b"", hang=True)).encode()
EVERY_50_MS = Health(interval_ms=50, timeout_ms=200, failures=2)


@pytest.fixture
def engines(bench: Bench) -> Iterator[list[ScriptedEngine]]:
    made = [ScriptedEngine() for _ in range(3)]
    for engine in made:
        bench.run(engine.start())
    yield made
    for engine in made:
        bench.run(engine.stop())


def several(engines: list[ScriptedEngine], *models: str) -> tuple[Upstream, ...]:
    named = models or ("",) * len(engines)
    return tuple(
        Upstream(url=engine.url, models=tuple(each.split()))
        for engine, each in zip(engines, named, strict=True)
    )


def asked(engine: ScriptedEngine) -> int:
    return sum(seen.head.startswith(b"POST") for seen in engine.seen)


def code(got: Got) -> str:
    return str(json.loads(got.body)["error"]["code"])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_equal_upstreams_take_turns(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines))
    with Wire(gateway.port) as connection:
        for _ in range(9):
            assert connection.ask(post(CHAT, OK)).status == 200
    assert [asked(engine) for engine in engines] == [3, 3, 3]
    for engine in engines:
        hosts = {seen.head.split(b"\r\n")[1] for seen in engine.seen}
        assert hosts == {b"host: " + engine.url.removeprefix("http://").encode()}


def test_a_busy_upstream_is_spared(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines[:2]))
    with ExitStack() as stack:
        for number in range(3):
            busy = stack.enter_context(Wire(gateway.port))
            busy.send(post(CHAT, HANGS))
            eventually(lambda n=number: sum(map(asked, engines)) == n + 1)
        first, second = engines[:2]
        less = first if asked(first) < asked(second) else second
        before = asked(less)
        assert ask(gateway.port, post(CHAT, OK)).status == 200
        assert asked(less) == before + 1


def test_a_model_goes_to_those_that_serve_it(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    upstreams = several(engines, "a both", "b both", "c")
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams)

    def want(model: str) -> Got:
        body = json.dumps({"model": model, **script(plain(chat()))}).encode()
        return ask(gateway.port, post(CHAT, body))

    for _ in range(2):
        assert want("a").status == want("both").status == 200
    assert [asked(engine) for engine in engines] == [2, 2, 0]
    refused = want("unheard of")
    assert (refused.status, code(refused)) == (503, "unserved-model")
    none = ask(gateway.port, post(CHAT, OK))
    assert (none.status, code(none)) == (400, "malformed")
    assert ask(gateway.port, post(CHAT, b"{not json")).status == 400
    models = json.loads(ask(gateway.port, get(b"/v1/models")).body)
    assert [each["id"] for each in models["data"]] == ["a", "b", "both", "c"]
    assert len(gateway._journal) == 5  # the declaration, and one for each that an engine was asked


def test_a_body_is_not_read_where_the_model_does_not_matter(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines))
    assert gateway.operations.front.fleet.model_of(b"{not json") is None


def test_an_upstream_that_refuses_connections_is_made_up_for(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gone = Upstream(url=f"http://127.0.0.1:{closed_port()}")
    upstreams = (gone, *several(engines[:1]))
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams)
    for _ in range(12):
        got = ask(gateway.port, post(CHAT, OK))
        assert got.status == 200
    assert asked(engines[0]) == 12
    host = {seen.head.split(b"\r\n")[1] for seen in engines[0].seen}
    assert host == {b"host: " + engines[0].url.removeprefix("http://").encode()}
    failures = gateway.operations.front.fleet.errors()["connect"]
    assert 5 <= failures <= 6, "the breaker has to open"


def test_a_request_that_reached_an_engine_is_never_sent_to_another(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines))
    for raw in (b"", plain(chat())[:40]):
        body = json.dumps(script(raw, end="reset")).encode()
        got = ask(gateway.port, post(CHAT, body))
        assert (got.status, code(got)) == (502, "upstream-failed")
    assert sum(map(asked, engines)) == 2


def test_when_all_are_gone_the_answer_comes_at_once_and_says_why(
    bench: Bench, tmp_path: Path
) -> None:
    upstreams = tuple(Upstream(url=f"http://127.0.0.1:{closed_port()}") for _ in range(2))
    health = Health(interval_ms=0, breaker_failures=2, breaker_open_ms=60_000)
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams, health=health)
    seen = [ask(gateway.port, post(CHAT, OK)) for _ in range(4)]
    assert [got.status for got in seen] == [502, 502, 503, 503]
    assert code(seen[-1]) == "no-upstream"
    started = time.monotonic()
    assert code(ask(gateway.port, get(b"/v1/models"))) == "no-upstream"
    assert time.monotonic() - started < 0.5


def test_a_half_open_breaker_lets_one_request_try(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    """An eager breaker is mass 503: what comes back is asked once, then by all."""
    health = Health(interval_ms=0, breaker_failures=2, breaker_open_ms=200)
    limits = Limits(sweep_ms=20, first_byte_ms=150)
    gateway = bench.gateway(str(tmp_path), upstream=engines[0].url, health=health, limits=limits)
    for _ in range(2):
        assert ask(gateway.port, post(CHAT, HANGS)).status == 502
    assert ask(gateway.port, post(CHAT, OK)).status == 503
    time.sleep(0.25)
    with Wire(gateway.port) as trial:
        before = asked(engines[0])
        trial.send(post(CHAT, json.dumps(script(plain(chat()), [9], pause_s=0.1)).encode()))
        eventually(lambda: asked(engines[0]) == before + 1)
        assert ask(gateway.port, post(CHAT, OK)).status == 503, "a second one while one tries"
        assert trial.read().status == 200
    assert ask(gateway.port, post(CHAT, OK)).status == 200
    assert gateway.operations.front.fleet.errors()["timeout"] == 2


def test_a_client_that_leaves_a_trial_does_not_leave_the_breaker_stuck(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    health = Health(interval_ms=0, breaker_failures=1, breaker_open_ms=100)
    limits = Limits(sweep_ms=20, first_byte_ms=100)
    gateway = bench.gateway(str(tmp_path), upstream=engines[0].url, health=health, limits=limits)
    assert ask(gateway.port, post(CHAT, HANGS)).status == 502
    time.sleep(0.15)
    with Wire(gateway.port) as trial:
        trial.send(post(CHAT, HANGS))
        eventually(lambda: asked(engines[0]) == 2)
    eventually(lambda: ask(gateway.port, post(CHAT, OK)).status == 200)


def test_answers_that_break_do_not_close_the_door(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=engines[0].url)
    poison = json.dumps(script(plain(chat())[:30], end="reset")).encode()
    for _ in range(10):
        assert ask(gateway.port, post(CHAT, poison)).status == 502
    assert ask(gateway.port, post(CHAT, OK)).status == 200


def test_checks_take_an_upstream_out_and_back_in(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    upstreams = several(engines[:2])
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams, health=EVERY_50_MS)
    eventually(lambda: all(engine.seen for engine in engines[:2]))
    assert engines[0].seen[0].head.startswith(b"GET /v1/models HTTP/1.1\r\nhost: ")
    port = engines[0].port
    bench.run(engines[0].stop())
    eventually(lambda: gateway.operations.front.fleet.usable() == 1)
    for _ in range(4):
        assert ask(gateway.port, post(CHAT, OK)).status == 200
    assert not gateway.operations.front.fleet.errors(), "a request was spent on finding out"
    again = ScriptedEngine()
    bench.run(again.start(port))
    eventually(lambda: gateway.operations.front.fleet.usable() == 2)
    bench.run(again.stop())
    bench.run(engines[0].start())


def test_an_engine_too_busy_to_answer_a_check_stays_in(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    health = Health(interval_ms=20, timeout_ms=30, failures=1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = Upstream(url=f"http://127.0.0.1:{mute.getsockname()[1]}")
        gateway = bench.gateway(
            str(tmp_path / "two"),
            upstream=None,
            upstreams=(silent, *several(engines[:1])),
            health=health,
        )
        pool = gateway.operations.front.fleet.pools[0]
        eventually(lambda: not pool.well)  # idle, silent, and there is another
        pool.entered()
        pool.checked(well=True)
        time.sleep(0.2)
        assert pool.well, "at work for us"
        pool.left(None, heard=False)
        alone = bench.gateway(str(tmp_path / "one"), upstream=silent.url, health=health)
        time.sleep(0.2)
        assert alone.operations.front.fleet.usable() == 1, "there is no other"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upstreams": ()}, "one upstream, or several"),
        ({"upstream": "http://a", "upstreams": (Upstream(url="http://b"),)}, "one upstream"),
        ({"upstreams": (Upstream(url="http://a"), Upstream(url="http://a"))}, "twice"),
        (
            {"upstreams": (Upstream(url="http://a"), Upstream(url="http://b", models=("m",)))},
            "each names its models",
        ),
        ({"upstreams": (Upstream(url="http://a", ca="x"),)}, "not https"),
        ({"upstreams": (Upstream(url="https://a", key="x"),)}, "go together"),
        ({"upstreams": (Upstream(url="https://a", ca="/nowhere"),)}, "/nowhere"),
    ],
)
def test_upstreams_that_cannot_be_used_are_named(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        fleet.plan(msgspec.structs.replace(prepare(tmp_path, None), **changes))


class ObviousBreaker:
    """The twin: the whole history, read from the start each time."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self.events: list[tuple[str, float]] = []

    def usable(self, now: float) -> bool:
        streak, openings, until, trying = 0, 0, 0.0, False
        for what, when in self.events:
            if what == "sent":
                trying = openings > 0
            elif what == "answered":
                streak, openings, trying = 0, 0, False
            elif what == "abandoned":
                trying = False
            else:
                streak += 1
                if (openings and trying) or (not openings and streak >= 3):
                    until = when + min(1.0 * 2**openings, 4.0)
                    openings += 1
                trying = False
        return not openings or (now >= until and not trying)


@given(st.lists(st.tuples(st.sampled_from(["answered", "failed", "abandoned"]), st.integers(0, 3))))
def test_the_breaker_agrees_with_the_obvious_one(steps: list[tuple[str, int]]) -> None:
    health = Health(breaker_failures=3, breaker_open_ms=1000, breaker_longest_ms=4000)
    breaker, twin = Breaker(health), ObviousBreaker(health)
    now = 0.0
    for what, pause_s in steps:
        now += pause_s
        assert breaker.usable(now) == twin.usable(now)
        if not breaker.usable(now):
            continue
        breaker.sent()
        twin.events.append(("sent", now))
        if what == "failed":
            breaker.failed(now)
        else:
            (breaker.succeeded if what == "answered" else breaker.abandoned)()
        twin.events.append((what, now))


def test_receipts_are_the_same_whoever_answers(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines))
    for _ in engines:
        got = ask(gateway.port, post(CHAT, OK))
        compact.check(wire.from_header(got.fields[wire.HEADER]), CHAT, OK, got.body)


def test_no_upstream_keeps_a_connection_for_good(
    bench: Bench, engines: list[ScriptedEngine], tmp_path: Path, eventually: Eventually
) -> None:
    limits = Limits(sweep_ms=20, pool_idle_ms=50)
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=several(engines), limits=limits)
    for _ in engines:
        ask(gateway.port, post(CHAT, OK))
    eventually(lambda: not any(engine.serving for engine in engines))
