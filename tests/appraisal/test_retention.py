"""What a gateway says it destroyed is held against the draw and the log, by auditor and client."""

from collections.abc import Callable
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.appraisal.retention import verify_kept, verify_recounted
from lydite.errors import Reason, VerificationError
from lydite.gateway.ledger.retention import make_retention
from lydite.laboratory.world import World
from lydite.messages import entry, retention
from lydite.messages.canonical import encode
from lydite.messages.epoch import Epoch
from lydite.messages.retention import Predicate, Span, Spans, Tally, spans_of
from lydite.signing.dsse import Envelope, KeyId, payload_of
from lydite.signing.keys import sign_envelope

replace = msgspec.structs.replace
LAST = 60
PROVIDER = KeyId("ed25519:" + "0" * 32)
numbers = st.sets(st.integers(1, LAST))
Named = list[tuple[int, bytes]]


def named(entries: set[int]) -> Named:
    return [(number, sha256(b"%d" % number).digest()) for number in sorted(entries)]


def statement(receipts: set[int], drawn: set[int], lost: set[int]) -> Predicate:
    """What an honest gateway says of an epoch."""
    return make_retention(
        "undrawn",
        (1, LAST),
        Tally(named(receipts - drawn - lost)),
        spans_of(sorted(lost)),
        Tally(named(receipts & drawn - lost)),
        1,
        0,
        PROVIDER,
    ).predicate


@given(numbers, numbers, numbers)
def test_an_honest_statement_stands(receipts: set[int], drawn: set[int], lost: set[int]) -> None:
    said = statement(receipts, drawn, lost)
    losses = spans_of(sorted(lost))
    verify_recounted(said, drawn, dict(named(receipts)), losses)
    verify_kept(said, 1, (1, LAST), dict(named(receipts & drawn)))


@given(numbers, numbers, numbers, st.integers(1, LAST))
def test_no_receipt_changes_sides_unseen(
    receipts: set[int], drawn: set[int], lost: set[int], moved: int
) -> None:
    """Whatever is declared kept or destroyed that is not, or is not that is, is noticed."""
    receipts = receipts | {moved}
    lost = lost - {moved}
    said = statement(receipts, drawn, lost)
    lie = statement(receipts, drawn ^ {moved}, lost)
    assert said != lie
    with pytest.raises(VerificationError) as caught:
        verify_recounted(lie, drawn, dict(named(receipts)), spans_of(sorted(lost)))
    assert caught.value.reason is Reason.RETENTION_MISMATCH
    with pytest.raises(VerificationError):
        verify_kept(lie, 1, (1, LAST), dict(named(receipts & drawn)))


@given(numbers, numbers, st.integers(1, LAST))
def test_a_loss_that_no_statement_told_before_is_noticed(
    receipts: set[int], drawn: set[int], convenient: int
) -> None:
    receipts, drawn = receipts | {convenient}, drawn | {convenient}
    lie = statement(receipts, drawn, {convenient})
    with pytest.raises(VerificationError) as caught:
        verify_recounted(lie, drawn, dict(named(receipts)), ())
    assert caught.value.reason is Reason.RETENTION_MISMATCH


@given(st.lists(st.tuples(st.integers(1, LAST), st.integers(1, LAST))), st.integers(0, LAST + 1))
def test_spans_are_sets(pairs: list[Span], number: int) -> None:
    spans = [(min(pair), max(pair)) for pair in pairs]
    obvious = {each for first, last in spans for each in range(first, last + 1)}
    joined = Spans(spans)
    assert joined.hold(number) == (number in obvious)
    assert set(spans_of(sorted(obvious))) == set(joined.spans)
    inside = {each for a, b in joined.within((10, 20)) for each in range(a, b + 1)}
    assert inside == obvious & set(range(10, 21))


def test_what_was_lost_before_goes_only_once() -> None:
    receipts = dict(named(set(range(1, 11))))
    left = Tally(named({1, 2, 5, 6, 7, 8, 9, 10}))
    said = make_retention("full", (1, 10), left, (), Tally(), 0, 0, PROVIDER).predicate
    verify_recounted(said, (), receipts, [(3, 4)])
    with pytest.raises(VerificationError):
        verify_recounted(said, (), receipts, ())


def test_other_causes_name_what_went() -> None:
    receipts = dict(named(set(range(1, 11))))
    for cause, spans, gone in (
        ("full", (), set(range(1, 11))),
        ("old", (), set(range(1, 11))),
        ("expired", ((2, 3), (7, 7)), {2, 3, 7}),
        ("damaged", ((5, 9),), set(range(5, 10))),
    ):
        said = make_retention(
            cause,  # type: ignore[arg-type]
            (1, 10),
            Tally(named(gone)),
            spans,
            Tally(),
            0,
            0,
            PROVIDER,
        ).predicate
        verify_recounted(said, (), receipts, ())
        fewer = replace(said, destroyed=said.destroyed - 1)
        with pytest.raises(VerificationError):
            verify_recounted(fewer, (), receipts, ())


# A gateway that lies, before an auditor who reads the whole log and a client who has a bundle.


Lie = Callable[[World, Predicate, set[int]], Predicate]


class Lying(World):
    """A world whose gateway says something else of what it destroyed."""

    def __init__(self, lie: Lie) -> None:
        super().__init__()
        self.lie = lie

    def destroy_undrawn(self, statement: Epoch) -> int:
        entered = super().destroy_undrawn(statement)
        honest = retention.parse(payload(self.envelopes.pop()))
        self.leaves.pop()
        self.tree = type(self.tree)()
        self.tree.extend(self.leaves)
        told = replace(honest, predicate=self.lie(self, honest.predicate, set(self.openings)))
        assert self.enter("retention", sign_envelope(encode(told), self.gateway)) == entered
        return entered


def payload(envelope: bytes) -> bytes:
    return payload_of(msgspec.json.decode(envelope, type=Envelope))


def of(world: World, entries: set[int]) -> Named:
    return [(n, bytes.fromhex(entry.parse(world.leaves[n - 1]).sha256)) for n in sorted(entries)]


def a_drawn_one_is_destroyed(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    kept = of(world, drawn - {min(drawn)})
    undrawn = {n for n, leaf in enumerate(world.leaves, 1) if b'"kind":"receipt"' in leaf} - drawn
    gone = of(world, undrawn | {min(drawn)})
    return replace(
        said,
        kept=len(kept),
        kept_digest=retention.digest(kept).hex(),
        destroyed=len(gone),
        destroyed_digest=retention.digest(gone).hex(),
    )


def an_undrawn_one_is_kept(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    undrawn = {n for n, leaf in enumerate(world.leaves, 1) if b'"kind":"receipt"' in leaf} - drawn
    gone = of(world, undrawn - {min(undrawn)})
    return replace(said, destroyed=len(gone), destroyed_digest=retention.digest(gone).hex())


def a_loss_is_made_up(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    kept = of(world, drawn - {min(drawn)})
    return replace(
        said,
        spans=((min(drawn), min(drawn)),),
        kept=len(kept),
        kept_digest=retention.digest(kept).hex(),
    )


def another_range(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    return replace(said, first=said.first + 1)


def another_epoch(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    return replace(said, epoch=said.epoch + 1)


def dropped_for_want_of_room(world: World, said: Predicate, drawn: set[int]) -> Predicate:
    return replace(said, cause="full", epoch=0)


LIES: list[Lie] = [
    a_drawn_one_is_destroyed,
    an_undrawn_one_is_kept,
    a_loss_is_made_up,
    another_range,
    another_epoch,
    dropped_for_want_of_room,
]


@pytest.mark.parametrize("lie", LIES)
def test_an_auditor_who_has_the_log_notices(lie: Lie) -> None:
    world = Lying(lie)
    world.traffic(12)
    with pytest.raises(VerificationError) as caught:
        world.judged(500_000)
    assert caught.value.reason is Reason.RETENTION_MISMATCH


@pytest.mark.parametrize("lie", [LIES[0], *LIES[3:]])
def test_a_bundle_alone_shows_that_a_drawn_one_was_not_kept(lie: Lie) -> None:
    """An auditor who looks away, and whoever gets its bundle."""
    world = Lying(lie)
    case = world.auditor.case

    def look_away(number: int, said: bytes) -> None:
        case.disposals.statements[len(case.disposals.statements) + 1] = number

    case.disposals.take_retention = look_away  # type: ignore[method-assign]
    world.traffic(12)
    world.judged(500_000)
    with pytest.raises(VerificationError) as caught:
        world.verify(world.bundle())
    assert caught.value.reason is Reason.RETENTION_MISMATCH


def test_a_gateway_that_has_not_said_yet_is_counted() -> None:
    world = World()
    world.traffic(12)
    world.judged(500_000)
    world.auditor.case.disposals.statements.clear()
    facts = {fact.name: fact.value for fact in world.verify(world.bundle()).facts}
    assert facts["undrawn"].startswith("declared destroyed for 0 of 1 epochs")
