"""Lies by those who hold a genuine key: what each could sign, and what still gives it away."""

import json
import re
from collections.abc import Callable

import msgspec
import pytest

from lydite.appraisal.policy import DEFAULT
from lydite.appraisal.verification import verify
from lydite.errors import FormatError, Reason, VerificationError
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World, key
from lydite.messages import audit, epoch
from lydite.messages.audit import Audit, Result
from lydite.messages.canonical import encode
from lydite.messages.epoch import Epoch
from lydite.messages.finding import Finding, Measure
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.sampling import beacon
from lydite.signing.dsse import open_envelope
from lydite.signing.keys import Signer, sign_envelope

replace = msgspec.structs.replace


class Lying(World):
    """A world in which ``lie`` is told whenever somebody signs a statement."""

    def __init__(self, lie: Callable[[object], object], cheat: Bigram | None = None) -> None:
        super().__init__(cheat)
        self.lie = lie

    def enter(self, kind, envelope):  # type: ignore[no-untyped-def]
        signers = {"epoch": self.gateway, "audit": self.auditor_key, "result": self.auditor_key}
        parse = {"epoch": epoch.parse, "audit": audit.parse_audit, "result": audit.parse_result}
        if kind in signers and hasattr(self, "lie"):
            signer: Signer = signers[kind]
            payload = open_envelope(envelope, {signer.keyid: signer.public}, [])
            told = self.lie(parse[kind](payload))
            envelope = sign_envelope(encode(told), signer)
        return super().enter(kind, envelope)


def outcome(world: World) -> Reason:
    """Return the reason for which the deployment or, if it goes through, its bundle is refused."""
    with pytest.raises((FormatError, VerificationError)) as refused:
        go_through(world)
    return refused.value.reason


def go_through(world: World) -> None:
    world.traffic(12)
    world.judged()
    world.verify(world.bundle())


# An auditor who favours or hates a provider.


def better_verdict(statement: object) -> object:
    if not isinstance(statement, Result):
        return statement
    verdict = replace(statement.predicate.verdict, tier=Tier.AFFIRMING, reason=Reason.CONSISTENT)
    return replace(statement, predicate=replace(statement.predicate, verdict=verdict))


def worse_verdict(statement: object) -> object:
    if not isinstance(statement, Result):
        return statement
    verdict = replace(
        statement.predicate.verdict, tier=Tier.CONTRAINDICATED, reason=Reason.INCONSISTENT_TOKENS
    )
    return replace(statement, predicate=replace(statement.predicate, verdict=verdict))


def test_an_auditor_cannot_sign_a_better_verdict_than_its_scores() -> None:
    assert outcome(Lying(better_verdict, Bigram(noise=0.5))) is Reason.VERDICT_MISMATCH


def test_an_auditor_cannot_sign_a_worse_verdict_than_its_scores() -> None:
    assert outcome(Lying(worse_verdict)) is Reason.VERDICT_MISMATCH


def test_an_auditor_cannot_claim_a_narrower_policy() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Result):
            return statement
        return replace(statement, predicate=replace(statement.predicate, policy="0" * 64))

    assert outcome(Lying(lie)) is Reason.VERDICT_MISMATCH


def test_an_auditor_cannot_pass_one_receipts_audit_off_as_anothers() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Audit):
            return statement
        return replace(statement, subject=subject("receipt", bytes(32)))

    assert outcome(Lying(lie)) is Reason.AUDIT_MISSING


def test_scores_against_another_reference_are_refused() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Audit):
            return statement
        findings = tuple(replace(f, reference="0" * 64) for f in statement.predicate.findings)
        return replace(statement, predicate=replace(statement.predicate, findings=findings))

    assert outcome(Lying(lie)) is Reason.UNKNOWN_REFERENCE


def test_scores_that_no_verifier_records_are_refused() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Audit):
            return statement
        rows = (Measure(name="margin", unit="micro-logit", values=(-2,)),)
        findings = tuple(replace(f, measures=rows) for f in statement.predicate.findings)
        return replace(statement, predicate=replace(statement.predicate, findings=findings))

    assert outcome(Lying(lie)) is Reason.MALFORMED


def test_an_auditor_who_leaves_out_a_drawn_receipt_has_no_bundle_to_show() -> None:
    world = World()
    world.traffic(12)
    world.auditor.open_epoch(1_000_000)
    world.auditor.audit_pending()
    world.auditor.judge()
    lost = max(world.auditor.case.audits)
    del world.auditor.case.audits[lost]
    with pytest.raises(VerificationError) as refused:
        world.verify(world.bundle())
    assert refused.value.reason is Reason.AUDIT_MISSING


# A gateway that would rather choose what is audited.


def of_epoch(**fields: object) -> Callable[[object], object]:
    def lie(statement: object) -> object:
        if not isinstance(statement, Epoch):
            return statement
        return replace(statement, predicate=replace(statement.predicate, **fields))

    return lie


def test_a_gateway_cannot_draw_at_a_lower_rate() -> None:
    world = World(policy=replace(DEFAULT, epsilon_ppm=500_000))
    world.traffic(12)
    with pytest.raises(VerificationError) as refused:
        world.judged(100_000)
    assert refused.value.reason is Reason.BAD_RATE


def test_a_gateway_cannot_wait_for_a_round_that_it_likes_better() -> None:
    world = World()

    def lie(statement: object) -> object:
        if not isinstance(statement, Epoch):
            return statement
        later = world.beacon_round(statement.predicate.beacon.round + 1)
        record = beacon.to_record(world.chain, later)
        return replace(statement, predicate=replace(statement.predicate, beacon=record))

    assert outcome(Lying(lie)) is Reason.BAD_ENTROPY


def test_a_gateway_cannot_make_a_round_up() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Epoch):
            return statement
        number = statement.predicate.beacon.round
        forged = beacon.local_round(number, key("stranger").sign(beacon.local_message(number)))
        world = World()
        record = beacon.to_record(world.chain, forged)
        return replace(statement, predicate=replace(statement.predicate, beacon=record))

    assert outcome(Lying(lie)) is Reason.BAD_BEACON


def test_a_gateway_cannot_draw_with_another_proof() -> None:
    assert outcome(Lying(of_epoch(vrf_proof="00" * 80))) is Reason.BAD_SELECTION_PROOF


def test_a_gateway_cannot_leave_entries_undrawn() -> None:
    assert outcome(Lying(of_epoch(first=2))) is Reason.BAD_ENTROPY


def test_a_gateway_cannot_count_its_epochs_differently() -> None:
    assert outcome(Lying(of_epoch(epoch=2))) is Reason.BAD_ENTROPY


def test_a_gateway_cannot_claim_another_size_than_its_pledge() -> None:
    assert outcome(Lying(of_epoch(tree_size=5))) is Reason.BAD_ENTROPY


def test_a_gateway_cannot_claim_a_checkpoint_that_does_not_cover_its_pledge() -> None:
    world = World()
    world.traffic(12)
    early = world.checkpoint().decode()
    lying = Lying(of_epoch(checkpoint=early))
    lying.traffic(13)
    with pytest.raises(VerificationError) as refused:
        lying.judged()
    assert refused.value.reason is Reason.INCONSISTENT_LOG


def test_a_gateway_cannot_rewrite_an_entry_that_the_auditor_has_seen() -> None:
    world = World()
    world.traffic(4)
    world.auditor.case.catch_up()
    world.leaves[2] = world.leaves[2].replace(b'"v":2', b'"v":3')
    world.traffic(4)
    world.tree = type(world.tree)()
    world.tree.extend(world.leaves)
    world.notes = dict.fromkeys(world.notes)  # the witnesses have forgotten, or collude
    with pytest.raises(VerificationError) as refused:
        world.auditor.case.catch_up()
    assert refused.value.reason is Reason.INCONSISTENT_LOG


def test_a_gateway_cannot_shrink_the_log() -> None:
    world = World()
    world.traffic(4)
    world.auditor.case.catch_up()
    del world.leaves[-2:]
    world.tree = type(world.tree)()
    world.tree.extend(world.leaves)
    world.notes = dict.fromkeys(world.notes)
    with pytest.raises(VerificationError) as refused:
        world.auditor.case.catch_up()
    assert refused.value.reason is Reason.INCONSISTENT_LOG


def test_witnesses_refuse_to_cosign_a_rewritten_log() -> None:
    world = World()
    world.traffic(4)
    world.checkpoint()
    world.leaves[2] = b"rewritten"
    world.tree = type(world.tree)()
    world.tree.extend(world.leaves)
    with pytest.raises(Exception, match="refused"):
        world.checkpoint()


# A provider that answers oddly.


def judged(world: World, **fields: object) -> tuple[Tier, Reason]:
    for number in range(12):
        world.serve(f"odd {number} ", **fields)
    verdict = world.judged()
    report = world.verify(world.bundle())
    assert (report.tier, report.reason) == (verdict.tier, verdict.reason)
    return verdict.tier, verdict.reason


class Odd(World):
    """A provider whose answers are changed on their way out, before they are committed to."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self.change_answer = change
        super().__init__()

    def _answer(self, request: bytes, seed: int) -> bytes:
        return self.change_answer(super()._answer(request, seed))


def test_answers_without_token_ids_are_a_warning() -> None:
    world = Odd(lambda answer: answer.replace(b'"token_ids"', b'"tokens"'))
    assert judged(world) == (Tier.WARNING, Reason.NO_TOKEN_IDS)


def test_token_ids_that_do_not_spell_the_text_are_a_warning() -> None:
    world = Odd(lambda answer: answer.replace(b'"text": "', b'"text": "q'))
    assert judged(world) == (Tier.WARNING, Reason.TEXT_DIFFERS)


def half(answer: bytes) -> bytes:
    """Leave out the second half of an answer's tokens, and its text with them."""
    fields = json.loads(answer)
    choice = fields["choices"][0]
    choice["token_ids"] = choice["token_ids"][:16]
    choice["text"] = choice["text"][:16]
    return json.dumps(fields).encode()


def test_answers_that_are_cut_short_are_a_warning() -> None:
    assert judged(Odd(half)) == (Tier.WARNING, Reason.CUT_SHORT)


def test_a_stop_that_neither_the_model_nor_the_request_made_is_a_warning() -> None:
    world = Odd(lambda answer: answer.replace(b'"length"', b'"stop"'))
    assert judged(world) == (Tier.WARNING, Reason.CUT_SHORT)


def test_a_stop_string_does_not_excuse_text_that_is_held_back() -> None:
    world = Odd(lambda answer: re.sub(b'"text": "[^"]*"', b'"text": ""', answer))
    assert judged(world, stop=["no such stop"]) == (Tier.WARNING, Reason.TEXT_DIFFERS)


def test_answers_that_are_no_json_are_odd() -> None:
    assert judged(Odd(lambda _: b"busy")) == (Tier.WARNING, Reason.ODD_ANSWER)


class Generous(World):
    """A provider that serves requests which no auditor can recompute."""

    def _answer(self, request: bytes, seed: int) -> bytes:
        return super()._answer(request.replace(b'"n": 2', b'"n": 1'), seed)


def test_requests_that_cannot_be_recomputed_teach_nothing() -> None:
    assert judged(Generous(), n=2) == (Tier.NONE, Reason.UNSUPPORTED)


def test_too_few_tokens_are_underpowered() -> None:
    world = World()
    world.traffic(2)
    assert world.judged().reason is Reason.UNDERPOWERED


def test_an_empty_log_affirms_nothing() -> None:
    verdict = World().judged()
    assert (verdict.tier, verdict.audited) == (Tier.NONE, 0)


def test_a_finding_of_an_unknown_kind_is_a_named_skip() -> None:
    def lie(statement: object) -> object:
        if not isinstance(statement, Audit):
            return statement
        other = Finding(kind="tpm", tier=Tier.AFFIRMING, reason=Reason.CONSISTENT)
        findings = (*statement.predicate.findings, other)
        return replace(statement, predicate=replace(statement.predicate, findings=findings))

    world = Lying(lie)
    world.traffic(12)
    verdict = world.judged()
    assert verdict.tier is Tier.AFFIRMING
    assert [(s.kind, s.reason, s.count) for s in verdict.skipped] == [
        ("tpm", Reason.NEEDS_EXTRA, 12)
    ]


def test_a_mandatory_kind_that_cannot_be_judged_never_affirms() -> None:
    world = World(policy=replace(DEFAULT, mandatory=("tokens", "tpm")))
    world.traffic(12)
    assert world.judged().tier is Tier.NONE


# What could not be examined is never good news.


class Dodging(World):
    """A provider that makes some of its answers unreadable to an auditor."""

    def __init__(self, dodged: int, change: Callable[[bytes], bytes]) -> None:
        self.left, self.change_answer = dodged, change
        super().__init__()

    def _answer(self, request: bytes, seed: int) -> bytes:
        answer = super()._answer(request, seed)
        self.left -= 1
        return self.change_answer(answer) if self.left >= 0 else answer


def erring(answer: bytes) -> bytes:
    """Stream one honest token, an error, and then text that no auditor is to read."""
    fields = json.loads(answer)
    choice = fields["choices"][0]
    first = {**choice, "text": choice["text"][0], "token_ids": choice["token_ids"][:1]}
    events = [{"choices": [first]}, {"error": {"message": "hiccup"}}, {"choices": [{"text": "x"}]}]
    return b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events) + DONE


DONE = b"data: [DONE]\n\n"


def test_nothing_may_follow_an_error_in_a_stream() -> None:
    assert judged(Odd(erring), stream=True) == (Tier.WARNING, Reason.ODD_ANSWER)


def test_empty_answers_are_counted_and_affirm_nothing() -> None:
    empty = re.compile(b'"text": "[^"]*", "token_ids": \\[[^]]*\\]')
    world = Odd(lambda answer: empty.sub(b'"text": "", "token_ids": []', answer))
    assert judged(world) == (Tier.NONE, Reason.NO_TOKEN_IDS)


ODD_ANSWERS: list[Callable[[bytes], bytes]] = [
    lambda answer: answer.replace(b'"index": 0', b'"index": 1'),
    lambda answer: answer.replace(b'{"object"', b'{"error": {"x": 1}, "object"'),
    lambda answer: answer.replace(b'"choices": [', b'"choices": [{"index": 1, "text": "x"}, '),
    lambda answer: answer.replace(b'"finish_reason": "length"', b'"finish_reason": 0'),
    lambda answer: answer.replace(b'"finish_reason": "length"', b'"finish_reason": NaN'),
    lambda answer: answer.replace(b'"token_ids": [', b'"token_ids": [-1, '),
    lambda answer: answer.decode().encode("utf-16"),
    lambda answer: answer.replace(b'"text"', b'"Text": "x", "text"'),
    lambda answer: answer.replace(b'"text"', b'"text": "x", "text"'),
    lambda answer: answer.replace(b'"text"', b'"message": {"content": "x"}, "text"'),
]


@pytest.mark.parametrize("change", ODD_ANSWERS)
def test_a_provider_cannot_hide_answers_by_making_them_odd(
    change: Callable[[bytes], bytes],
) -> None:
    world = Dodging(5, change)
    for number in range(60):
        world.serve(f"dodge {number} ")
    verdict = world.judged()
    assert verdict.tier is Tier.WARNING
    assert world.verify(world.bundle()).tier is Tier.WARNING


def test_requests_that_cannot_be_examined_are_counted_and_bound_what_is_affirmed() -> None:
    world = Generous()
    for number in range(60):
        world.serve(f"few {number} ", **({"n": 2} if number < 3 else {}))
    report_few = world.judged()
    assert (report_few.tier, report_few.audited, report_few.scored) == (Tier.AFFIRMING, 60, 57)
    for number in range(20):
        world.serve(f"many {number} ", n=2)
    assert (world.judged().tier, world.judged().reason) == (Tier.NONE, Reason.UNSUPPORTED)


def test_attack_23_a_fresh_checkpoint_does_not_make_an_old_verdict_fresh() -> None:
    world = World()
    world.traffic(12)
    world.judged()
    case = world.auditor.case
    drawn_at = world.now_s
    world.now_s += 90 * 86400
    world.traffic(3)
    case.catch_up()
    bundle = world.bundle()
    assert verify(bundle, world.trust).tier is Tier.AFFIRMING
    assert verify(bundle, world.trust, drawn_at - 60).tier is Tier.AFFIRMING
    with pytest.raises(VerificationError) as refused:
        verify(bundle, world.trust, world.now_s - 60)
    assert refused.value.reason is Reason.STALE
