import random

import msgspec
import pytest

from lydite.appraisal import telemetry
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.power import reference
from lydite.evidence.power.gpus import GPUS
from lydite.evidence.power.reference import MICRO
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

GENERIC = reference.generic(GPUS["NVIDIA H200"])
POLICY = telemetry.DEFAULT


def finding(score: int, session: int, horizon: int = 60) -> Finding:
    rows = {"score": score, "session": session, "horizon": horizon}
    return Finding(
        kind="power",
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=reference.digest(GENERIC),
        measures=tuple(Measure(name=n, unit="1", values=(v,)) for n, v in rows.items()),
    )


def advice(*scores: int) -> telemetry.Advice:
    return telemetry.advise(POLICY, GENERIC, [finding(s, i) for i, s in enumerate(scores)])


def test_telemetry_that_fits_affirms_nothing_and_raises_nothing() -> None:
    found = advice(*[0] * 30)
    assert found.tier is Tier.NONE
    assert found.reason is Reason.TELEMETRY_FITS
    assert found.epsilon_ppm == POLICY.usual_epsilon_ppm
    assert found.sessions == 30


def test_no_telemetry_is_unmeasured() -> None:
    assert telemetry.advise(POLICY, GENERIC, []).reason is Reason.UNMEASURED
    silent = Finding(kind="power", tier=Tier.NONE, reason=Reason.UNMEASURED)
    found = telemetry.advise(POLICY, GENERIC, [silent])
    assert (found.reason, found.skipped, found.sessions) == (Reason.UNMEASURED, 1, 0)


def test_one_session_that_does_not_fit_raises_the_rate_after_an_honest_past() -> None:
    found = advice(*[0] * 30, MICRO)
    assert found.tier is Tier.WARNING
    assert found.reason is Reason.TELEMETRY_MISFITS
    assert found.epsilon_ppm == POLICY.raised_epsilon_ppm


def test_the_first_session_warns_and_the_second_raises() -> None:
    first, second = advice(MICRO), advice(MICRO, MICRO)
    assert first.tier is Tier.WARNING
    assert first.epsilon_ppm == POLICY.usual_epsilon_ppm
    assert second.epsilon_ppm == POLICY.raised_epsilon_ppm


def test_no_amount_of_telemetry_contraindicates() -> None:
    assert advice(*[MICRO] * 200).tier is Tier.WARNING


def test_an_honest_site_has_false_alarms_no_more_often_than_the_policy_says() -> None:
    generator = random.Random(3)
    rates = GENERIC.mean_micro / MICRO
    alarms, sessions = 0, 0
    for _ in range(20):
        scores: list[int] = []
        for _ in range(20):
            scores.append(MICRO * (generator.random() < rates))
            sessions += 1
            if advice(*scores).epsilon_ppm == POLICY.raised_epsilon_ppm:
                alarms += 1
                break
    assert alarms * POLICY.alarm_sessions <= 1.2 * sessions


@pytest.mark.parametrize(
    "change",
    [
        {"weight_ppm": 1_000_000},
        {"weight_ppm": 0},
        {"raised_epsilon_ppm": 1},
        {"alarm_sessions": 0},
    ],
)
def test_a_policy_that_would_let_telemetry_decide_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(FormatError):
        telemetry.advise(msgspec.structs.replace(POLICY, **change), GENERIC, [])


def test_scores_against_another_reference_are_refused() -> None:
    other = reference.generic(GPUS["NVIDIA H100"])
    with pytest.raises(VerificationError):
        telemetry.advise(POLICY, other, [finding(0, 1)])


def test_advice_has_one_spelling_and_what_was_not_observed_is_said() -> None:
    assert encode(advice(0, MICRO))
    rows = (Measure(name="log/traffic", unit="micro-neper", values=()),)
    silent = msgspec.structs.replace(finding(0, 1), measures=rows)
    assert telemetry.explain(silent) == (("log/traffic", "not observed"),)
