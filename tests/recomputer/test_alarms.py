"""Alarms: logged before anything is done; shadow first; only the error budget shuts down."""

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest

from lydite.auditor import alarms
from lydite.auditor.alarms import Against, Alarms, Command, Found
from lydite.auditor.ledger import Ledger
from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.laboratory.world import key
from lydite.messages import alarm
from lydite.messages.alarm import Mode, Predicate
from lydite.signing.dsse import payload_of
from lydite.tlog.store import LogStore

ACCUSED = Found("accusation", Reason.INCONSISTENT_TOKENS, "log10 E 9.0", 9000, 4000, "a" * 64)
SILENT = Found("fault", Reason.UNAVAILABLE, "nothing for 60 s")


class Switch:
    """A power switch that fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[tuple[str, str]] = []

    def shut_down(self, provider: str, why: str) -> str:
        self.told.append((provider, why))
        if len(self.told) <= self.failures:
            raise UnavailableError("the switch is stuck")
        return "off"


class Room:
    """A ledger on disk, and alarms that may be made again as after a restart."""

    def __init__(self, directory: Path) -> None:
        log = LogStore.open(directory / "log", "alarms.test", key("log"))
        self.ledger = Ledger(directory / "statements", log, key("recomputer"))
        self.switch = Switch()

    def alarms(self, mode: Mode) -> Alarms:
        return Alarms(self.ledger, mode)

    def against(self) -> Against:
        return Against("mill", "ed25519:mill", "b" * 64, self.switch)

    def said(self) -> list[Predicate]:
        found = self.ledger.of_kind("alarm")
        return [alarm.parse(payload_of(each.parsed())).predicate for each in found]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_in_shadow_mode_an_alarm_only_says_what_would_be_done(room: Room) -> None:
    bells = room.alarms("shadow")
    assert bells.raise_for(room.against(), ACCUSED)
    assert room.switch.told == []
    assert [(each.mode, each.action, each.stage) for each in room.said()] == [
        ("shadow", "shut-down", "raised")
    ]
    assert not bells.stops("ed25519:mill")
    assert "would shut it down (shadow mode)" in alarms.words("mill", room.said()[0])


def test_an_accusation_that_is_enforced_shuts_down_once(room: Room) -> None:
    bells = room.alarms("enforce")
    for _ in range(3):
        bells.raise_for(room.against(), ACCUSED)
    assert room.switch.told == [("ed25519:mill", "inconsistent-tokens")]
    assert [each.stage for each in room.said()] == ["raised", "done"]
    assert bells.stops("ed25519:mill")
    assert not bells.stops("ed25519:another")


def test_the_alarm_is_in_the_log_before_the_power_is_cut(room: Room) -> None:
    before: list[str] = []

    def shut_down(provider: str, why: str) -> str:
        before.extend(each.stage for each in room.said())
        return "off"

    room.switch.shut_down = shut_down  # type: ignore[method-assign]
    room.alarms("enforce").raise_for(room.against(), ACCUSED)
    assert before == ["raised"]


def test_a_shutdown_that_fails_is_tried_again_until_it_is_done(room: Room) -> None:
    room.switch.failures = 2
    bells = room.alarms("enforce")
    for _ in range(5):
        bells.raise_for(room.against(), ACCUSED)
    assert len(room.switch.told) == 3
    assert [each.stage for each in room.said()] == ["raised", "failed", "done"]


def test_a_restart_repeats_no_alarm_and_forgets_no_shutdown(room: Room) -> None:
    room.switch.failures = 1
    room.alarms("enforce").raise_for(room.against(), ACCUSED)
    again = room.alarms("enforce")
    assert again.stops("ed25519:mill")
    assert not again.raise_for(room.against(), ACCUSED)
    assert [each.stage for each in room.said()] == ["raised", "failed", "done"]


def test_what_was_only_said_in_shadow_is_done_once_it_is_enforced(room: Room) -> None:
    room.alarms("shadow").raise_for(room.against(), ACCUSED)
    room.alarms("enforce").raise_for(room.against(), ACCUSED)
    assert [(each.mode, each.stage) for each in room.said()] == [
        ("shadow", "raised"),
        ("enforce", "raised"),
        ("enforce", "done"),
    ]


@pytest.mark.parametrize("mode", ["shadow", "enforce"])
def test_no_fault_ever_shuts_a_server_down(room: Room, mode: Mode) -> None:
    bells = room.alarms(mode)
    for reason in Reason:
        bells.raise_for(room.against(), Found("fault", reason, "something"))
    assert room.switch.told == []
    assert {each.action for each in room.said()} == {"stop-routing"}
    assert bells.stops("ed25519:mill") == (mode == "enforce")
    bells.clear("ed25519:mill")
    assert not bells.stops("ed25519:mill")


def test_a_fault_that_comes_back_is_raised_again_and_one_that_stays_is_not(room: Room) -> None:
    bells = room.alarms("shadow")
    assert bells.raise_for(room.against(), SILENT)
    assert not bells.raise_for(room.against(), SILENT)
    bells.clear("ed25519:mill", SILENT.reason)
    assert not bells.raise_for(room.against(), SILENT)
    bells.clear("ed25519:mill")
    assert bells.raise_for(room.against(), SILENT)


def test_an_accusation_is_not_cleared_by_a_round_without_faults(room: Room) -> None:
    bells = room.alarms("enforce")
    bells.raise_for(room.against(), ACCUSED)
    bells.clear("ed25519:mill")
    assert bells.stops("ed25519:mill")


def test_without_a_switch_the_log_says_that_nothing_could_be_done(room: Room) -> None:
    against = Against("mill", "ed25519:mill", "b" * 64, None)
    room.alarms("enforce").raise_for(against, ACCUSED)
    assert [each.stage for each in room.said()] == ["raised", "failed"]


def test_a_program_is_the_switch(room: Room, tmp_path: Path) -> None:
    touch = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
    program = Command([sys.executable, "-c", touch, str(tmp_path / "off")])
    against = Against("mill", "ed25519:mill", "b" * 64, program)
    room.alarms("enforce").raise_for(against, ACCUSED)
    assert (tmp_path / "off").read_text() == "ed25519:mill inconsistent-tokens"
    with pytest.raises(UnavailableError):
        Command(["false"]).shut_down("ed25519:mill", "x")
    with pytest.raises(UnavailableError):
        Command([str(tmp_path / "missing")]).shut_down("ed25519:mill", "x")


def test_hearers_are_told_and_a_deaf_one_stops_nobody(room: Room, tmp_path: Path) -> None:
    heard: list[bytes] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    hear = (
        alarms.command(["false"]),
        alarms.webhook(f"http://127.0.0.1:{server.server_address[1]}/alarm"),
        alarms.command([sys.executable, "-c", copy, str(tmp_path / "alarm.json")]),
    )
    Alarms(room.ledger, "shadow", hear).raise_for(room.against(), ACCUSED)
    server.shutdown()
    server.server_close()
    assert heard == [(tmp_path / "alarm.json").read_bytes()]
    assert json.loads(heard[0])["predicate"]["weight"] == "accusation"


@pytest.mark.parametrize("url", ["http://example.com/", "https://127.0.0.1/", "file:///x", "x"])
def test_alarms_are_posted_to_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigurationError):
        alarms.webhook(url)
