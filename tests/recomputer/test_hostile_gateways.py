"""A gateway that answers what nobody foresaw passes for nothing, and harms no other."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from lydite.appraisal.receipts import Served
from lydite.auditor.alarms import Alarms
from lydite.auditor.bench import Bench, Case
from lydite.auditor.line import Address
from lydite.auditor.outcomes import Outcomes
from lydite.auditor.registry import Place
from lydite.auditor.sketching import Read
from lydite.auditor.watch import Clients, Terms, Watch
from lydite.errors import Reason, UnavailableError
from lydite.laboratory.world import World
from lydite.messages import receipt as receipts
from lydite.messages.canonical import decode, encode
from lydite.messages.opening import Opening
from lydite.messages.tier import Tier
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer, sign_envelope
from tests.recomputer.test_alarms import Room
from tests.recomputer.test_watch import patient

PASS = (Tier.AFFIRMING, Reason.CONSISTENT)


class Hostile(World):
    """A gateway with an address, that opens nonsense or worse when it is told to."""

    url = "http://hostile.test"

    def __init__(self) -> None:
        super().__init__()
        self.field: str | None = None
        self.breaks: type[Exception] | None = None
        self.lost = False

    def opening(self, number: int) -> Opening:
        if self.breaks is not None:
            raise self.breaks("unforeseen")
        found = super().opening(number)
        return found if self.field is None else msgspec.structs.replace(found, **{self.field: "é"})

    def checkpoint(self) -> bytes:
        if self.lost:
            raise KeyError("unforeseen")
        return super().checkpoint()


class Broken(Bench):
    """A bench that an answer breaks."""

    def _read(self, case: Case, *, declares_ids: bool) -> Read:
        raise RuntimeError("unforeseen")


class Hall(Room):
    """The same, with a place for bundles."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.bundles = directory / "bundles"


def watch_of(world: World, room: Hall, patience_s: float = 0, bench: Bench | None = None) -> Watch:
    anchor = world.trust.providers[0]
    own = bench or Bench(world.model, (world.reference,))
    terms = Terms(
        trust=world.trust,
        policy=world.policy,
        signer=world.auditor_key,
        alarms=Alarms(room.ledger, "enforce"),
        recompute=lambda _: own,
        bundles=room.bundles,
        rate_ppm=1_000_000,
        patience_s=patience_s,
        silence_s=0,
        stale_s=60,
    )
    place = Place(
        name=anchor.name, provider=anchor.provider, address=Address.parse("http://127.0.0.1:1")
    )
    return Watch(place, anchor, Clients(cast(Any, world), cast(Any, world)), terms)


@pytest.fixture
def room(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def stands(watch: Watch) -> tuple[Tier, Reason]:
    said = watch.standing()
    return said.tier, said.reason


@pytest.mark.parametrize("field", ["salt", "path", "request", "response"])
def test_an_opening_in_no_form_is_withheld(field: str) -> None:
    world = Hostile()
    world.traffic(12)
    auditor = patient(world, 0)
    auditor.open_epoch(1_000_000)
    world.field = field
    auditor.audit_pending()
    assert [(s.reason, s.count) for s in auditor.judge().skipped] == [(Reason.WITHHELD, 12)]


@pytest.mark.parametrize("how", ["opening", "bench"])
def test_what_nobody_foresaw_waits_and_then_is_a_named_fault(room: Hall, how: str) -> None:
    world = Hostile()
    world.traffic(12)
    watch = watch_of(
        world, room, 60, Broken(world.model, (world.reference,)) if how == "bench" else None
    )
    world.breaks = ValueError if how == "opening" else None
    watch.round()
    assert stands(watch) == (Tier.NONE, Reason.PENDING)
    assert (watch.standing().waiting, room.said()) == (12, [])
    assert watch._auditor is not None
    watch._auditor._patience_s = 0
    watch.round()
    wanted = Reason.WITHHELD if how == "opening" else Reason.EXAMINATION_FAILED
    assert stands(watch)[0] is not Tier.AFFIRMING
    assert [(each.weight, each.reason) for each in room.said()] == [("fault", wanted)]
    assert watch.place.shut


def test_one_answer_that_breaks_its_examination_stops_no_other() -> None:
    class Once(Bench):
        def _read(self, case: Case, **named: Any) -> Read:
            if case.receipt.predicate.receipt_id == first:
                raise RuntimeError("unforeseen")
            return super()._read(case, **named)

    world = World()
    world.traffic(12)
    auditor = patient(world, 0)
    auditor.open_epoch(1_000_000)
    auditor.case.catch_up()
    first = auditor.case.receipt(auditor.case.pending()[0]).predicate.receipt_id
    auditor._bench = Once(world.model, (world.reference,))
    auditor.audit_pending()
    verdict = auditor.judge()
    assert verdict.tier is not Tier.AFFIRMING
    assert [(s.reason, s.count) for s in verdict.skipped] == [(Reason.EXAMINATION_FAILED, 1)]


def test_a_round_that_breaks_leaves_no_pass_and_a_good_one_renews_it(room: Hall) -> None:
    world = Hostile()
    world.traffic(12)
    watch = watch_of(world, room)
    watch.round()
    assert stands(watch) == PASS
    world.lost = True
    watch.round()
    assert stands(watch) == (Tier.NONE, Reason.EXAMINATION_FAILED)
    assert [each.reason for each in room.said()] == [Reason.EXAMINATION_FAILED]
    assert watch.place.shut
    world.lost = False
    watch.round()
    assert stands(watch) == PASS
    assert not watch.place.shut


def test_a_pass_that_is_not_renewed_in_time_is_stale(room: Hall) -> None:
    world = Hostile()
    world.traffic(12)
    watch = watch_of(world, room)
    watch.round()
    watch.mind()
    assert stands(watch) == PASS
    watch._ended_s -= 61
    assert stands(watch) == (Tier.NONE, Reason.STALE)
    watch.mind()
    watch.mind()
    assert [each.reason for each in room.said()] == [Reason.STALE]
    assert watch.place.shut
    watch.round()
    assert stands(watch) == PASS
    assert not watch.place.shut


def test_how_a_gateway_stands_is_told_while_it_keeps_its_round_waiting(room: Hall) -> None:
    watch = watch_of(Hostile(), room)
    asked: list[object] = []
    asking = threading.Thread(target=lambda: asked.append(watch.standing()), daemon=True)
    with watch.case.lock:
        asking.start()
        asking.join(5)
        assert asked


def served_by(world: World, number: int) -> tuple[str, bytes]:
    envelope = decode(world.envelope(number), Envelope)
    said = receipts.parse(payload_of(envelope)).predicate.receipt_id
    return said, encode(Served(envelope=envelope, index=number, proof=None))


@pytest.mark.parametrize("evil", ["junk", "not even JSON", "the good one's", "its own other"])
def test_a_wrong_answer_of_one_gateway_denies_no_receipt_of_another(evil: str) -> None:
    world = World()
    world.traffic(2)
    numbers = [n for n, leaf in enumerate(world.leaves, 1) if b'"receipt"' in leaf]
    (wanted, good), (_, other) = (served_by(world, number) for number in numbers)
    stranger = Signer(b"s" * 32)
    signed = decode(sign_envelope(b"{}", stranger), Envelope)
    junk = encode(Served(envelope=signed, index=None, proof=None))
    said = {"junk": junk, "not even JSON": b"\xff", "the good one's": good, "its own other": other}
    anchor = world.trust.providers[0]
    strange = msgspec.structs.replace(
        anchor, gateway_key=stranger.public.hex(), provider_key=stranger.public.hex()
    )
    own = anchor if evil == "its own other" else strange
    asked: list[str] = []

    def watch(name: str, answer: bytes, whose: Any) -> Watch:
        def receipt(_: str) -> bytes:
            asked.append(name)
            return answer

        place = SimpleNamespace(name=name, healthy=True)
        clients = SimpleNamespace(client=SimpleNamespace(receipt=receipt))
        made = SimpleNamespace(place=place, clients=clients, anchor=whose, told=str)
        return cast(Watch, made)

    outcomes = Outcomes([watch("evil", said[evil], own), watch("good", good, anchor)])
    for _ in range(2):
        assert outcomes.locate(wanted).watch.place.name == "good"
    assert asked == ["evil", "good", "good"]
    with pytest.raises(UnavailableError) as caught:
        outcomes.locate("0" * 32)
    assert caught.value.reason is Reason.UNAVAILABLE
