"""Killed, full or lied to by its clock: what is kept stays, what goes is told and stays gone."""

import asyncio
import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from lydite.auditor.disposals import Disposals
from lydite.errors import Reason, StorageError
from lydite.gateway.draws.pledges import Drawer
from lydite.gateway.ledger import records
from lydite.gateway.ledger.age import Age
from lydite.gateway.ledger.generations import unsealed_secret
from lydite.gateway.ledger.retention import Keeper
from lydite.gateway.ledger.segments import FIRST_BYTE
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.settings import AfterAudit, Retention, WhenFull
from lydite.messages import entry, retention
from lydite.messages.retention import Predicate
from lydite.signing.keys import sign_envelope
from tests.gateway.killing import GATEWAY, PROVIDER, Site, draft, gone, payload, same

ROOT = Path(__file__).parents[2]
DAY_S = 86_400
T = TypeVar("T")


def kill(directory: Path, rounds: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.gateway.killing", str(directory), str(rounds)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    counts: dict[str, int] = json.loads(result.stdout)
    return counts


def test_killed_two_hundred_times_nothing_kept_is_lost_and_nothing_destroyed_is_back(
    memory: Path,
) -> None:
    counts = kill(memory, 200)
    assert counts["held"] > 500
    assert counts["kept"] > 50
    assert counts["destroyed"] > 300
    assert counts["interrupted"] > 40, "no kill came while something was being destroyed"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_two_thousand_times(memory: Path) -> None:
    counts = kill(memory, 2000)
    assert counts["interrupted"] > 400


# A keeper, step by step.


class Kept(Site):
    """A site whose clock and settings a test decides on."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        super().__init__(directory, durable=False)
        self.now_s = 1_800_000_000.0
        self.settings = Retention(**changes)
        self.vault._vault_bytes = self.settings.vault_bytes
        self.keeper = Keeper(
            self.vault,
            self.journal,
            self.recorder,
            (GATEWAY, PROVIDER.keyid),
            self.settings,
            lambda: self.now_s,
            Age.in_file(directory / "vault" / "age"),
        )

    async def serve(self, count: int, size: int = 0) -> list[int]:
        """Let exchanges pass and return their entries."""
        first = len(self.journal)
        works = [draft(f"{first + n:032x}") for n in range(count)]
        padded = [replace(each, request=each.request + b"x" * size) for each in works]
        return [(await self.record(each)).number for each in padded]

    async def run_for(self, seconds: int) -> None:
        """Let time pass as it does for a gateway that runs."""
        self.vault.age_ms += 1000 * (seconds - 1)
        self.keeper._age.ms = self.vault.age_ms
        self.now_s += 1
        await self.keeper.beat()

    async def draw(self) -> set[int]:
        """Draw from everything since the last time, destroy the rest, and return what was drawn."""
        first, last = self.decided + 1, len(self.journal)
        said = json.dumps({"first": first, "last": last}).encode()
        await self.recorder.enter("epoch", sign_envelope(said, GATEWAY))
        self.vault.turn()
        self.learn(first, last)
        await self.keeper.settle()
        return set(self.decisions[-1].drawn)

    def told(self) -> list[Predicate]:
        """What the log says was destroyed."""
        found = [self.journal.read(number).body for number in self.journal.of_kind("retention")]
        return [retention.parse(payload(each)).predicate for each in found]


def play(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_a_keeper_killed_after_its_statement_does_what_it_says(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path)
        await site.start()
        entries = await site.serve(30)
        site.vault.destroy = refuse  # type: ignore[method-assign]
        await site.draw()
        assert site.vault.live(1, 99) == entries, "nothing was destroyed yet"
        await site.close()
        again = Kept(tmp_path)
        await again.start()
        drawn = set(again.decisions[0].drawn)
        assert again.vault.live(1, 99) == sorted(drawn & set(entries))
        assert [(each.cause, each.epoch) for each in again.told()] == [("undrawn", 1)]
        await again.close()

    play(run())


def refuse(*_: object) -> int:
    raise StorageError("as if killed here")


def test_an_epoch_without_a_statement_gets_one_at_the_next_start(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path)
        await site.start()
        entries = await site.serve(20)
        said = json.dumps({"first": 1, "last": len(site.journal)}).encode()
        await site.recorder.enter("epoch", sign_envelope(said, GATEWAY))
        await site.close()
        again = Kept(tmp_path)
        await again.start()
        told = again.told()
        drawn = set(again.decisions[0].drawn) & set(entries)
        assert [(each.cause, each.kept) for each in told] == [("undrawn", len(drawn))]
        assert again.vault.live(1, 99) == sorted(drawn)
        await again.close()

    play(run())


def test_pairs_that_should_be_there_and_are_not_are_told_once(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path)
        await site.start()
        entries = await site.serve(5)
        await site.close()
        for path in (tmp_path / "vault").glob("*.rolling"):
            path.unlink()
        for _ in range(2):
            site = Kept(tmp_path)
            await site.start()
            assert [(each.cause, each.destroyed) for each in site.told()] == [("damaged", 5)]
            await site.close()
        assert entries

    play(run())


def test_what_has_no_room_is_dropped_and_told_and_requests_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_bytes=1024 * 1024)
        await site.start()
        first = (await site.serve(1))[0]
        drawn = await site.draw()
        for _ in range(40):
            await site.serve(10, 8_000)
            await site.keeper.beat()
            assert site.vault.size_bytes <= 1024 * 1024
        told = [each for each in site.told() if each.cause == "full"]
        assert told
        assert told[0].first == site.decided + 1
        assert all(b.first == a.last + 1 for a, b in itertools.pairwise(told))
        assert all(not site.vault.live(each.first, each.last) for each in told)
        assert (first in drawn) == bool(site.vault.live(first, first)), "drawn ones stay"
        newest = site.vault.live(told[-1].last + 1, len(site.journal))
        assert len(newest) > 20
        await site.close()

    play(run())


def test_what_has_no_room_stops_requests_where_nothing_may_be_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_bytes=1024 * 1024, when_full="refuse")
        await site.start()
        while site.vault.size_bytes < 1024 * 1024 - 8_500:
            await site.serve(1, 8_000)
            await site.keeper.beat()
        with pytest.raises(StorageError) as refused:
            await site.serve(1, 8_000)
        assert refused.value.reason is Reason.VAULT_FULL
        await site.keeper.beat()
        assert not site.told(), "nothing was dropped"
        await site.draw()
        assert site.vault.size_bytes < 800_000
        await site.serve(1, 8_000)
        await site.close()

    play(run())


@pytest.mark.parametrize("when_full", ["drop", "refuse"])
def test_pairs_that_wait_too_long_go_or_stop_requests(tmp_path: Path, when_full: WhenFull) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_s=DAY_S, when_full=when_full)
        await site.start()
        await site.keeper.beat()
        entries = await site.serve(5)
        await site.run_for(DAY_S - 10)
        assert site.vault.live(1, 99) == entries
        await site.run_for(20)
        if when_full == "drop":
            assert [(each.cause, each.destroyed) for each in site.told()] == [("old", 5)]
            assert site.vault.live(1, 99) == []
            await site.serve(1)
        else:
            assert site.vault.live(1, 99) == entries
            with pytest.raises(StorageError, match="waited too long"):
                await site.serve(1)
            await site.draw()
            await site.keeper.beat()
            await site.serve(1)
        await site.close()

    play(run())


@pytest.mark.parametrize("jump_s", [-400 * DAY_S, -1, 1, 400 * DAY_S])
def test_a_clock_that_jumps_destroys_nothing(tmp_path: Path, jump_s: int) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_s=DAY_S)
        await site.start()
        entries = await site.serve(20)
        drawn = await site.draw() & set(entries)
        waiting = await site.serve(3)
        await site.keeper.beat()
        for _ in range(5):
            site.now_s += jump_s
            await site.keeper.beat()
        await site.close()
        again = Kept(tmp_path, vault_s=DAY_S)
        again.now_s += 3 * jump_s
        await again.start()
        await again.keeper.beat()
        assert again.vault.live(1, 99) == [*sorted(drawn), *waiting]
        assert [each.cause for each in again.told()] == ["undrawn"]
        await again.close()

    play(run())


def test_drawn_pairs_go_when_their_time_is_up_and_the_log_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_s=DAY_S)
        await site.start()
        await site.keeper.beat()
        drawn = sorted(set(await site.serve(40)) & await site.draw())
        assert len(drawn) == 2
        await site.run_for(DAY_S // 2)
        later = sorted(set(await site.serve(40)) & await site.draw())
        await site.run_for(DAY_S // 2 + 10)
        assert site.vault.live(1, 200) == later
        told = site.told()[-1]
        assert (told.cause, told.destroyed) == ("expired", len(drawn))
        assert retention.Spans(told.spans).hold(drawn[0])
        await site.close()
        again = Kept(tmp_path, vault_s=DAY_S)
        await again.start()
        assert again.vault.live(1, 200) == later
        await again.close()

    play(run())


@pytest.mark.parametrize("after_audit", ["keep", "destroy"])
def test_audited_pairs_go_if_they_are_to(tmp_path: Path, after_audit: AfterAudit) -> None:
    async def run() -> None:
        site = Kept(tmp_path, after_audit=after_audit)
        await site.start()
        drawn = sorted(set(await site.serve(40)) & await site.draw())
        undrawn = next(n for n in range(1, 40) if n not in drawn)
        site.keeper.audited(drawn[0])
        site.keeper.audited(undrawn)
        await site.keeper.beat()
        assert gone(site.vault, drawn[0]) == (after_audit == "destroy")
        assert same(site.vault.read(drawn[1]), site.journal.read(drawn[1]).receipt_id, drawn[1])
        causes = [each.cause for each in site.told()]
        assert causes == ["undrawn", *(["audited"] if after_audit == "destroy" else [])]
        await site.close()

    play(run())


def test_nothing_is_dropped_from_under_a_pledge(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_bytes=1024 * 1024)
        await site.start()
        entries = await site.serve(112, 8_000)
        site.keeper.pledged = entries[-1]
        for _ in range(3):
            await site.keeper.beat()
        assert site.vault.live(1, 999) == entries
        assert site.told() == []
        site.keeper.pledged = 0
        for _ in range(3):
            await site.keeper.beat()
        assert site.vault.live(1, 999) != entries
        await site.close()

    play(run())


def test_a_disk_that_refuses_keeps_what_was_to_be_destroyed_until_it_does_not(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        site = Kept(tmp_path)
        await site.start()
        entries = await site.serve(20)
        destroy, site.vault.destroy = site.vault.destroy, refuse  # type: ignore[method-assign]
        drawn = await site.draw()
        assert site.vault.live(1, 99) == entries
        site.vault.destroy = destroy  # type: ignore[method-assign]
        await site.keeper.beat()
        assert site.vault.live(1, 99) == sorted(drawn & set(entries))
        assert len(site.told()) == 1, "the same statement holds"
        await site.close()

    play(run())


class Copy:
    """What an auditor's copy of the log says of an entry."""

    def __init__(self, site: Kept) -> None:
        self.site = site

    def entry(self, number: int) -> entry.Entry:
        return entry.parse(self.site.log.entry(number - 1))


def recount(site: Kept) -> list[str]:
    """Hold every statement of a keeper against its log as an auditor does; return their causes."""
    disposals = Disposals(Copy(site), PROVIDER.keyid)  # type: ignore[arg-type]
    opened = iter(site.decisions)
    causes = []
    for number in range(1, len(site.journal) + 1):
        kind = site.journal.read(number).kind
        if kind == "epoch":
            decision = next(opened)
            said = SimpleNamespace(
                epoch=decision.epoch, first=decision.first, tree_size=decision.last
            )
            disposals.opened(said, sorted(decision.drawn))  # type: ignore[arg-type]
        elif kind == "retention":
            statement = payload(site.journal.read(number).body)
            disposals.take_retention(number, statement)
            causes.append(retention.parse(statement).predicate.cause)
    return causes


def test_everything_that_a_keeper_says_stands_an_auditors_recount(memory: Path) -> None:
    async def run() -> None:
        bounds: dict[str, Any] = {"vault_bytes": 1024 * 1024, "vault_s": DAY_S}
        site = Kept(memory, **bounds)
        await site.start()
        await site.keeper.beat()
        await site.serve(60)
        await site.draw()
        await site.serve(40)
        await site.close()
        newest = max((memory / "vault").glob("*.rolling"), key=lambda path: path.stat().st_size)
        newest.unlink()
        site = Kept(memory, **bounds)
        await site.start()
        for _ in range(12):
            await site.serve(12, 8_000)
            await site.keeper.beat()
        await site.serve(5)
        await site.draw()
        await site.run_for(DAY_S + 60)
        await site.serve(3)
        await site.run_for(DAY_S + 60)
        await site.draw()
        causes = recount(site)
        assert {"undrawn", "damaged", "full", "old", "expired"} == set(causes)
        await site.close()

    play(run())


def backdate(segment: Path, numbers: set[int]) -> None:
    """Let the heads of records say that these are as old as the gateway; anybody who writes can."""
    data = bytearray(segment.read_bytes())
    at = FIRST_BYTE
    while (head := records.parse_head(bytes(data[at:]))) is not None:
        if head.number in numbers:
            data[at + 12 : at + 20] = bytes(8)
            end = at + records.HEAD_BYTES - 4
            data[end : end + 4] = zlib.crc32(data[at:end]).to_bytes(4)
        at += head.record_bytes
    segment.write_bytes(data)


def test_a_pair_whose_head_was_altered_is_damaged_and_makes_no_other_old(tmp_path: Path) -> None:
    async def run() -> None:
        site = Kept(tmp_path, vault_s=100)
        await site.start()
        await site.run_for(1000)
        young = await site.serve(3)
        (segment,) = (tmp_path / "vault").glob("*.rolling")
        backdate(segment, set(young[:2]))
        for _ in young:
            await site.run_for(1)
        said = [(each.cause, each.spans) for each in site.told()]
        assert said == [("damaged", ((number, number),)) for number in (young[1], young[0])]
        assert site.vault.live(1, young[-1]) == [young[-1]]
        await site.run_for(200)
        assert site.told()[-1].cause == "old"
        await site.close()

    play(run())


# What else a gateway keeps for an epoch.


def test_time_counts_while_the_gateway_runs_and_survives_it(tmp_path: Path) -> None:
    age = Age.in_file(tmp_path / "age")
    for now_s in (100, 101, 102, 50, 51, 10_000, 10_001):
        age.tick(now_s)
    assert age.ms == 1000 * (1 + 1 + 0 + 1 + 2 + 1)
    age.save()
    assert Age.in_file(tmp_path / "age").ms == age.ms
    (tmp_path / "age").write_text("nonsense")
    assert Age.in_file(tmp_path / "age").ms == 0


def test_the_secret_of_a_pledge_survives_a_crash_and_nobody_reads_it(tmp_path: Path) -> None:
    drawer = Drawer(tmp_path / "pledge")
    assert drawer.read() is None
    secret = drawer.fresh(3, 1)
    assert (tmp_path / "pledge").stat().st_mode & 0o777 == 0o600
    assert Drawer(tmp_path / "pledge").read() == secret
    assert drawer.fresh(3, 2).entropy != secret.entropy
    noted = drawer.witnessed(secret, b"a note")
    assert Drawer(tmp_path / "pledge").read() == noted
    (tmp_path / "pledge").write_bytes(b'{"half"')
    assert drawer.read() is None
    drawer.empty()
    assert not (tmp_path / "pledge").exists()
    drawer.empty()


def test_a_gateway_without_a_device_keeps_its_secret_beside_the_vault(tmp_path: Path) -> None:
    secret = unsealed_secret(tmp_path / "vault.secret")
    vault = Vault(tmp_path / "vault", secret, 1 << 20)
    vault.close()
    assert not [path for path in (tmp_path / "vault").iterdir() if secret in path.read_bytes()]
