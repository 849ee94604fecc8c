"""Kills a recorder that keeps, draws and destroys, as often as it is told, and looks what is left.

``python -m tests.gateway.killing DIRECTORY ROUNDS`` prints one line of JSON, or an assertion. Each
round forks a process that records, hands out receipts, and destroys what a draw of its own leaves.
It is killed at a random instant, and what is on disk is opened as a gateway does at its next start.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from lydite.errors import Reason, UnavailableError
from lydite.gateway.ledger.age import Age
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Draft, Stamp
from lydite.gateway.ledger.recorder import GroupRecorder, TurnRecorder, Writer
from lydite.gateway.ledger.records import Exchange
from lydite.gateway.ledger.retention import Decision, Keeper
from lydite.gateway.ledger.scribe import Entered, Scribe, Work
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.settings import Retention
from lydite.messages import entry, retention
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog.store import LogStore

PROVIDER, GATEWAY, LOG = (Signer(bytes([n]) * 32) for n in (1, 2, 3))
PATH = b"/v1/completions"
SEGMENT_BYTES = 60_000


def draft(receipt_id: str) -> Draft:
    """The exchange that a receipt id stands for: all of it follows from the id."""
    salt = Salt(hashlib.sha256(receipt_id.encode()).digest())
    request = receipt_id.encode() * (1 + salt[0] % 20)
    response = receipt_id[::-1].encode() * (1 + salt[1] % 40)
    return Draft(
        receipt_id=receipt_id,
        salt=salt,
        path=PATH,
        request=request,
        asked=commit_request(salt, PATH, request),
        response=(response[:10], response[10:]),
        answered=commit_response(salt, response),
        status=200,
        outcome="complete",
        streamed=False,
        received_ms=1_800_000_000_000,
        completed_ms=1_800_000_000_000,
    )


def payload(envelope: bytes) -> bytes:
    """What was signed."""
    return payload_of(msgspec.json.decode(envelope, type=Envelope))


def drawn_of(first: int, last: int) -> frozenset[int]:
    """A draw that anyone repeats."""
    return frozenset(
        n for n in range(first, last + 1) if hashlib.sha256(b"%d" % n).digest()[0] < 40
    )


class Site:
    """Journal, vault, log and keeper of one gateway, opened as at a start."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self.journal = Journal(directory / "journal")
        self.vault = Vault(directory / "vault", bytes(32), 1 << 30, SEGMENT_BYTES)
        self.log = LogStore.open(directory / "log", "killed/log", LOG)
        stamp = Stamp(PROVIDER, GATEWAY, "00" * 32, "lydite/v1")
        durability = "group-fsync" if durable else "process"
        self.scribe = Scribe(self.journal, self.vault, self.log, stamp, durability)
        kind = GroupRecorder if durable else TurnRecorder
        self.recorder: Writer = kind(self.scribe, time.time)
        signer = (GATEWAY, PROVIDER.keyid)
        age = Age.in_file(directory / "vault" / "age")
        self.keeper = Keeper(
            self.vault, self.journal, self.recorder, signer, Retention(), time.time, age
        )
        self.decided = 0
        self.decisions: list[Decision] = []

    async def start(self) -> None:
        self.recorder.start(asyncio.get_running_loop())
        for number in self.journal.of_kind("epoch"):
            said = json.loads(payload(self.journal.read(number).body))
            self.learn(said["first"], said["last"])
        await self.keeper.recall()

    def learn(self, first: int, last: int) -> None:
        self.decisions.append(Decision(len(self.decisions) + 1, first, last, drawn_of(first, last)))
        self.keeper.learn(self.decisions[-1])
        self.decided = last

    async def close(self) -> None:
        await asyncio.to_thread(self.recorder.stop)
        self.scribe.close()
        self.vault.close()
        self.journal.close()
        self.log.close()

    async def record(self, work: Work) -> Entered:
        future: asyncio.Future[Entered] = asyncio.get_running_loop().create_future()
        self.recorder.submit(
            work,
            lambda result: (
                future.set_result(result)
                if isinstance(result, Entered)
                else future.set_exception(result)
            ),
        )
        return await future


async def live(directory: Path, round_number: int, out: int, chance: random.Random) -> None:
    """Record and destroy until killed, and tell of each receipt once it is handed out."""
    site = Site(directory, durable=round_number % 2 == 0)
    os.write(out, b"b\n")
    await site.start()
    os.write(out, b"a\n")
    count = 0
    while True:
        ids = [
            f"{round_number << 64 | number:032x}"
            for number in range(count, count + chance.randint(1, 12))
        ]
        count += len(ids)
        for name, entered in zip(
            ids, await asyncio.gather(*(site.record(draft(name)) for name in ids)), strict=True
        ):
            os.write(out, b"r %s %d\n" % (name.encode(), entered.number))
        if chance.random() < 0.4:
            first, last = site.decided + 1, len(site.journal)
            os.write(out, b"b\n")
            said = json.dumps({"first": first, "last": last}).encode()
            await site.recorder.enter("epoch", sign_envelope(said, GATEWAY))
            site.vault.turn()
            site.learn(first, last)
            await site.keeper.settle()
            os.write(out, b"a\n")


class Twin:
    """What has to be there, and what must not, as plain sets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.held: dict[int, str] = {}
        self.destroyed: set[int] = set()
        self.kept: set[int] = set()
        self.checked = 0
        self.interrupted = 0

    async def check(self, *, all_of_it: bool) -> None:
        """Open what a kill left, and compare."""
        site = Site(self.directory, durable=True)
        await site.start()
        try:
            self._check_log(site, 1 if all_of_it else self.checked + 1)
            self._check_pairs(site, 1 if all_of_it else max(1, self.checked - 300))
            self.checked = len(site.journal)
        finally:
            await site.close()

    def _check_log(self, site: Site, first: int) -> None:
        assert site.log.size == len(site.journal)
        for number in range(first, site.log.size + 1):
            pair = site.journal.read(number)
            leaf = entry.parse(site.log.entry(number - 1))
            assert leaf.sha256 == hashlib.sha256(pair.statement()).hexdigest()
            if number in self.held:
                assert pair.receipt_id == self.held[number], "a receipt is not where it was"
        assert not self.held or max(self.held) <= site.log.size, "a receipt is not in the log"
        for number in site.journal.of_kind("retention"):
            said = retention.parse(payload(site.journal.read(number).body)).predicate
            assert said.cause == "undrawn", f"{said.destroyed} pairs were lost"

    def _check_pairs(self, site: Site, first: int) -> None:
        drawn = {number for each in site.decisions for number in each.drawn}
        present = set(site.vault.live(1, site.log.size))
        assert not present & self.destroyed, "something destroyed is back"
        assert self.kept <= present, "something kept is gone"
        for number in range(first, site.log.size + 1):
            pair = site.journal.read(number)
            if pair.kind != "receipt":
                assert number not in present
            elif number in drawn or number > site.decided:
                assert same(site.vault.read(number), pair.receipt_id, number)
                self.kept |= {number} & drawn
            else:
                assert gone(site.vault, number)
                self.destroyed.add(number)


def same(found: Exchange, receipt_id: str, number: int) -> bool:
    """Say whether this is what the receipt's id stands for."""
    said = draft(receipt_id)
    return (
        found.number,
        found.receipt_id,
        found.salt,
        found.request,
        b"".join(found.response),
    ) == (
        number,
        receipt_id,
        said.salt,
        said.request,
        b"".join(said.response),
    )


def gone(vault: Vault, number: int) -> bool:
    """Say whether nobody gets the pair of an entry."""
    try:
        vault.read(number)
    except UnavailableError as error:
        return error.reason is Reason.DESTROYED
    return False


def kill_once(twin: Twin, round_number: int, chance: random.Random) -> None:
    """Let a process live for a while, kill it, and take note of what it handed out."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        uvloop.run(live(twin.directory, round_number, writing, random.Random(chance.random())))
        os._exit(1)
    os.close(writing)
    said, lines = b"", int(60 ** chance.random())  # by what it has done: machines are busy
    while said.count(b"\n") < lines:
        said += os.read(reading, 1 << 16)
    time.sleep(chance.random() * 0.003)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    while more := os.read(reading, 1 << 16):
        said += more
    os.close(reading)
    whole = said.decode().split("\n")[:-1]
    marks = [line for line in whole if line in "ab"]
    twin.interrupted += marks[-1] == "b"
    for line in whole:
        if line.startswith("r "):
            _, name, number = line.split()
            twin.held[int(number)] = name


def main() -> None:
    directory, rounds = Path(sys.argv[1]), int(sys.argv[2])
    twin, chance = Twin(directory), random.Random(rounds)
    for round_number in range(1, rounds + 1):
        kill_once(twin, round_number, chance)
        if round_number % 5 == 0 or round_number < 5:
            asyncio.run(twin.check(all_of_it=False))
    asyncio.run(twin.check(all_of_it=True))
    counts = {
        "held": len(twin.held),
        "destroyed": len(twin.destroyed),
        "kept": len(twin.kept),
        "interrupted": twin.interrupted,
    }
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()
