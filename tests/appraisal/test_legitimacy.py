import random

import msgspec
import pytest

from lydite.appraisal import legitimacy
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.power import reference
from lydite.evidence.power.gpus import GPUS
from lydite.evidence.power.reference import MICRO
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

SITE = msgspec.structs.replace(
    reference.generic(GPUS["NVIDIA H200"]),
    fitted=tuple(
        msgspec.structs.replace(one, spread_micro=20_000)
        for one in reference.generic(GPUS["NVIDIA H200"]).fitted
    ),
    mean_micro=10_000,
)
PRIOR = 0.9


def finding(*deviations: float, session: int = 1, score: int = 0) -> Finding:
    rows = {"score": score, "session": session, "horizon": 60}
    names = ("time", "energy", "power")
    rows |= {f"deviation/{n}": round(1000 * d) for n, d in zip(names, deviations, strict=False)}
    return Finding(
        kind="power",
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=reference.digest(SITE),
        measures=tuple(Measure(name=n, unit="1", values=(v,)) for n, v in rows.items()),
    )


def chance(*findings: Finding) -> float:
    return legitimacy.probability(SITE, findings, PRIOR).probability


def test_without_telemetry_the_prior_stays() -> None:
    assert chance() == pytest.approx(PRIOR)


def test_what_fits_raises_it_and_what_does_not_lowers_it() -> None:
    assert chance(finding(0.3, -0.5, 0.1)) > PRIOR
    falls = [chance(finding(size, 0.0, 0.0)) for size in (1.0, 2.0, 3.0, 4.0, 6.0, 60.0)]
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] < PRIOR / 5


def test_fitting_too_well_is_nothing_odd() -> None:
    assert chance(finding(0.0, 0.0, 0.0)) == pytest.approx(chance(finding(0.5, 0.1, 0.2)))


def test_one_session_never_decides_and_several_do() -> None:
    one = chance(finding(60.0, 0.0, 0.0))
    least = PRIOR * 0.01 / (PRIOR * 0.01 + 1 - PRIOR)
    assert one == pytest.approx(least, rel=0.01)
    assert chance(*[finding(60.0, session=i) for i in range(4)]) < 1e-6


def test_a_session_counts_once() -> None:
    assert chance(finding(9.0), finding(9.0)) == chance(finding(9.0))


def test_a_broken_bound_counts_as_the_rarest_honest_session() -> None:
    broken = chance(finding(0.1, 0.2, 0.1, score=MICRO))
    assert broken == pytest.approx(PRIOR * 0.01 / (PRIOR * 0.01 + 1 - PRIOR))


def test_probabilities_are_frequencies_where_the_assumptions_hold() -> None:
    generator = random.Random(6)
    bins: dict[int, list[bool]] = {}
    for session in range(4000):
        honest = generator.random() < 0.5
        sizes = [generator.gauss(0, 1) for _ in range(3)]
        if not honest or generator.random() < 0.01:
            sizes[0] = generator.uniform(-1, 1) * legitimacy.REACH / 0.02
        found = legitimacy.probability(SITE, [finding(*sizes, session=session)], 0.5)
        bins.setdefault(int(found.probability * 5), []).append(honest)
    for place, outcomes in bins.items():
        if len(outcomes) >= 100:
            share = sum(outcomes) / len(outcomes)
            assert place / 5 - 0.05 <= share <= (place + 1) / 5 + 0.05


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, float("nan")])
def test_a_prior_that_is_none_is_refused(prior: float) -> None:
    with pytest.raises(FormatError):
        legitimacy.probability(SITE, [], prior)


def test_another_reference_is_refused() -> None:
    other = reference.generic(GPUS["NVIDIA H100"])
    with pytest.raises(VerificationError):
        legitimacy.probability(other, [finding(0.1)], PRIOR)
