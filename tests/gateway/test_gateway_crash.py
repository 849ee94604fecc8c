"""Killed, full or restarted: every receipt that was handed out is in the log, and none twice."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from lydite import config as configuration
from lydite.errors import ConfigurationError, StorageError
from lydite.gateway import wire
from lydite.gateway.ledger.generations import unsealed_secret
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.records import opening_of
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Durability, Settings
from lydite.messages import declaration, entry, opening
from lydite.messages.canonical import encode
from lydite.messages.compact import Compact
from lydite.messages.receipt import parse
from lydite.signing import keys
from lydite.signing.dsse import open_envelope
from lydite.signing.keys import sign_envelope
from lydite.tlog.store import LogStore
from tests.gateway.conftest import ORIGIN, TOKEN, Bench, prepare
from tests.gateway.raw_client import CHAT, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, plain, script

WORKERS = 6


class Process:
    """``python -m lydite.gateway`` on settings in a file."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        config = directory / "gateway.json"
        config.write_bytes(msgspec.json.encode(settings))
        self.errors = (directory / "errors.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lydite.cli.main", "gateway", "run", str(config)],
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
        return code


def hammer(port: int, held: list[Compact], stop: threading.Event, streamed: bool) -> None:
    """Ask until the gateway is gone, and keep each receipt as soon as its bytes are there."""
    body = json.dumps(script(chat_stream() if streamed else plain(chat()))).encode()
    try:
        with Wire(port) as connection:
            while not stop.is_set():
                got = connection.ask(post(CHAT, body))
                if not streamed:
                    held.append(wire.from_header(got.fields[wire.HEADER]))
                elif got.whole:
                    held.append(wire.from_stream(got.body)[0])
    except (OSError, IndexError, KeyError):
        return


def check_log(settings: Settings, held: list[Compact]) -> int:
    """Hold what clients have against what is on disk, and return the size of the log."""
    state = Path(settings.state)
    signer = keys.load(Path(settings.keys.log))
    journal = Journal(state / "journal")
    with LogStore.open(state / "log", ORIGIN, signer) as log:
        leaves = [log.entry(index) for index in range(log.size)]
    found = [entry.parse(leaf).sha256 for leaf in leaves]
    assert len(set(found)) == len(found) == len(journal)
    for number, name in enumerate(found, start=1):
        assert hashlib.sha256(journal.read(number).statement()).hexdigest() == name
    vault = Vault(state / "vault", unsealed_secret(state / "vault.secret"), 1 << 40)
    for receipt in held:
        assert found[receipt.entry - 1] == receipt.statement
        assert journal.number_of(receipt.id) == receipt.entry
        opening.check(
            opening_of(vault.read(receipt.entry)), parse(journal.read(receipt.entry).body)
        )
    vault.close()
    journal.close()
    return len(found)


def kill_in_a_loop(
    bench: Bench, directory: Path, rounds: int, durability: Durability = "group-fsync"
) -> None:
    settings = prepare(directory, bench.engine.url, durability=durability)
    held: list[Compact] = []
    chance = random.Random(rounds)
    for _ in range(rounds):
        process = Process(settings, directory)
        for receipt in held[-5:]:
            said = ask(process.port, get(b"/v1/receipts/" + receipt.id.encode()))
            assert json.loads(said.body)["index"] == receipt.entry
        stop = threading.Event()
        before = len(held)
        workers = [
            threading.Thread(target=hammer, args=(process.port, held, stop, number % 2 == 0))
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        while len(held) < before + 20:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.2)
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        stop.set()
        for worker in workers:
            worker.join()
    assert Process(settings, directory).end(signal.SIGTERM) == 0
    assert len(held) >= 20 * rounds
    assert check_log(settings, held) > len(held)


@pytest.mark.parametrize("durability", get_args(Durability))
def test_a_killed_gateway_has_every_receipt_that_it_handed_out(
    bench: Bench, tmp_path: Path, durability: Durability
) -> None:
    kill_in_a_loop(bench, tmp_path, 5, durability)


@pytest.mark.slow
def test_a_gateway_killed_forty_times_has_them_all(bench: Bench, tmp_path: Path) -> None:
    kill_in_a_loop(bench, tmp_path, 40)


def test_a_gateway_that_is_asked_to_end_finishes_what_it_has_begun(
    bench: Bench, tmp_path: Path
) -> None:
    settings = prepare(tmp_path, bench.engine.url)
    process = Process(settings, tmp_path)
    raw = chat_stream()
    body = json.dumps(script(raw, cuts=[200, len(raw) - 50], pause_s=0.1)).encode()
    with Wire(process.port) as connection, Wire(process.port) as idle:
        assert idle.ask(get(b"/v1/keys")).status == 200
        connection.send(post(CHAT, body))
        time.sleep(0.05)
        process.process.terminate()
        got = connection.read()
        receipt, _ = wire.from_stream(got.body)
        assert connection.closed()
        assert idle.closed()
    assert process.end(signal.SIGTERM) == 0
    check_log(settings, [receipt])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def check_full_then_free(bench: Bench, process: Process, settings: Settings, free: object) -> None:
    held: list[Compact] = []
    body = json.dumps(script(plain(chat("x" * 20_000)))).encode()
    with Wire(process.port) as connection:
        while (got := connection.ask(post(CHAT, body))).status == 200:
            held.append(wire.from_header(got.fields[wire.HEADER]))
        assert got.status == 503
        assert json.loads(got.body)["error"]["code"] == "disk-full"
        assert not [name for name in got.fields if name.startswith(wire.OURS)]
        asked = len(bench.engine.seen)
        assert connection.ask(post(CHAT, body)).status == 503
        assert len(bench.engine.seen) == asked, "the engine works for an answer without receipt"
        assert callable(free)
        free()
        deadline = time.monotonic() + 5
        while (got := connection.ask(post(CHAT, body))).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        held.append(wire.from_header(got.fields[wire.HEADER]))
    assert process.end(signal.SIGTERM) == 0
    assert check_log(settings, held) == len(held) + 1


def test_a_full_disk_stops_receipts_until_there_is_room(bench: Bench, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2_000_000))
    settings = prepare(small_disk / "gateway", bench.engine.url)
    process = Process(settings, small_disk)
    check_full_then_free(bench, process, settings, filler.unlink)


def test_a_file_that_may_not_grow_stops_receipts_until_it_may(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url)
    process = Process(settings, tmp_path)
    pid, everything = process.process.pid, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    check_full_then_free(
        bench,
        process,
        settings,
        lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, everything),
    )


def test_a_stream_whose_receipt_cannot_be_kept_ends_in_an_error(
    bench: Bench, tmp_path: Path
) -> None:
    settings = prepare(tmp_path, bench.engine.url)
    process = Process(settings, tmp_path)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    _, got = play(process.port, chat_stream())
    assert got.whole
    assert b'"disk-full"' in got.body
    assert b"\ndata: [DONE]" not in got.body
    assert b"\n: lydite-receipt" not in got.body
    process.end(signal.SIGKILL)


def test_a_crash_between_journal_and_log_is_mended(bench: Bench, tmp_path: Path) -> None:
    """The journal is written first: what only it has is entered at the next start, once."""
    gateway = bench.gateway("mended")
    receipts = [wire.from_header(play(gateway.port, plain(chat()))[1].fields[wire.HEADER])] * 1
    settings = gateway._settings
    bench.stop(gateway)
    state = Path(settings.state)
    kept = state / "log.kept"
    shutil.copytree(state / "log", kept)
    gateway = bench.gateway("mended")
    receipts.append(wire.from_header(play(gateway.port, plain(chat()))[1].fields[wire.HEADER]))
    bench.stop(gateway)
    shutil.rmtree(state / "log")
    kept.rename(state / "log")
    gateway = bench.gateway("mended")
    bench.stop(gateway)
    assert check_log(settings, receipts) == 3


@pytest.mark.parametrize("part", ["journal", "log"])
def test_a_journal_that_is_not_the_logs_stops_the_start(bench: Bench, part: str) -> None:
    gateway = bench.gateway(f"torn-{part}")
    play(gateway.port, plain(chat()))
    settings = gateway._settings
    bench.stop(gateway)
    other = bench.gateway(f"other-{part}")
    for _ in range(3):
        play(other.port, plain(chat()))
    bench.stop(other)
    ours, theirs = (Path(each._settings.state) / "journal" for each in (gateway, other))
    before = (ours / "00000000.seg").read_bytes()
    if part == "journal":
        (ours / "00000000.seg").write_bytes(b"")
    else:
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)
    changed = (ours / "00000000.seg").read_bytes()
    with pytest.raises(StorageError, match="journal"):
        bench.gateway(f"torn-{part}")
    assert (ours / "00000000.seg").read_bytes() == changed, "evidence was overwritten"
    shutil.rmtree(ours)
    ours.mkdir()
    (ours / "00000000.seg").write_bytes(before)
    bench.stop(bench.gateway(f"torn-{part}"))
    check_log(settings, [])


def test_two_gateways_cannot_share_a_state(bench: Bench, gateway: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="in use"):
        Gateway(gateway._settings)


def test_settings_are_read_from_toml_and_json_and_refused_by_name(tmp_path: Path) -> None:
    settings = prepare(tmp_path, "http://127.0.0.1:1")
    as_json, as_toml = tmp_path / "a.json", tmp_path / "a.toml"
    as_json.write_bytes(msgspec.json.encode(settings))
    as_toml.write_text(
        f"""
        upstream = "{settings.upstream}"
        state = "{settings.state}"
        declaration = "{settings.declaration}"
        origin = "{settings.origin}"
        port = 0
        audit_token = "{settings.audit_token}"
        checkpoint_ms = {settings.checkpoint_ms}
        limits.sweep_ms = {settings.limits.sweep_ms}
        health.interval_ms = {settings.health.interval_ms}
        [keys]
        gateway = "{settings.keys.gateway}"
        provider = "{settings.keys.provider}"
        log = "{settings.keys.log}"
        vrf = "{settings.keys.vrf}"
        """
    )
    assert (
        configuration.load(as_json, Settings) == configuration.load(as_toml, Settings) == settings
    )
    as_json.write_bytes(b'{"upstrem": "x"}')
    with pytest.raises(ConfigurationError, match="upstrem"):
        configuration.load(as_json, Settings)
    with pytest.raises(ConfigurationError, match="cannot read"):
        configuration.load(tmp_path / "none.toml", Settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upstream": "ftp://x"}, "upstream"),
        ({"upstream": "http://x/v1"}, "bare origin"),
        ({"upstream": None}, "one upstream, or several"),
        ({"declaration": "/nowhere"}, "declaration"),
        ({"policy": "quorum some\n"}, "witnesses"),
        ({"auditors": ("zz",)}, "auditor key"),
        ({"auditors": ("00",)}, "auditor key"),
        ({"origin": "other"}, "."),
    ],
)
def test_settings_that_cannot_be_used_say_which(
    bench: Bench, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    settings = prepare(tmp_path, bench.engine.url)
    if "origin" in changes:
        gateway = Gateway(settings)
        bench.run(gateway.start())
        bench.run(gateway.stop())

    async def start() -> None:
        async with Gateway(msgspec.structs.replace(settings, **changes)):
            pass

    with pytest.raises(Exception, match=said) as caught:
        bench.run(start())
    assert type(caught.value).__module__ == "lydite.errors"
    assert TOKEN not in str(caught.value)


def redeclare(settings: Settings) -> None:
    """Put a genuine declaration of another model in the place of the one there is."""
    provider = keys.load(Path(settings.keys.provider))
    path = Path(settings.declaration)
    declared = declaration.parse(
        open_envelope(path.read_bytes(), {provider.keyid: provider.public}, ())
    )
    other = msgspec.structs.replace(declared.predicate, dtype="float16")
    statement = msgspec.structs.replace(declared, predicate=other)
    path.write_bytes(sign_envelope(encode(statement), provider))


def test_a_log_is_never_continued_under_another_declaration(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url)
    process = Process(settings, tmp_path)
    play(process.port, plain(chat()))
    assert process.end(signal.SIGTERM) == 0
    before = check_log(settings, [])
    first = Path(settings.declaration).read_bytes()
    redeclare(settings)
    command = [sys.executable, "-m", "lydite.cli.main", "gateway", "run"]
    refused = subprocess.run(
        [*command, str(tmp_path / "gateway.json")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "a new log, in a new state directory, with a new origin" in refused.stderr
    assert check_log(settings, []) == before
    shutil.rmtree(Path(settings.state) / "log")  # as when it was killed before its first entry
    with pytest.raises(ConfigurationError, match="another declaration"):
        bench.run(Gateway(settings).start())

    elsewhere = msgspec.structs.replace(settings, state=str(tmp_path / "new"), origin="new/log")
    Process(elsewhere, tmp_path).end(signal.SIGTERM)
    Path(settings.declaration).write_bytes(first)
    again = Process(settings, tmp_path)
    play(again.port, plain(chat()))
    again.end(signal.SIGTERM)
    assert check_log(settings, []) == before + 1
