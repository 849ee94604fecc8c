"""Accounts of egress: charged before bytes leave, replaced by scores, kept over a crash."""

import asyncio
import base64
import hashlib
import http.client
import itertools
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import Reason, StorageError
from lydite.evidence.egress.claims import Outflow
from lydite.gateway import wire
from lydite.gateway.egress import egress_notes
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.egress.pacing import Pacer, gap_micro
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Egress
from lydite.messages import egress
from lydite.messages.canonical import decode, encode
from lydite.messages.compact import check
from lydite.messages.egress import Score, ScorePredicate
from lydite.messages.finding import Finding
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer, sign_envelope
from tests.gateway.conftest import Bench, prepare
from tests.gateway.raw_client import CHAT, Got, Wire, get, post
from tests.gateway.raw_client import ask as ask_port
from tests.gateway.scripted_engine import chunked, plain, script
from tests.gateway.test_gateway_crash import Process

METER = Signer(b"m" * 32)
TOKEN = "the token of the meter"
KEY = b"k" * 32
BEARER = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
MICRO = 1_000_000


def limits(**changes: Any) -> Egress:
    base: dict[str, Any] = {"meters": (METER.public.hex(),), "token": TOKEN}
    return Egress(**{**base, **changes})


def say(gateway: Gateway, who: str = "someone", body: bytes | None = None) -> Got:
    request = json.dumps(script(plain(b'{"text": "hello"}'))).encode() if body is None else body
    with Wire(gateway.port) as line:
        return line.ask(post(CHAT, request, b"Authorization: Bearer %s\r\n" % who.encode()))


def ask(gateway: Gateway, path: bytes, body: bytes | None = None, token: bytes = BEARER) -> Got:
    with Wire(gateway.port) as line:
        return line.ask(get(path, token) if body is None else post(path, body))


def waiting(gateway: Gateway) -> list[int]:
    found: list[int] = json.loads(ask(gateway, b"/v1/egress/unscored").body)
    return found


def accounts(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(gateway, b"/v1/egress/accounts").body)
    return found


def outflow(gateway: Gateway, entry: int) -> Outflow:
    return decode(ask(gateway, b"/v1/egress/openings/%d" % entry).body, Outflow)


def score(note: Outflow, bits: int, by: Signer = METER) -> bytes:
    opened = hashlib.sha256(base64.b64decode(note.opening)).digest()
    said = ScorePredicate(
        entry=note.entry,
        receipt_id=note.receipt_id,
        session=note.session,
        tokens_micro=MICRO * bits,
        ending_micro=0,
        frame_micro=0,
        coarse_micro=0,
        since=note.entry,
        finding=Finding(kind="egress", tier=Tier.NONE, reason=Reason.RECORDED),
        meter=by.keyid,
        issued="2026-11-20T00:00:00.000Z",
    )
    return sign_envelope(encode(Score(subject=subject("opening", opened), predicate=said)), by)


def key_of(gateway: Gateway) -> bytes:
    return egress_notes.key_of(gateway._stamp, "accounts")


def settle(gateway: Gateway, bits: int) -> None:
    """Score everything that waits."""
    for entry in waiting(gateway):
        assert (
            ask(gateway, b"/v1/egress/scores", score(outflow(gateway, entry), bits)).status == 200
        )


def notices(gateway: Gateway) -> list[str]:
    """What the log says about egress, in order."""
    found = []
    for number in itertools.count(1):
        got = ask(gateway, b"/v1/log/envelopes/%d" % number)
        if got.status != 200:
            return found
        payload = payload_of(msgspec.json.decode(got.body, type=Envelope))
        if b"egress-notice" in payload:
            found.append(egress.parse_notice(payload).predicate.event)
    return found


def test_an_answer_is_charged_by_its_size_until_its_score_comes(bench: Bench) -> None:
    gateway = bench.gateway("charged", egress=limits())
    assert say(gateway).status == 200
    before = accounts(gateway)
    assert before["waitingMicro"] > 0
    (entry,) = waiting(gateway)
    note = outflow(gateway, entry)
    assert note.session != "anonymous"
    assert b"hello" in base64.b64decode(json.loads(base64.b64decode(note.opening))["response"])
    assert ask(gateway, b"/v1/egress/scores", score(note, 3)).status == 200
    after = accounts(gateway)
    assert after["waitingMicro"] == 0
    assert after["chargedMicro"] - before["chargedMicro"] == 3 * MICRO
    assert waiting(gateway) == []


def test_a_session_that_spent_its_budget_is_stopped_until_it_is_raised(bench: Bench) -> None:
    gateway = bench.gateway("stopped", egress=limits(budget_bits_session=10_000))
    for bits in (4_000, 2_000, 4_000):
        assert say(gateway).status == 200
        settle(gateway, bits)
    refused = say(gateway)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (429, "egress-budget")
    assert say(gateway, "another").status == 200
    session = next(row["session"] for row in accounts(gateway)["sessions"] if row["stopped"])
    assert gateway.egress is not None
    said = bench.run(gateway.egress.set_budget("session", session, 40_000))
    assert "40000 bits" in said
    assert say(gateway).status == 200
    bench.run(asyncio.sleep(0.2))
    assert notices(gateway) == ["alarm", "stop", "budget"]


def test_the_day_has_a_budget_of_its_own(bench: Bench) -> None:
    gateway = bench.gateway("day", egress=limits(budget_bits_day=9_000))
    for who in ("one", "two"):
        assert say(gateway, who).status == 200
        settle(gateway, 5_000)
    assert say(gateway, "three").status == 429


def test_answers_that_wait_for_scores_are_bounded(bench: Bench) -> None:
    gateway = bench.gateway("waiting", egress=limits(unscored_bits_session=200))
    assert say(gateway).status == 200
    refused = say(gateway)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "egress-waiting")
    settle(gateway, 1)
    assert say(gateway).status == 200


def test_a_silent_meter_closes_the_gate_where_settings_say_so(bench: Bench) -> None:
    gateway = bench.gateway("silent", egress=limits(silent_ms=200))
    assert say(gateway).status == 200
    bench.run(asyncio.sleep(0.3))
    refused = say(gateway)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "egress-silent")
    settle(gateway, 1)
    assert say(gateway).status == 200


def test_only_a_meter_reads_answers_and_only_its_key_scores(bench: Bench) -> None:
    gateway = bench.gateway("strangers", egress=limits())
    assert say(gateway).status == 200
    (entry,) = waiting(gateway)
    for path in (b"/v1/egress/unscored", b"/v1/egress/accounts", b"/v1/egress/openings/2"):
        assert ask(gateway, path, token=b"").status == 401
    note = outflow(gateway, entry)
    forged = score(note, 0, Signer(b"x" * 32))
    assert ask(gateway, b"/v1/egress/scores", forged).status in (401, 403)
    assert waiting(gateway) == [entry]
    assert ask(gateway, b"/v1/egress/scores", score(note, 1)).status == 200
    assert ask(gateway, b"/v1/egress/scores", score(note, 1)).status == 409  # not twice


def test_no_charge_is_forgotten_when_the_process_dies(bench: Bench, tmp_path: Path) -> None:
    """What is on disk at any moment is all that a killed process leaves."""
    gateway = bench.gateway("killed", egress=limits())
    assert say(gateway).status == 200
    settle(gateway, 700)
    assert say(gateway).status == 200
    now = accounts(gateway)
    shutil.copytree(bench.directory / "killed" / "state" / "egress", tmp_path / "egress")
    left = Accounts(tmp_path / "egress" / "accounts.jsonl", key_of(gateway))
    assert left.charged_by_all(now["day"]) == now["chargedMicro"]
    assert left.waiting() == now["waitingMicro"] > 0
    left.close_file()


def test_a_stream_is_charged_before_it_leaves(tmp_path: Path) -> None:
    path = tmp_path / "accounts.jsonl"
    first = Accounts(path, KEY)
    first.open("a" * 32, "s", 7, 1_000)
    first.more("a" * 32, 5_000)
    first.close_file()  # and the process dies
    second = Accounts(path, KEY)
    assert second.waiting("s") == 5_000
    assert second.running() == ["a" * 32]
    second.close("a" * 32, 0, 5_000)  # no receipt: no score will come
    assert (second.waiting("s"), second.charged(7, "s")) == (0, 5_000)


def test_a_torn_line_is_left_out_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "accounts.jsonl"
    first = Accounts(path, KEY)
    first.open("a" * 32, "s", 7, 1_000)
    first.close("a" * 32, 3, 900, 50)
    first.close_file()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"k":"score","ent')
    torn = Accounts(path, KEY)
    assert (torn.waiting("s"), torn.charged(7, "s")) == (900, 50)
    torn.close_file()
    path.write_bytes(b"garbage\n" + whole)
    with pytest.raises(StorageError):
        Accounts(path, KEY)


class _Listener:
    def __init__(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.over = False

    def write(self, data: bytes) -> None:
        self.pieces.append((time.monotonic(), data))

    def finished(self, *, keep: bool) -> None:
        self.over = True


def test_paced_bytes_leave_on_a_grid_in_pieces_of_few_sizes(bench: Bench) -> None:
    async def play() -> tuple[_Listener, Pacer]:
        listener = _Listener()
        pacer = Pacer(listener, asyncio.get_running_loop(), 50, 256)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        pacer.write(head)
        for number in range(20):
            pacer.write(b"3\r\n%03d\r\n" % number)
            await asyncio.sleep(0.01)
        pacer.write(b"0\r\n\r\n")
        pacer.finished(keep=True)
        await asyncio.sleep(0.12)
        return listener, pacer

    listener, pacer = bench.run(play())
    assert listener.over
    assert 3 <= len(listener.pieces) <= 7
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(listener.pieces)]
    assert all(abs(gap / 0.05 - round(gap / 0.05)) < 0.4 for gap in gaps)
    assert all(len(data) % 256 == 0 for _, data in listener.pieces[1:])
    assert pacer.timing_micro >= len(listener.pieces) * gap_micro(1)


def test_a_paced_answer_reads_the_same_and_its_receipt_holds(bench: Bench) -> None:
    gateway = bench.gateway("paced", egress=limits(pace_ms=20, pad_bytes=64))
    events = [b'data: {"n":%d}\n\n' % n for n in range(5)] + [b"data: [DONE]\n\n"]
    request = json.dumps(script(chunked(events)))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    connection.request("POST", CHAT.decode(), request)
    body = connection.getresponse().read()
    connection.close()
    compact, rest = wire.from_stream(body)
    assert rest == b"".join(events)
    check(compact, CHAT, request.encode(), rest)


def test_a_gateway_that_was_killed_remembers_what_left(bench: Bench) -> None:
    """Whole answers and half a stream, then ``kill -9``: nothing that a client read is free."""
    directory = bench.directory / "murdered"
    settings = prepare(directory, bench.engine.url, egress=limits())
    first = Process(settings, directory)
    events = [b'data: {"n":%d}\n\n' % n for n in range(50)]
    slow = json.dumps(script(chunked(events), cuts=[200], pause_s=1))
    read = 0
    for _ in range(3):
        with Wire(first.port) as line:
            got = line.ask(post(CHAT, json.dumps(script(plain(b"x" * 1000))).encode()))
            assert got.status == 200
    with Wire(first.port) as line:
        line.send(post(CHAT, slow.encode()))
        read = len(line.socket.recv(1 << 16))
        first.end(signal.SIGKILL)
    second = Process(settings, directory)
    got = ask_port(second.port, get(b"/v1/egress/accounts", BEARER))
    found = json.loads(got.body)
    assert len(json.loads(ask_port(second.port, get(b"/v1/egress/unscored", BEARER)).body)) == 3
    charged = found["chargedMicro"] + found["waitingMicro"]
    assert read > 100
    assert charged >= 8 * MICRO * read
    second.end(signal.SIGTERM)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 9_000)), max_size=40)
)
def test_accounts_agree_with_the_obvious_ones(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    """The twin: every charge in a list, added up when asked."""
    path = tmp_path_factory.mktemp("twin") / "accounts.jsonl"
    kept = Accounts(path, KEY)
    charges: dict[str, tuple[str, int, str]] = {}
    for number, (kind, who, micro) in enumerate(steps):
        name, session = f"{number:032x}", f"s{who}"
        running = [key for key, (_, _, state) in charges.items() if state == "running"]
        waiting = kept.unscored()
        if kind <= 1 or not (running or waiting):
            kept.open(name, session, 7, micro)
            charges[name] = (session, micro, "running")
        elif kind == 2 and running:
            kept.more(running[0], micro)
            charges[running[0]] = (charges[running[0]][0], micro, "running")
        elif kind == 3 and running:
            kept.close(running[0], number + 1, micro)
            charges[running[0]] = (charges[running[0]][0], micro, str(number + 1))
        elif waiting:
            kept.score(waiting[0], micro)
            key = next(key for key, each in charges.items() if each[2] == str(waiting[0]))
            charges[key] = (charges[key][0], micro, "scored")
    kept.close_file()
    again = Accounts(path, KEY)
    for found in (kept, again):
        for session in ("s0", "s1", "s2"):
            mine = [each for each in charges.values() if each[0] == session]
            done = sum(micro for _, micro, state in mine if state == "scored")
            left = sum(micro for _, micro, state in mine if state != "scored")
            assert (found.charged(7, session), found.waiting(session)) == (done, left)
        everything = sum(micro for _, micro, _ in charges.values())
        assert found.charged_by_all(7) + found.waiting() == everything
    again.close_file()
