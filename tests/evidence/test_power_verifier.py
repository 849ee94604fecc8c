import math

import msgspec
import numpy as np
import pytest

from lydite.errors import FormatError, LyditeError, Reason, UnavailableError, VerificationError
from lydite.evidence.power import attester, claims, reference, verifier
from lydite.evidence.power.attester import Answered
from lydite.evidence.power.gpus import GPUS
from lydite.evidence.power.reference import MICRO
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from tests.evidence import power_world as world
from tests.evidence.power_world import H200, HALF, LLAMA_8B, LLAMA_70B

GENERIC = reference.generic(H200)


def one(finding: Finding, name: str) -> int:
    (value,) = finding.values(name)
    return value


def test_a_run_as_declared_scores_nought() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    finding = verifier.verify(made, traces, GENERIC, 60)
    assert one(finding, "score") == 0
    assert finding.tier is Tier.NONE
    assert finding.reason is Reason.RECORDED
    assert abs(one(finding, "log/time")) < 20_000
    assert abs(one(finding, "log/energy")) < 20_000
    assert finding.values("log/traffic") == ()  # named, without a value: not observed


def test_8b_served_as_70b_is_found_out_within_a_minute_on_any_site() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_8B)
    finding = verifier.verify(made, traces, GENERIC, 60)
    assert one(finding, "score") == MICRO
    assert one(finding, "broken/time-bound") == 1
    assert one(finding, "deviation/time") < -3000
    assert finding.tier is Tier.NONE


def test_declared_speculation_lifts_the_bound_on_time() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_8B, speculative=True)
    finding = verifier.verify(made, traces, GENERIC, 60)
    assert one(finding, "broken/time-bound") == 0
    assert finding.values("log/time") == ()
    assert one(finding, "score") > 0  # joules a token still tell


def test_less_memory_in_use_than_the_weights_take_breaks_a_bound() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    used = [world.trace(400.0, also={"memory_used_b": 40e9}) for _ in traces]
    finding = verifier.verify(made, used, GENERIC, 60)
    assert one(finding, "broken/memory-bound") == 1
    assert one(finding, "score") == MICRO
    enough = [world.trace(400.0, also={"memory_used_b": 75e9}) for _ in traces]
    assert one(verifier.verify(made, enough, GENERIC, 60), "broken/memory-bound") == 0


def test_hashing_between_requests_is_found_out_by_its_gate_and_by_its_joules() -> None:
    needed = world.physical(LLAMA_70B, world.load_of(8))
    made = world.claims(LLAMA_70B, needed.time_s, seconds=70.0, rest_s=30.0)
    mining = {"sm_active": 1.0, "tensor_active": 0.0, "integer_active": 0.8}
    busy = {"sm_active": 0.3, "tensor_active": 0.1, "integer_active": 0.1}
    seen = [
        world.trace(needed.power_w, rest_s=30.0, rest_w=350.0, also=busy, resting=mining)
        for _ in range(2)
    ]
    finding = verifier.verify(made, seen, GENERIC, 60)
    assert one(finding, "gate/hashing/gaps 0") == 1
    assert one(finding, "score") == MICRO
    blind = [world.trace(needed.power_w, rest_s=30.0, rest_w=350.0) for _ in range(2)]
    finding = verifier.verify(made, blind, GENERIC, 60)
    assert finding.values("gate/hashing/gaps 0") == ()
    assert one(finding, "deviation/gap") > 3000
    assert one(finding, "score") > 0


def test_rest_between_requests_is_nothing_odd_and_less_than_rest_neither() -> None:
    needed = world.physical(LLAMA_70B, world.load_of(8))
    made = world.claims(LLAMA_70B, needed.time_s, rest_s=30.0)
    for rest_w in (119.0, 20.0):
        traces = [world.trace(needed.power_w, rest_s=30.0, rest_w=rest_w) for _ in range(2)]
        assert one(verifier.verify(made, traces, GENERIC, 60), "score") == 0


def test_training_between_requests_counts_and_a_prefill_like_it_does_not() -> None:
    needed = world.physical(LLAMA_70B, world.load_of(8))
    made = world.claims(LLAMA_70B, needed.time_s, rest_s=30.0)
    hard = {"sm_active": 0.88, "tensor_active": 0.58}
    trained = [
        world.trace(needed.power_w, rest_s=30.0, rest_w=650.0, also=hard, resting=hard)
        for _ in range(2)
    ]
    assert one(verifier.verify(made, trained, GENERIC, 60), "score") == MICRO
    prefilled = [world.trace(450.0, rest_s=30.0, also=hard) for _ in range(2)]
    finding = verifier.verify(made, prefilled, GENERIC, 60)
    assert one(finding, "gate/training-like/busy 0") == 1
    assert one(finding, "score") == 0


def test_an_energy_counter_unlike_the_power_beside_it_is_tampering() -> None:
    made, (first, second) = world.run(LLAMA_70B, LLAMA_70B)
    counter = first.series["energy_j"]
    slow = type(counter)(counter.channel, counter.t_ns.copy(), counter.values * 0.6)
    forged = type(first)(first.device, {**first.series, "energy_j": slow})
    finding = verifier.verify(made, [forged, second], GENERIC, 60)
    assert one(finding, "gate/energy-unlike-power/busy 0") == 1
    assert one(finding, "score") == MICRO


def test_what_was_not_measured_is_not_compared() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    short = [one.between(one.start_ns, one.start_ns + 20 * world.SECOND) for one in traces]
    with pytest.raises(UnavailableError) as caught:
        verifier.verify(made, short, GENERIC, 60)
    assert caught.value.reason is Reason.UNMEASURED
    blind = [world.trace(1.0, also={"sm_active": 0.5}) for _ in traces]
    for name in ("power_average_w", "energy_j"):
        blind = [type(b)(b.device, {k: v for k, v in b.series.items() if k != name}) for b in blind]
    with pytest.raises(UnavailableError):
        verifier.verify(made, blind, GENERIC, 60)


def test_a_run_shorter_than_the_horizon_waits() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    with pytest.raises(UnavailableError) as caught:
        verifier.verify(made, traces, GENERIC, 600)
    assert caught.value.reason is Reason.TOO_SHORT


def test_other_gpus_than_declared_are_refused() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    with pytest.raises(FormatError):
        verifier.verify(made, traces[:1], GENERIC, 60)
    with pytest.raises(FormatError):
        verifier.verify(made, traces, GENERIC, 61)
    with pytest.raises(VerificationError) as caught:
        verifier.verify(made, traces, reference.generic(GPUS["NVIDIA H100"]), 60)
    assert caught.value.reason is Reason.UNKNOWN_REFERENCE


def test_every_finding_says_on_what_it_rests() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    finding = verifier.verify(made, traces, GENERIC, 60)
    assert finding.reference == reference.digest(GENERIC)
    assert one(finding, "covered") == MICRO
    assert one(finding, "session") == claims.session_number(made)
    assert encode(finding)  # all integers within 2^53


def test_claims_survive_their_spelling_and_nothing_else_does() -> None:
    made, _ = world.run(LLAMA_8B, LLAMA_8B)
    assert claims.parse(encode(made)) == made
    for payload in (b"", b"{}", encode(made)[:-1], encode(made) + b" "):
        with pytest.raises(FormatError):
            claims.parse(payload)


@pytest.mark.parametrize(
    "change",
    [
        {"requests": ()},
        {"end_us": world.START_US + 1},
        {"shape": msgspec.structs.replace(LLAMA_8B, kv_heads=7)},
        {"shape": msgspec.structs.replace(LLAMA_8B, active_experts=2)},
    ],
)
def test_work_that_cannot_have_happened_is_refused(change: dict[str, object]) -> None:
    made, _ = world.run(LLAMA_8B, LLAMA_8B)
    with pytest.raises(FormatError):
        claims.check(msgspec.structs.replace(made, **change))
    twice = msgspec.structs.replace(made, requests=made.requests + made.requests[:1])
    with pytest.raises(FormatError):
        claims.check(twice)


def test_the_attester_leaves_out_and_counts_what_has_no_tokens_or_lies_outside() -> None:
    made, _ = world.run(LLAMA_8B, LLAMA_8B)
    frame = msgspec.structs.replace(made, requests=())
    at = made.start_us
    answers = [
        Answered("aa" * 32, "t", at + 10, at + 20, at + 30, 5, 7),
        Answered("bb" * 32, "t", at + 10, at + 20, at + 30, 5, 0),
        Answered("cc" * 32, "t", at - 10, at - 5, at, 5, 7),
        Answered("dd" * 32, "t", at - 10, at + 20, at + 30, 5, 7),
    ]
    found, left_out = attester.declare(frame, answers)
    assert [request.receipt for request in found.requests] == ["dd" * 32, "aa" * 32]
    assert left_out == 2
    with pytest.raises(FormatError):
        attester.declare(frame, answers[1:3])


def scored(score: int, session: int = 1, horizon: int = 60) -> Finding:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    finding = verifier.verify(made, traces, GENERIC, 60)
    given = {"score": score, "session": session, "horizon": horizon}
    rows = tuple(
        msgspec.structs.replace(row, values=(given[row.name],)) if row.name in given else row
        for row in finding.measures
    )
    return msgspec.structs.replace(finding, measures=rows)


def test_a_session_counts_once_at_each_horizon() -> None:
    found = [scored(0), scored(MICRO), scored(MICRO, horizon=600), scored(MICRO, session=2)]
    assert reference.steps(GENERIC, found) == ((60, 0), (600, MICRO), (60, MICRO))


def test_misfits_of_many_sessions_grow_and_fits_do_not() -> None:
    bad = [scored(MICRO, session=i) for i in range(4)]
    good = [scored(0, session=i) for i in range(40)]
    levels = dict(reference.channel_log10_e(GENERIC, bad))
    assert levels["power/60s"] > math.log10(20)
    assert levels["power/600s"] == 0.0
    assert dict(reference.channel_log10_e(GENERIC, good))["power/60s"] <= 0.0


@pytest.mark.parametrize(
    "broken", [scored(MICRO + 1), scored(0, horizon=61), scored(0, session=-1)]
)
def test_scores_that_no_verifier_records_are_refused(broken: Finding) -> None:
    with pytest.raises(FormatError):
        reference.channel_log10_e(GENERIC, [broken])


def test_scores_against_another_reference_are_refused() -> None:
    other = reference.generic(GPUS["NVIDIA H100"])
    with pytest.raises(VerificationError):
        reference.channel_log10_e(other, [scored(0)])


@pytest.mark.parametrize(
    "change",
    [
        {"quiet_milli": 4500},
        {"horizons_s": (600, 60)},
        {"horizons_s": (0,)},
        {"site": "somewhere"},
        {"fitted": GENERIC.fitted + GENERIC.fitted[:1]},
    ],
)
def test_a_reference_that_is_not_whole_is_refused(change: dict[str, object]) -> None:
    broken = msgspec.structs.replace(GENERIC, **change)
    with pytest.raises(FormatError):
        reference.parse(encode(broken))
    assert reference.parse(encode(GENERIC)) == GENERIC


def test_requests_that_reach_beyond_the_horizon_count_in_part() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B, output=4096, seconds=200.0)
    finding = verifier.verify(made, traces, GENERIC, 60)
    assert abs(one(finding, "log/energy")) < 200_000
    assert one(finding, "score") == 0


def test_no_hostile_trace_ends_in_anything_unforeseen() -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    generator = np.random.default_rng(7)
    for _ in range(50):
        hostile = []
        for each in traces:
            kept = np.flatnonzero(generator.random(701) < generator.random())
            kept = kept if len(kept) else np.array([3])
            watts = generator.choice([0.0, 1.0, 700.0, 20_000.0], len(kept))
            series = each.series["power_average_w"]
            row = type(series)(series.channel, series.t_ns[kept], watts)
            hostile.append(type(each)(each.device, {"power_average_w": row}))
        try:
            finding = verifier.verify(made, hostile, GENERIC, 60)
        except LyditeError:
            continue
        assert 0 <= one(finding, "score") <= MICRO
        assert finding.tier is Tier.NONE


def test_numerics_of_eight_bits_need_less() -> None:
    half = world.physical(LLAMA_70B, world.load_of(8), numerics=HALF)
    eighth = world.physical(LLAMA_70B, world.load_of(8), numerics=world.EIGHTH)
    assert eighth.time_s < 0.65 * half.time_s
    assert eighth.energy_j < 0.75 * half.energy_j
