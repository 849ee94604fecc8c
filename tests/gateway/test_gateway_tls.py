"""TLS towards clients and engines: who comes in, who is believed, and new files while it runs."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lydite.errors import ConfigurationError
from lydite.gateway import wire
from lydite.gateway.plane import front, tls
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Health, Tls, Upstream
from lydite.messages import compact
from tests.gateway.certificates import Authority, Files
from tests.gateway.conftest import Bench, prepare
from tests.gateway.raw_client import CHAT, Wire, ask, get, post
from tests.gateway.scripted_engine import ScriptedEngine, chat, chat_stream, plain, script

OK = json.dumps(script(plain(chat()))).encode()
MEMBER = "spiffe://example.org/balancer"


class SecureWire(Wire):
    """A client over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, name: str = "localhost") -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname=name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def trusting(authority: Authority, own: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        context.load_cert_chain(*own)
    return context


def secure(authority: Authority, **more: Any) -> Tls:
    return Tls(**authority.issue("gateway", "localhost")._asdict(), **more)


def outcome(port: int, context: ssl.SSLContext) -> int | str:
    """Return the status of one answer, or how it failed."""
    try:
        with SecureWire(port, context) as connection:
            return connection.ask(post(CHAT, OK)).status
    except (OSError, IndexError) as error:  # IndexError: closed before an answer
        return type(error).__name__


def test_answers_and_streams_pass_over_tls_byte_for_byte(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    gateway = bench.gateway(str(tmp_path), tls=secure(authority))
    with SecureWire(gateway.port, trusting(authority)) as connection:
        assert connection.socket.version() == "TLSv1.3"
        for raw in (plain(chat()), chat_stream()):
            body = json.dumps(script(raw)).encode()
            got = connection.ask(post(CHAT, body))
            assert got.whole
            if raw.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream"):
                receipt, answer = wire.from_stream(got.body)
            else:
                receipt, answer = wire.from_header(got.fields[wire.HEADER]), got.body
            compact.check(receipt, CHAT, body, answer)
        closing = connection.ask(post(CHAT, OK, b"Connection: close\r\n"))
        assert closing.status == 200
        assert connection.closed()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "served"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
)
def test_nothing_below_1_2_is_spoken(
    bench: Bench, tmp_path: Path, authority: Authority, version: ssl.TLSVersion, served: bool
) -> None:
    gateway = bench.gateway(str(tmp_path), tls=secure(authority))
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    assert (outcome(gateway.port, context) == 200) is served


def test_plain_requests_get_no_answer(bench: Bench, tmp_path: Path, authority: Authority) -> None:
    gateway = bench.gateway(str(tmp_path), tls=secure(authority))
    with Wire(gateway.port) as connection:
        connection.send(get(b"/v1/keys"))
        assert b"HTTP" not in connection._rest()


def test_a_client_without_an_accepted_name_is_not_served(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    given = secure(authority, client_ca=authority.file, client_names=(MEMBER, "Client.example"))
    gateway = bench.gateway(str(tmp_path), tls=given)
    stranger = Authority(tmp_path / "else", "else")
    cases: list[tuple[Files | None, bool]] = [
        (authority.issue("one", MEMBER), True),
        (authority.issue("two", "other.example", "client.EXAMPLE"), True),
        (authority.issue("three", "spiffe://example.org/Balancer"), False),
        (authority.issue("four", "client.example.org"), False),
        (authority.issue("five", "*.example"), False),
        (authority.issue("client.example"), False),  # a common name is no name
        (stranger.issue("six", MEMBER), False),
        (None, False),
    ]
    for own, served in cases:
        assert (outcome(gateway.port, trusting(authority, own)) == 200) is served, own
    assert len(gateway._journal) == 3


def test_a_refused_client_takes_no_place(
    bench: Bench,
    tmp_path: Path,
    authority: Authority,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    given = secure(authority, client_ca=authority.file, client_names=(MEMBER,))
    gateway = bench.gateway(str(tmp_path), tls=given)
    for _ in range(3):
        outcome(gateway.port, trusting(authority, authority.issue("other", "other.example")))
    eventually(lambda: not gateway.operations.front._desk.clients)


async def _serve_tls(engine: ScriptedEngine, context: ssl.SSLContext) -> int:
    engine._server = await asyncio.start_server(
        engine._serve, "127.0.0.1", 0, limit=1 << 24, ssl=context
    )
    engine.port = engine._server.sockets[0].getsockname()[1]
    return engine.port


def engine_context(authority: Authority, files: Files) -> ssl.SSLContext:
    """What an engine that knows its clients listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_an_engine_is_believed_only_by_its_certificate_and_sees_ours(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    engine = ScriptedEngine()
    files = authority.issue("engine", "127.0.0.1")
    port = bench.run(_serve_tls(engine, engine_context(authority, files)))
    ours = authority.issue("ours", MEMBER)
    elsewhere = Authority(tmp_path / "else", "else")
    url = f"https://127.0.0.1:{port}"
    cases = {
        "good": (Upstream(url=url, ca=authority.file, **ours._asdict()), 200),
        "stranger": (Upstream(url=url, ca=elsewhere.file, **ours._asdict()), 502),
        "system": (Upstream(url=url, **ours._asdict()), 502),
        "misnamed": (
            Upstream(url=f"https://localhost:{port}", ca=authority.file, **ours._asdict()),
            502,
        ),
        "nobody": (Upstream(url=url, ca=authority.file), 502),
    }
    for name, (upstream, status) in cases.items():
        gateway = bench.gateway(str(tmp_path / name), upstream=None, upstreams=(upstream,))
        assert ask(gateway.port, post(CHAT, OK)).status == status, name
    bench.run(engine.stop())


def test_checks_speak_tls_too(bench: Bench, tmp_path: Path, authority: Authority) -> None:
    engine = ScriptedEngine()
    files = authority.issue("engine", "127.0.0.1")
    port = bench.run(_serve_tls(engine, engine_context(authority, files)))
    ours = authority.issue("ours", MEMBER)
    upstream = Upstream(url=f"https://127.0.0.1:{port}", ca=authority.file, **ours._asdict())
    health = Health(interval_ms=30, failures=1)
    gateway = bench.gateway(str(tmp_path), upstream=None, upstreams=(upstream,), health=health)
    bench.run(asyncio.sleep(0.2))
    assert engine.seen
    assert gateway.operations.front.fleet.usable() == 1
    bench.run(engine.stop())


def test_new_certificates_are_shown_without_dropping_anyone(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    given = secure(authority, client_ca=authority.file)
    gateway = bench.gateway(str(tmp_path), tls=given)
    known = trusting(authority, authority.issue("client", "client.example"))
    with SecureWire(gateway.port, known) as old:
        first = old.socket.getpeercert(True)
        slow = json.dumps(script(chat_stream(), [50, 400], pause_s=0.15)).encode()
        old.send(post(CHAT, slow))
        authority.issue("gateway", "localhost")  # into the same files
        changed = front.prepare(gateway._settings)
        bench.run(gateway.operations.front.change(changed))
        assert old.read().whole
        assert old.ask(post(CHAT, OK)).status == 200
        with SecureWire(gateway.port, known) as new:
            assert new.socket.getpeercert(True) != first
            assert new.ask(post(CHAT, OK)).status == 200


def test_an_authority_that_is_taken_out_vouches_for_nobody_any_more(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    former = Authority(tmp_path / "former", "former")
    own = former.issue("client", "client.example")
    given = secure(authority, client_ca=former.file)
    gateway = bench.gateway(str(tmp_path), tls=given)
    context = trusting(authority, own)
    assert outcome(gateway.port, context) == 200
    changed = msgspec.structs.replace(
        gateway._settings, tls=msgspec.structs.replace(given, client_ca=authority.file)
    )
    bench.run(gateway.operations.front.change(front.prepare(changed)))
    assert outcome(gateway.port, context) != 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"certificate": "/nowhere"}, "/nowhere"),
        ({"key": "other"}, "with"),
        ({"client_ca": "/nowhere"}, "/nowhere"),
        ({"client_names": ("a",)}, "without client_ca"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_anything_starts(
    tmp_path: Path, authority: Authority, change: dict[str, Any], said: str
) -> None:
    if change.get("key") == "other":
        change = {"key": authority.issue("other", "other.example").key}
    given = msgspec.structs.replace(secure(authority), **change)
    settings = prepare(tmp_path / "gateway", "http://127.0.0.1:1", tls=given)
    with pytest.raises(ConfigurationError, match=said):
        Gateway(settings)


def test_a_half_made_handshake_does_not_last(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    limits = msgspec.structs.replace(prepare(tmp_path, None).limits, head_timeout_ms=200)
    gateway = bench.gateway(str(tmp_path), tls=secure(authority), limits=limits)
    with Wire(gateway.port) as connection:
        connection.send(b"\x16\x03\x01")
        assert connection.closed()


def test_whoever_does_not_finish_a_handshake_has_a_place_all_the_same(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    few = msgspec.structs.replace(
        prepare(tmp_path, None).limits, connections_per_peer=3, head_timeout_ms=60_000
    )
    gateway = bench.gateway(str(tmp_path), tls=secure(authority), limits=few)
    idle = [Wire(gateway.port) for _ in range(3)]
    idle[0].send(b"\x16\x03\x01")
    with Wire(gateway.port) as fourth:
        assert fourth.closed()
    for each in idle:
        each.socket.close()
    trusted = trusting(authority)
    while (got := outcome(gateway.port, trusted)) != 200:
        assert got in ("ConnectionResetError", "SSLEOFError", "SSLError"), got


def test_handshakes_that_fail_leave_no_place_behind(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    few = msgspec.structs.replace(prepare(tmp_path, None).limits, connections_per_peer=2)
    gateway = bench.gateway(str(tmp_path), tls=secure(authority), limits=few)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with Wire(gateway.port) as nonsense:
            nonsense.send(b"GET / HTTP/1.1\r\n\r\n")
            nonsense._rest()
        assert outcome(gateway.port, ssl.create_default_context()) == "SSLCertVerificationError"
    trusted = trusting(authority)
    while (got := outcome(gateway.port, trusted)) != 200:
        assert got in ("ConnectionResetError", "SSLEOFError", "SSLError"), got
    deadline = time.monotonic() + 5
    while len(list(Path("/proc/self/fd").iterdir())) > before + 1:  # one to the engine
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_gateway_that_stops_does_not_wait_for_handshakes(
    bench: Bench, tmp_path: Path, authority: Authority
) -> None:
    patient = msgspec.structs.replace(prepare(tmp_path, None).limits, head_timeout_ms=60_000)
    gateway = bench.gateway(str(tmp_path), tls=secure(authority), limits=patient)
    with Wire(gateway.port) as half:
        half.send(b"\x16\x03\x01")
        time.sleep(0.1)
        began = time.monotonic()
        bench.stop(gateway)
        assert time.monotonic() - began < 10
        assert half.closed()


def test_names_are_compared_as_they_are_meant() -> None:
    allowed = tls.Allowed(["Client.Example", "spiffe://Example.org/Path"])

    def admits(kind: str, name: str) -> bool:
        return allowed.admits({"subjectAltName": ((kind, name),)})

    assert admits("DNS", "client.example")
    assert admits("URI", "spiffe://example.ORG/Path")
    assert not admits("URI", "spiffe://example.org/path")
    assert not admits("email", "client.example")
    assert not allowed.admits(None)
    assert not allowed.admits({})
