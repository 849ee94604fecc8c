"""The auditor: resumes from the log alone, believes nothing, accuses nobody of what it missed."""

import hashlib

import pytest

from lydite.appraisal.trust import Trust
from lydite.appraisal.verification import verify
from lydite.auditor.bench import Bench
from lydite.auditor.service import Auditor
from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World, key
from lydite.messages.canonical import encode
from lydite.messages.opening import Opening
from lydite.messages.tier import Tier
from lydite.signing.keys import Signer


def another_auditor(
    world: World, signer: Signer | None = None, trust: Trust | None = None
) -> Auditor:
    """An auditor that knows only what is in the log."""
    bench = Bench(world.model, (world.reference,))
    anchors, provider = world.trust, world.trust.providers[0]
    who = signer or world.auditor_key
    return Auditor(world, anchors, provider, world.policy, bench, who)


def records(auditor: Auditor, numbers: list[int]) -> list[bytes]:
    """Signed records of some drawn receipts, not published."""
    found = auditor._examine(numbers)
    return [auditor._record(at, findings) for at, findings in found.items() if findings is not None]


def test_a_killed_auditor_goes_on_where_it_stopped() -> None:
    world = World()
    world.traffic(12)
    world.auditor.open_epoch(1_000_000)
    for record in records(world.auditor, world.auditor.case.pending()[:5]):
        world.publish(record)
    resumed = another_auditor(world)
    assert resumed.audit_pending() == 7
    assert resumed.judge().audited == 12
    world.auditor = resumed
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


def test_two_runs_of_one_auditor_agree_to_the_byte() -> None:
    world = World()
    world.traffic(12)
    first = world.judged()
    again = another_auditor(world)
    again.audit_pending()
    assert again.judge() == first


def test_a_record_written_twice_counts_once() -> None:
    world = World()
    world.traffic(12)
    world.auditor.open_epoch(1_000_000)
    number = world.auditor.case.pending()[0]
    (record,) = records(world.auditor, [number])
    world.publish(record)
    world.publish(record)
    world.auditor.audit_pending()
    assert world.auditor.judge().audited == 12
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


def test_an_auditor_whom_the_trust_file_does_not_name_does_not_begin() -> None:
    world = World()
    world.traffic(4)
    world.judged()
    with pytest.raises(VerificationError) as refused:
        another_auditor(world, key("stranger")).audit_pending()
    assert refused.value.reason is Reason.UNKNOWN_KEY


def test_records_of_a_stranger_are_not_ours() -> None:
    world = World()
    world.traffic(6)
    world.auditor.open_epoch(1_000_000)
    stranger = another_auditor(world)
    stranger.case.catch_up()
    stranger._signer = key("stranger")
    for record in records(stranger, world.auditor.case.pending()):
        world.publish(record)
    assert world.auditor.audit_pending() == 6


class Withholding(World):
    """A gateway that opens nothing."""

    def opening(self, number: int) -> Opening:
        raise UnavailableError("gone")


def test_attack_20_a_gateway_that_withholds_openings_gets_no_affirmation() -> None:
    world = Withholding()
    world.traffic(12)
    verdict = world.judged()
    assert (verdict.tier, verdict.reason) == (Tier.NONE, Reason.UNAVAILABLE)
    assert [(s.kind, s.count) for s in verdict.skipped] == [("tokens", 12)]


class Forging(World):
    """A gateway that opens other bytes than were committed to."""

    def opening(self, number: int) -> Opening:
        other = super().opening(number)
        fields = {name: getattr(other, name) for name in other.__struct_fields__}
        return Opening(**{**fields, "response": "e30="})


def test_a_forged_opening_is_the_gateways_fault_and_accuses_no_provider() -> None:
    world = Forging()
    world.traffic(12)
    verdict = world.judged()
    assert verdict.tier is Tier.NONE
    assert verdict.skipped[0].reason is Reason.BAD_COMMITMENT


def test_an_envelope_that_is_not_the_logged_one_is_refused() -> None:
    world = World()
    world.traffic(2)
    world.auditor.case.catch_up()
    world.envelopes[1] = world.envelopes[2]
    with pytest.raises(UnavailableError) as refused:
        world.auditor.case.envelope(2)
    assert refused.value.reason is Reason.BAD_COMMITMENT


def test_a_reference_for_other_weights_is_never_used() -> None:
    world = World()
    world.traffic(12)
    world.auditor.open_epoch(1_000_000)
    other = Bigram(seed=9)
    reference = {n: getattr(world.reference, n) for n in world.reference.__struct_fields__}
    reference["weights_root"] = other.weights_root
    world.auditor._bench = Bench(world.model, (type(world.reference)(**reference),))
    with pytest.raises(VerificationError) as refused:
        world.auditor.audit_pending()
    assert refused.value.reason is Reason.UNKNOWN_REFERENCE


def test_there_is_no_bundle_before_there_is_a_result() -> None:
    world = World()
    world.traffic(2)
    with pytest.raises(UnavailableError):
        world.bundle()


def test_there_is_no_result_before_every_drawn_receipt_is_audited() -> None:
    world = World()
    world.traffic(2)
    world.auditor.open_epoch(1_000_000)
    with pytest.raises(UnavailableError):
        world.auditor.judge()


def test_a_bundle_of_another_world_is_refused() -> None:
    world = World()
    world.traffic(12)
    world.judged()
    bundle = world.bundle()
    fields = {n: getattr(world.trust, n) for n in world.trust.__struct_fields__}
    anchor = fields["providers"][0]
    other = {n: getattr(anchor, n) for n in anchor.__struct_fields__}
    for name in ("gateway_key", "vrf_key", "log_vkey"):
        stranger = key("stranger").public.hex()
        value = other["log_vkey"].replace("log", "gol") if name == "log_vkey" else stranger
        changed = type(anchor)(**{**other, name: value})
        trust = Trust(**{**fields, "providers": (changed,)})
        with pytest.raises((FormatError, VerificationError)):
            verify(bundle, trust)


def test_attack_23_an_old_bundle_is_stale_for_who_asks_for_a_fresh_one() -> None:
    world = World()
    world.traffic(12)
    world.judged()
    bundle = world.bundle()
    assert verify(bundle, world.trust, world.now_s - 60).tier is Tier.AFFIRMING
    with pytest.raises(VerificationError) as refused:
        verify(bundle, world.trust, world.now_s + 60)
    assert refused.value.reason is Reason.STALE


def test_the_size_of_a_bundle_stays_under_eight_kilobytes_a_request() -> None:
    world = World()
    world.traffic(40, 64)
    world.judged()
    assert len(world.bundle()) / 40 < 8192


def test_no_prompt_and_no_answer_is_in_a_bundle() -> None:
    world = World()
    world.serve("a secret prompt", 32)
    world.traffic(12)
    world.judged()
    bundle = world.bundle()
    answer = world.openings[2].response_bytes()
    for secret in (b"a secret prompt", answer, world.openings[2].salt_bytes()):
        assert secret not in bundle
        assert hashlib.sha256(secret).hexdigest().encode() not in bundle
    assert encode(world.trust) not in bundle
