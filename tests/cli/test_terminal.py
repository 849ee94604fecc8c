"""What others wrote is shown as what it is, and nobody signs or believes what was not shown."""

import hashlib
import http.server
import importlib
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.appraisal.report import Fact, Report, refused
from lydite.appraisal.trust import Anchor
from lydite.cli import reports
from lydite.cli.main import complain, main
from lydite.errors import Reason
from lydite.messages.canonical import decode, encode
from lydite.messages.instruction import Outcome, OutcomePredicate
from lydite.messages.plain import plain
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.signing import keys, notes
from lydite.signing.dsse import Envelope, key_id, payload_of
from lydite.signing.keys import Signer, sign_envelope

REPAINT = "\r\x1b[2Kstop-serving: maintenance\n  signed by 1\x1b[8m\x9b2J\u202e\x7f"
GATEWAY = Signer(b"g" * 32)


def harmless(printed: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in printed)


@given(st.text())
def test_plain_text_is_one_printable_line_and_says_all(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_no_report_or_complaint_paints_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        tier=Tier.NONE,
        reason=Reason.PENDING,
        headline=REPAINT,
        detail=REPAINT,
        facts=(Fact(name=REPAINT, value=REPAINT),),
        caveats=(REPAINT,),
    )
    for each in (report, refused(Tier.CONTRAINDICATED, Reason.MALFORMED, REPAINT)):
        assert harmless(reports.render(each))
        assert len(reports.render(each).splitlines()) == len(reports.render(each).split("\n"))
    assert reports.render(report).count("\n") == 4
    complain(REPAINT, Reason.MALFORMED, REPAINT)
    said = capsys.readouterr().err
    assert harmless(said)
    assert said.count("\n") == 2


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    made = Anchor(
        name="p",
        provider_key="aa" * 32,
        gateway_key=GATEWAY.public.hex(),
        vrf_key="bb" * 32,
        log_vkey=str(notes.verifier_key("log.example", Signer(b"l" * 32))),
    )
    (tmp_path / "anchor.json").write_bytes(encode(made))
    return tmp_path / "anchor.json"


@pytest.fixture
def order(tmp_path: Path, anchor: Path) -> Path:
    """An order to reseal, by an officer who wants it to look like another."""
    made = tmp_path / "order.json"
    for name in ("ada", "bo"):
        keys.create(tmp_path / f"{name}.key")
    given = ["--anchor", str(anchor), "--key", str(tmp_path / "ada.key"), "--out", str(made)]
    long = "--set", "measurement=" + "e" * 200 + REPAINT
    assert main(["admin", "order", "reseal", *given, *long, "--why", REPAINT]) == 0
    return made


def agree(order: Path, *more: str) -> int:
    return main(["admin", "agree", str(order), "--key", str(order.parent / "bo.key"), *more])


def signers(order: Path) -> int:
    return len(decode(order.read_bytes().strip(), Envelope).signatures)


@pytest.mark.parametrize("said", ["", "n\n", "\n", "yesterday\n", "y\n", "Yes\n"])
def test_an_officer_sees_the_whole_order_before_signing_it(
    order: Path,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    seen: list[str] = []

    class Officer(io.StringIO):
        def readline(self, *_: Any) -> str:
            assert signers(order) == 1, "signed before it was asked"
            seen.append(capsys.readouterr().out)
            return said

    monkeypatch.setattr("sys.stdin", Officer())
    yes = said.strip().lower() in {"y", "yes"}
    assert agree(order) == (0 if yes else 2)
    assert signers(order) == (2 if yes else 1)
    (shown,) = seen
    assert harmless(shown)
    assert shown.startswith("reseal at gateway ")
    assert "e" * 200 + plain(REPAINT) in shown
    assert plain(REPAINT) in shown.splitlines()[0]


def test_an_officer_may_say_yes_beforehand(order: Path, capsys: Any) -> None:
    assert main(["admin", "show", str(order)]) == 0
    assert agree(order, "--yes") == 0
    assert signers(order) == 2
    assert harmless(capsys.readouterr().out)


class _Control(http.server.BaseHTTPRequestHandler):
    answer = b""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)


@pytest.fixture
def control() -> Iterator[str]:
    """A control port that answers what it is told to."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Control)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def outcome(order: Path, signer: Signer, about: bytes | None = None, detail: str = "done") -> bytes:
    statement = payload_of(decode(order.read_bytes().strip(), Envelope))
    said = OutcomePredicate(
        action="reseal",
        detail=detail,
        ending="done",
        entry=3,
        gateway=key_id(GATEWAY.public),
        time="2026-11-20T00:00:00.000Z",
    )
    digest = hashlib.sha256(statement).digest() if about is None else about
    return sign_envelope(encode(Outcome(subject=subject("x", digest), predicate=said)), signer)


def test_only_the_gateways_word_on_this_order_is_believed(
    order: Path, anchor: Path, control: str, capsys: pytest.CaptureFixture[str]
) -> None:
    send = ["admin", "send", str(order), "--anchor", str(anchor), "--to", control]
    lies = [
        (outcome(order, Signer(b"s" * 32)), "unknown-key"),
        (outcome(order, GATEWAY, bytes(32)), "bad-commitment"),
        (b"{}", "malformed"),
    ]
    for answer, reason in lies:
        _Control.answer = answer
        assert main(send) == 1
        assert f"({reason})" in capsys.readouterr().err
    _Control.answer = outcome(order, GATEWAY, detail=REPAINT)
    assert main(send) == 0
    assert harmless(capsys.readouterr().out)


def test_an_order_is_sent_to_its_own_gateway_only(order: Path, anchor: Path, control: str) -> None:
    stranger = anchor.with_name("stranger.json")
    key = GATEWAY.public.hex().encode()
    stranger.write_bytes(anchor.read_bytes().replace(key, b"cc" * 32))
    assert main(["admin", "send", str(order), "--anchor", str(stranger), "--to", control]) == 2


@pytest.mark.parametrize("room", ["lydite.auditor.recomputer", "lydite.gateway.loop"])
def test_no_log_line_of_a_service_paints_the_terminal(room: str) -> None:
    formatter = importlib.import_module(room)._Plain("lydite: %(message)s")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "engine: %s", (REPAINT,), None)
    assert formatter.format(record) == f"lydite: engine: {plain(REPAINT)}"
