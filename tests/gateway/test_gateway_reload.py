"""New settings for a gateway that runs: what changes, what is refused, and that nobody notices."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lydite.appraisal import authority
from lydite.appraisal.authority import Grant
from lydite.errors import ConfigurationError
from lydite.gateway import wire
from lydite.gateway.office.operations import CHANGEABLE, changes
from lydite.gateway.settings import Health, Limits, Settings, Tls, Upstream
from lydite.signing import keys
from tests.gateway.certificates import Authority
from tests.gateway.conftest import Bench, prepare
from tests.gateway.fleet_process import Running, until
from tests.gateway.raw_client import CHAT, Wire, ask, post
from tests.gateway.scripted_engine import ScriptedEngine, chat, chat_stream, plain, script
from tests.gateway.test_gateway_crash import check_log
from tests.gateway.test_gateway_tls import outcome, trusting
from tests.gateway.test_gateway_upstreams import asked
from tests.gateway.test_gateway_workers import Load

OK = json.dumps(script(plain(chat()))).encode()


@pytest.fixture
def other(bench: Bench) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    bench.run(engine.start())
    yield engine
    bench.run(engine.stop())


def reload(running: Running, settings: Settings, said: str = "changed:") -> None:
    before = running.log().count(said)
    running.write(settings)
    running.send(signal.SIGHUP)
    until(lambda: running.log().count(said) > before)


@pytest.mark.parametrize("workers", [1, 2])
def test_upstreams_change_under_load_and_no_request_is_dropped(
    bench: Bench, other: ScriptedEngine, tmp_path: Path, workers: int
) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=workers)
    running = Running(settings, tmp_path)
    outcomes: list[int] = []
    stop = threading.Event()

    def again() -> None:
        with Wire(running.port) as connection:
            while not stop.is_set():
                outcomes.append(connection.ask(post(CHAT, OK)).status)

    clients = [threading.Thread(target=again) for _ in range(4)]
    slow = json.dumps(script(chat_stream(), [200, 600], pause_s=0.4)).encode()
    with Wire(running.port) as connection:
        connection.send(post(CHAT, slow))
        for each in clients:
            each.start()
        time.sleep(0.2)
        ours, theirs = bench.engine.url, other.url
        for url in (theirs, ours, theirs):
            reload(running, msgspec.structs.replace(settings, upstream=url))
        before = asked(bench.engine), asked(other)
        until(lambda: asked(other) > before[1] + 20)
        assert asked(bench.engine) == before[0], "the one that left is still asked"
        got = connection.read()
        assert got.whole, "a stream on the upstream that left"
    stop.set()
    for each in clients:
        each.join()
    assert set(outcomes) == {200}
    assert running.end() == 0
    assert check_log(settings, [wire.from_stream(got.body)[0]]) == len(outcomes) + 2


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_cannot_change_is_refused_by_name_and_nothing_changes(
    bench: Bench, other: ScriptedEngine, tmp_path: Path, workers: int
) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=workers)
    running = Running(settings, tmp_path)
    bad = msgspec.structs.replace(settings, upstream=other.url, origin="another/log", workers=3)
    reload(running, bad, "cannot change while it runs: origin, workers; nothing was changed")
    running.config.write_bytes(b'{"upstream": 3}')
    running.send(signal.SIGHUP)
    until(lambda: "reload refused: settings" in running.log())
    nowhere = msgspec.structs.replace(settings, tls=Tls(certificate="/nowhere", key="/nowhere"))
    reload(running, nowhere, "reload refused: tls: /nowhere")
    assert ask(running.port, post(CHAT, OK)).status == 200
    assert asked(other) == 0
    assert running.end() == 0


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_certificates_are_read_again_even_if_no_setting_changed(
    bench: Bench, tmp_path: Path, workers: int
) -> None:
    trusted = Authority(tmp_path / "tls")
    given = Tls(**trusted.issue("gateway", "localhost")._asdict())
    settings = prepare(tmp_path, bench.engine.url, workers=workers, tls=given)
    running = Running(settings, tmp_path)
    assert running.said["url"].startswith("https://")
    assert outcome(running.port, trusting(trusted)) == 200
    newer = Authority(tmp_path / "newer", "newer").issue("gateway", "localhost")
    for old, new in zip((given.certificate, given.key), newer, strict=True):
        Path(old).write_bytes(Path(new).read_bytes())
    reload(running, settings, "changed: nothing")
    assert outcome(running.port, trusting(trusted)) != 200
    reader = Authority(tmp_path / "reader", "reader")
    assert outcome(running.port, trusting(reader)) != 200
    assert running.end() == 0


def test_limits_hold_for_connections_that_come_after(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = bench.gateway(str(tmp_path))
    operations = gateway.operations
    small = msgspec.structs.replace(
        gateway._settings, limits=Limits(sweep_ms=50, body_bytes=100), log_level="debug"
    )
    with Wire(gateway.port) as old:
        assert old.ask(post(CHAT, OK)).status == 200
        assert bench.run(operations.follow(small)).startswith("changed: limits, log_level")
        assert old.ask(post(CHAT, OK)).status == 200
    assert ask(gateway.port, post(CHAT, OK)).status == 413
    assert logging.getLogger().level == logging.DEBUG
    bench.run(operations.follow(gateway._settings))
    assert ask(gateway.port, post(CHAT, OK)).status == 200


def test_a_gateway_without_a_file_says_that_it_has_none(bench: Bench, tmp_path: Path) -> None:
    gateway = bench.gateway(str(tmp_path))
    with pytest.raises(ConfigurationError, match="no file"):
        bench.run(gateway.operations.reload())


@pytest.mark.parametrize("name", [each.name for each in msgspec.structs.fields(Settings)])
def test_every_setting_either_changes_or_is_refused(tmp_path: Path, name: str) -> None:
    old = prepare(tmp_path, "http://127.0.0.1:1")
    new = msgspec.structs.replace(old, **{name: object()})
    if name in CHANGEABLE:
        assert changes(old, new) == [name]
    else:
        with pytest.raises(ConfigurationError, match=rf"runs: {name};"):
            changes(old, new)


def test_an_upstream_that_stays_keeps_its_connections_and_its_record(
    bench: Bench, other: ScriptedEngine, tmp_path: Path
) -> None:
    upstreams = (Upstream(url=bench.engine.url), Upstream(url=other.url))
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=upstreams)
    for _ in range(2):
        assert ask(gateway.port, post(CHAT, OK)).status == 200
    connections = other.connections
    fewer: dict[str, Any] = {
        "upstreams": upstreams[1:],
        "health": Health(interval_ms=0, failures=9),
    }
    settings = msgspec.structs.replace(gateway._settings, **fewer)
    assert "health, upstreams" in bench.run(gateway.operations.follow(settings))
    assert ask(gateway.port, post(CHAT, OK)).status == 200
    assert other.connections == connections


def test_where_officers_are_set_a_signal_changes_no_setting(
    bench: Bench, other: ScriptedEngine, tmp_path: Path
) -> None:
    grant = Grant(actions=("reload-settings",), officers=("ada",), threshold=1)
    officers = {"ada": keys.create(tmp_path / "ada.key").public.hex()}
    orders = authority.Authority(officers=officers, grants=(grant,))
    settings = prepare(tmp_path / "gateway", bench.engine.url, admin=orders, control_port=0)
    running = Running(settings, tmp_path)
    reload(running, settings, "changed: nothing")
    changed = msgspec.structs.replace(settings, upstream=other.url)
    reload(running, changed, "reload refused: officers change this gateway")
    assert ask(running.port, post(CHAT, OK)).status == 200
    assert asked(other) == 0
    assert running.end() == 0


def test_reloads_again_and_again_under_load_lose_nothing(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=2)
    running = Running(settings, tmp_path)
    load = Load(running.port)
    for turn in range(5):
        changed = Limits(sweep_ms=50, connections=4000 + turn)
        reload(running, msgspec.structs.replace(settings, limits=changed))
    held = load.end()
    assert running.end() == 0
    assert "ERROR" not in running.log()
    check_log(settings, held)
