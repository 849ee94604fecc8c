"""The recomputer's own log: what a client was given is in it, whenever the process is killed."""

import concurrent.futures
import json
import threading
from pathlib import Path

import pytest

from lydite import config
from lydite.auditor.ledger import Ledger
from lydite.auditor.settings import Recomputer
from lydite.cli.main import main
from lydite.errors import Reason, StorageError, UnavailableError
from lydite.laboratory.world import key
from lydite.messages import cannot, entry
from lydite.signing.dsse import open_envelope
from lydite.tlog.store import LogStore
from tests.recomputer.conftest import RECOMPUTER, Stage


def ledger(directory: Path) -> Ledger:
    log = LogStore.open(directory / "log", "ledger.test", key("log"))
    return Ledger(directory / "statements", log, key("recomputer"))


def test_a_statement_is_entered_once_and_found_again(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    first, other = kept.enter("alarm", b'{"a":1}'), kept.enter("cannot", b'{"b":2}')
    assert (first.number, other.number) == (1, 2)
    assert kept.enter("alarm", b'{"a":1}') == first
    kept.log.close()
    again = ledger(tmp_path)
    assert again.at(1) == first
    assert [each.number for each in again.of_kind("cannot")] == [2]
    assert again.enter("cannot", b'{"b":2}').number == 2
    with pytest.raises(UnavailableError) as refused:
        again.at(3)
    assert refused.value.reason is Reason.NOT_IN_LOG
    assert again.find("0" * 64) is None


def test_threads_that_enter_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statements = [b'{"n":%d}' % (number // 2) for number in range(40)]
        found = list(pool.map(lambda each: kept.enter("cannot", each).number, statements))
    assert sorted(set(found)) == list(range(1, 21))
    for statement, number in zip(statements, found, strict=True):
        leaf = entry.of_statement(statement, "cannot", key("recomputer").keyid)
        assert kept.log.entry(number - 1) == leaf


def test_a_statement_that_the_disk_lost_is_missed(tmp_path: Path) -> None:
    kept = ledger(tmp_path)
    kept.enter("alarm", b'{"a":1}')
    next((tmp_path / "statements").iterdir()).unlink()
    with pytest.raises(StorageError):
        kept.at(1)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_no_refusal_that_was_given_out_is_missing_after_a_kill(
    stage: Stage, tmp_path: Path, kills: int
) -> None:
    told = json.loads((stage.directory / "recomputer" / "recomputer.json").read_text())
    told.update(state=str(tmp_path / "state"), bundles=str(tmp_path), cannot_per_s=10_000)
    path = tmp_path / "recomputer.json"
    path.write_text(json.dumps(told))
    given: list[str] = []

    def ask(there: Stage) -> None:
        try:
            while True:
                body = {"model": "unheard-of", "prompt": "x"}
                answer = there.ask("POST", "/v1/completions", body)
                given.append(answer.headers["x-lydite-cannot"])
        except OSError:
            return

    for number in range(kills):
        service = stage.processes.start(f"killed-{kills}-{number}", RECOMPUTER, path)
        there = stage._replace(recomputer=service, port=service.ready()["port"])
        before = len(given)
        askers = [threading.Thread(target=ask, args=(there,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        there.until(lambda before=before: len(given) >= before + 20)  # type: ignore[misc]
        service.process.kill()
        for asker in askers:
            asker.join()
    service = stage.processes.start(f"killed-{kills}-last", RECOMPUTER, path)
    there = stage._replace(recomputer=service, port=service.ready()["port"])
    there.until(lambda: there.ask("GET", f"/v1/log/proofs/{given[-1]}").status == 200)
    keys = stage.deployment.trust.auditor_keys()
    for name in given:
        shown = there.ask("GET", f"/v1/log/proofs/{name}")
        assert shown.status == 200
        envelope = json.dumps(shown.json()["envelope"], separators=(",", ":"), sort_keys=True)
        assert cannot.parse(open_envelope(envelope.encode(), keys, ())).predicate.model
    service.stop()


def test_the_settings_that_init_writes_want_only_what_they_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "recomputer"
    assert main(["recomputer", "init", str(place), "--name", "own.example/log"]) == 0
    assert len(capsys.readouterr().out.strip()) == 64
    settings = place / "recomputer.toml"
    lines = settings.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line == "# [[models]]")
    wanted = [line.removeprefix("#").strip() for line in lines[start:]]
    settings.write_text("\n".join([*lines[:start], *wanted]))
    told = config.load(settings, Recomputer)
    assert (told.mode, told.origin) == ("shadow", "own.example/log")
    assert len(told.gateways) == len(told.models) == 1
    for name in ("recomputer.key", "log.key", "recomputer.toml"):
        assert (place / name).stat().st_mode & 0o077 == 0
    assert main(["recomputer", "init", str(place), "--name", "own.example/log"]) == 2
    assert main(["recomputer", "init", str(tmp_path / "b"), "--name", "two words"]) == 2
