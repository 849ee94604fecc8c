"""Nothing changes a gateway but what enough officers order, once, in time, and in the log first."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lydite.appraisal import authority as authorities
from lydite.appraisal.authority import Authority, Grant
from lydite.errors import ConfigurationError, FormatError, LyditeError, Reason, StorageError
from lydite.errors import VerificationError as Refused
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Stamp
from lydite.gateway.ledger.recorder import TurnRecorder
from lydite.gateway.ledger.scribe import Scribe
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.office.admin import (
    REFUSALS_AN_HOUR,
    Admin,
    Deed,
    Place,
    no_arguments,
    one_argument,
)
from lydite.messages import instruction
from lydite.messages.canonical import decode, encode
from lydite.messages.instruction import Arguments, Instruction, InstructionPredicate
from lydite.messages.statement import subject
from lydite.signing.dsse import Envelope, KeyId, payload_of
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog.store import LogStore

ORIGIN = "lydite.test/admin"
NOW_S = 1_700_000_000


def signer(name: str) -> Signer:
    return Signer(hashlib.sha256(name.encode()).digest())


OFFICERS = {name: signer(name) for name in ("ada", "bo", "cy", "recomputer")}
GATEWAY = signer("gateway")
AUTHORITY = Authority(
    officers={name: each.public.hex() for name, each in OFFICERS.items()},
    grants=(
        Grant(
            actions=("set-list", "fail", "hang", "stop"), officers=("ada", "bo", "cy"), threshold=2
        ),
        Grant(actions=("cut-power",), officers=("recomputer",), threshold=1),
        Grant(actions=("cut-power",), officers=("ada", "bo"), threshold=2),
    ),
)


def at(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()[:19] + ".000Z"


def order(
    action: str,
    *names: str,
    arguments: Arguments | None = None,
    issued_s: float = NOW_S,
    valid_s: float = 600,
    gateway: KeyId = GATEWAY.keyid,
    origin: str = ORIGIN,
    dry_run: bool = False,
    nonce: str | None = None,
) -> bytes:
    statement = Instruction(
        subject=subject("log", hashlib.sha256(origin.encode()).digest()),
        predicate=InstructionPredicate(
            action=action,
            arguments=arguments or {},
            dry_run=dry_run,
            expires=at(issued_s + valid_s),
            gateway=gateway,
            issued=at(issued_s),
            nonce=nonce or secrets.token_hex(32),
            why="a test",
        ),
    )
    return sign_envelope(encode(statement), *(OFFICERS.get(n) or signer(n) for n in names))


class Site:
    """A gateway's log and admin, without its data plane, in a directory that outlives it."""

    def __init__(self, directory: Path, authority: Authority = AUTHORITY) -> None:
        self.now_s = float(NOW_S)
        self.done: list[str] = []
        self.story: list[tuple[str, str]] = []
        self.journal = Journal(directory / "journal")
        self.log = LogStore.open(directory / "log", ORIGIN, signer("log"))
        stamp = Stamp(signer("provider"), GATEWAY, "00" * 32, "lydite/v1")
        vault = Vault(directory / "vault", bytes(32), 1 << 30)
        scribe = Scribe(self.journal, vault, self.log, stamp)
        self.recorder = TurnRecorder(scribe, lambda: self.now_s)
        self.admin = Admin(
            authority, Place(ORIGIN, GATEWAY, self.journal, self.recorder), self.deeds()
        )

    def deeds(self) -> dict[str, Deed]:
        async def set_list(arguments: Arguments) -> str:
            self.done.append(one_argument(arguments, "items"))
            return f"the list is {self.done[-1]}"

        async def fail(_: Arguments) -> str:
            raise LyditeError("the switch does not answer", Reason.UNAVAILABLE)

        async def hang(_: Arguments) -> str:
            await asyncio.sleep(3600)
            return "never"

        async def cut(arguments: Arguments) -> str:
            no_arguments(arguments)
            self.done.append("cut")
            return "dark"

        async def stop(_: Arguments) -> str:
            self.done.append("stopped")
            return "stopped"

        async def stop_again(_: Arguments) -> None:
            self.done.append("stopped again")

        return {
            "stop": Deed(stop, lambda _: "stops", lasting=True, takes_away=True, again=stop_again),
            "set-list": Deed(set_list, lambda a: one_argument(a, "items"), lasting=True),
            "fail": Deed(fail, lambda _: "fails"),
            "hang": Deed(hang, lambda _: "hangs", limit_s=0.2),
            "cut-power": Deed(cut, lambda _: "cuts the power", urgent=True),
        }

    def told(self) -> list[tuple[str, str]]:
        """What the log says: actions ordered, and endings."""
        said = []
        for number in self.journal.of_kind("admin"):
            statement = payload_of(decode(self.journal.read(number).body, Envelope))
            if b"outcome" in statement:
                predicate = instruction.parse_outcome(statement).predicate
                said.append((predicate.action, predicate.ending))
            else:
                said.append((instruction.parse(statement).predicate.action, "ordered"))
        return said


def run(directory: Path, work: Callable[[Site], Coroutine[Any, Any, None]], **fields: Any) -> Site:
    async def main() -> Site:
        site = Site(directory, **fields)
        site.recorder.start(asyncio.get_running_loop())
        try:
            await site.admin.recall()
            await work(site)
            site.story = site.told()
        finally:
            site.journal.close()
            site.log.close()
        return site

    return asyncio.run(main())


def refused(directory: Path, envelope: bytes) -> tuple[Reason, Site]:
    reasons = []

    async def work(site: Site) -> None:
        with pytest.raises(LyditeError) as error:
            await site.admin.submit(envelope)
        reasons.append(error.value.reason)
        assert site.done == []

    site = run(directory, work)
    return reasons[0], site


def test_enough_officers_are_obeyed_and_the_log_has_it_first(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        answer = await site.admin.submit(order("set-list", "ada", "cy", arguments={"items": "x"}))
        assert (answer.outcome.ending, answer.outcome.detail) == ("done", "the list is x")
        assert site.done == ["x"]
        assert site.told() == [("set-list", "ordered"), ("set-list", "done")]
        assert site.log.size == 2

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (lambda: order("set-list", "ada", arguments={"items": "x"}), Reason.TOO_FEW_OFFICERS),
        (lambda: order("set-list", "ada", "recomputer"), Reason.TOO_FEW_OFFICERS),
        (lambda: order("cut-power", "cy"), Reason.TOO_FEW_OFFICERS),
        (lambda: order("give-money", "ada", "bo", "cy"), Reason.NOT_GRANTED),
    ],
)
def test_too_few_or_the_wrong_officers_are_refused_and_the_log_says_so_once(
    tmp_path: Path, envelope: Callable[[], bytes], reason: Reason
) -> None:
    signed = envelope()
    assert refused(tmp_path, signed)[0] is reason
    again, site = refused(tmp_path, signed)
    assert again is reason
    assert [ending for _, ending in site.story] == ["ordered", "refused"]


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (lambda: order("set-list", "ada", "mallory"), Reason.UNKNOWN_KEY),
        (lambda: order("set-list", "mallory"), Reason.UNKNOWN_KEY),
        (lambda: order("set-list", "ada", "bo", issued_s=NOW_S - 700), Reason.STALE),
        (lambda: order("set-list", "ada", "bo", issued_s=NOW_S + 61), Reason.STALE),
        (lambda: order("set-list", "ada", "bo", valid_s=86_401), Reason.STALE),
        (lambda: order("set-list", "ada", "bo", valid_s=-600), Reason.STALE),
        (lambda: order("set-list", "ada", "bo", gateway=signer("x").keyid), Reason.WRONG_ORIGIN),
        (lambda: order("set-list", "ada", "bo", origin="another/log"), Reason.WRONG_ORIGIN),
        (lambda: order("set-list", "ada", "bo"), Reason.MALFORMED),
        (lambda: order("set-list", "ada", "ada"), Reason.MALFORMED),
        (lambda: order("set-list", "ada", "bo")[:-1], Reason.MALFORMED),
        (lambda: order("set-list", "ada", "bo") + b"\n", Reason.NOT_CANONICAL),
        (lambda: b"", Reason.MALFORMED),
        (lambda: b"{" * (1 << 20), Reason.TOO_LARGE),
        (lambda: sign_envelope(b"{}", OFFICERS["ada"], OFFICERS["bo"]), Reason.MALFORMED),
    ],
)
def test_what_is_not_an_instruction_for_now_and_here_leaves_no_trace(
    tmp_path: Path, envelope: Callable[[], bytes], reason: Reason
) -> None:
    got, site = refused(tmp_path, envelope())
    assert got is reason
    assert site.story == []


def test_a_changed_instruction_has_no_signature(tmp_path: Path) -> None:
    genuine = decode(order("set-list", "ada", "bo", arguments={"items": "x"}), Envelope)
    changed = payload_of(genuine).replace(b'"items":"x"', b'"items":"y"')
    forged = sign_envelope(changed, OFFICERS["ada"])
    signatures = (decode(forged, Envelope).signatures[0], genuine.signatures[1])
    envelope = encode(
        Envelope(
            payload=decode(forged, Envelope).payload,
            payload_type=genuine.payload_type,
            signatures=signatures,
        )
    )
    assert refused(tmp_path, envelope)[0] is Reason.BAD_SIGNATURE


def test_an_instruction_is_carried_out_once_even_after_a_restart(tmp_path: Path) -> None:
    envelope = order("cut-power", "recomputer")

    async def first(site: Site) -> None:
        await site.admin.submit(envelope)
        with pytest.raises(Refused) as error:
            await site.admin.submit(envelope)
        assert error.value.reason is Reason.REPLAYED

    run(tmp_path, first)
    assert refused(tmp_path, envelope)[0] is Reason.REPLAYED
    more = order("cut-power", "ada", "bo", nonce=_nonce(envelope))
    assert refused(tmp_path, more)[0] is Reason.REPLAYED


def _nonce(envelope: bytes) -> str:
    return instruction.parse(payload_of(decode(envelope, Envelope))).predicate.nonce


def test_a_refused_instruction_is_good_once_enough_have_signed(tmp_path: Path) -> None:
    nonce = secrets.token_hex(32)
    alone = order("set-list", "ada", arguments={"items": "x"}, nonce=nonce)
    both = order("set-list", "ada", "bo", arguments={"items": "x"}, nonce=nonce)
    assert refused(tmp_path, alone)[0] is Reason.TOO_FEW_OFFICERS

    async def work(site: Site) -> None:
        await site.admin.submit(both)
        assert site.done == ["x"]

    run(tmp_path, work)


def test_every_refused_instruction_is_logged_whatever_nonce_it_borrows(tmp_path: Path) -> None:
    nonce = secrets.token_hex(32)

    async def work(site: Site) -> None:
        for item in ("one", "two"):
            with pytest.raises(Refused):
                await site.admin.submit(
                    order("set-list", "ada", arguments={"items": item}, nonce=nonce)
                )
        assert len(site.told()) == 4

    run(tmp_path, work)


def test_a_crash_while_a_refusal_is_written_does_not_use_up_the_instruction(tmp_path: Path) -> None:
    nonce = secrets.token_hex(32)
    alone = order("set-list", "ada", arguments={"items": "x"}, nonce=nonce)

    async def crash(site: Site) -> None:
        await site.recorder.enter("admin", alone)

    async def after(site: Site) -> None:
        assert site.told()[-1] == ("set-list", "refused")
        both = order("set-list", "ada", "bo", arguments={"items": "x"}, nonce=nonce)
        await site.admin.submit(both)
        assert site.done == ["x"]

    run(tmp_path, crash)
    run(tmp_path, after)


def test_a_dry_run_does_nothing_and_is_logged(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        answer = await site.admin.submit(order("cut-power", "recomputer", dry_run=True))
        assert (answer.outcome.ending, answer.outcome.detail) == ("would-do", "cuts the power")
        assert site.done == []

    run(tmp_path, work)


@pytest.mark.parametrize("action", ["fail", "hang"])
def test_what_fails_or_hangs_is_logged_as_failed(tmp_path: Path, action: str) -> None:
    async def work(site: Site) -> None:
        answer = await site.admin.submit(order(action, "ada", "bo"))
        assert answer.outcome.ending == "failed"
        assert answer.outcome.reason is not None

    run(tmp_path, work)


def test_what_lasts_is_done_again_at_each_start_in_its_order(tmp_path: Path) -> None:
    async def first(site: Site) -> None:
        for item in ("one", "two", "three"):
            await site.admin.submit(order("set-list", "ada", "bo", arguments={"items": item}))
        await site.admin.submit(order("cut-power", "recomputer"))

    async def second(site: Site) -> None:
        assert site.done == ["one", "two", "three"]

    run(tmp_path, first)
    run(tmp_path, second)


def test_what_a_crash_cut_is_ended_as_interrupted_and_not_done_again(tmp_path: Path) -> None:
    envelope = order("set-list", "ada", "bo", arguments={"items": "x"})

    async def crash(site: Site) -> None:
        await site.recorder.enter("admin", envelope)

    async def after(site: Site) -> None:
        assert site.told()[-1] == ("set-list", "interrupted")
        assert site.done == []
        with pytest.raises(Refused) as error:
            await site.admin.submit(envelope)
        assert error.value.reason is Reason.REPLAYED

    run(tmp_path, crash)
    run(tmp_path, after)
    run(tmp_path, after)


def test_what_only_takes_away_is_done_after_a_crash_cut_it(tmp_path: Path) -> None:
    envelope = order("stop", "ada", "bo")
    tried = order("stop", "ada", "bo", dry_run=True)

    async def crash(site: Site) -> None:
        await site.recorder.enter("admin", tried)
        assert site.done == []
        await site.recorder.enter("admin", envelope)

    async def after(site: Site) -> None:
        assert site.told()[-1] == ("stop", "interrupted")
        assert site.done == ["stopped again"]

    run(tmp_path, crash)
    run(tmp_path, after)
    run(tmp_path, after)


def test_another_instruction_under_a_refused_ones_nonce_is_logged_too(tmp_path: Path) -> None:
    nonce = secrets.token_hex(32)
    first = order("set-list", "ada", arguments={"items": "x"}, nonce=nonce)
    second = order("cut-power", "cy", nonce=nonce)
    said = [len(refused(tmp_path, each)[1].story) for each in (first, first, second, second)]
    assert said == [2, 2, 4, 4]


def test_an_urgent_deed_does_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        slow = asyncio.create_task(site.admin.submit(order("hang", "ada", "bo")))
        await asyncio.sleep(0.02)
        await site.admin.submit(order("cut-power", "recomputer"))
        assert site.done == ["cut"]
        assert not slow.done()
        await slow

    run(tmp_path, work)


def test_a_flood_of_refusals_does_not_fill_the_log(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        for _ in range(REFUSALS_AN_HOUR + 20):
            with pytest.raises(Refused):
                await site.admin.submit(order("cut-power", "cy"))
        assert len(site.told()) == 2 * REFUSALS_AN_HOUR
        site.now_s += 3601
        with pytest.raises(Refused):
            await site.admin.submit(order("cut-power", "cy", issued_s=site.now_s))
        assert len(site.told()) == 2 * REFUSALS_AN_HOUR + 2

    run(tmp_path, work)


def test_what_cannot_be_logged_is_not_done(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        whole = site.journal._files[-1]
        site.journal._files[-1] = os.open(os.devnull, os.O_RDONLY)
        envelope = order("cut-power", "recomputer")
        with pytest.raises(StorageError):
            await site.admin.submit(envelope)
        assert site.done == []
        site.journal._files[-1] = whole
        await site.admin.submit(envelope)
        assert site.done == ["cut"]

    run(tmp_path, work)


@pytest.mark.parametrize(
    "authority",
    [
        Authority(officers={"a": "00" * 32, "b": "00" * 32}, grants=()),
        Authority(
            officers={"a": "00" * 32},
            grants=(Grant(actions=("x",), officers=("a",), threshold=2),),
        ),
        Authority(
            officers={"a": "00" * 32},
            grants=(Grant(actions=("x",), officers=("a", "a"), threshold=2),),
        ),
        Authority(
            officers={"a": "00" * 32}, grants=(Grant(actions=("x",), officers=("b",), threshold=1),)
        ),
        Authority(
            officers={"a": "00" * 32}, grants=(Grant(actions=(), officers=("a",), threshold=1),)
        ),
    ],
)
def test_an_authority_that_means_nothing_is_refused(authority: Authority) -> None:
    with pytest.raises(ConfigurationError):
        authorities.check(authority)


def test_one_argument_is_one() -> None:
    assert one_argument({"a": "1"}, "a") == "1"
    for wrong in ({}, {"b": "1"}, {"a": "1", "b": "1"}):
        with pytest.raises(FormatError):
            one_argument(wrong, "a")
