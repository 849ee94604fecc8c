"""Reference Values of sketches: whole or refused, and e-values from recorded integers alone."""

import msgspec
import numpy as np
import pytest

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations import verifier
from lydite.evidence.activations.reference import (
    KIND,
    Reference,
    channel_log10_e,
    check,
    digest,
    null,
    parse,
)
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.messages.calibration import BY_BINS, BY_TAILS
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics import bins, composite
from tests.evidence.sketched import SPEC, calibrated, claimed, flat, nearby, reference_of, states_of

KNOWN = calibrated()
TAPPED = Spec(coordinates=8, delta="0.032", inner_deltas=("0.05", "0.1", "0.2"))


def finding(scores: tuple[int, ...], reference: Reference = KNOWN, kind: str = KIND) -> Finding:
    return Finding(
        kind=kind,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=digest(reference),
        measures=(Measure(name="sketch", unit="micro-state", values=scores),),
    )


def test_a_reference_survives_its_spelling() -> None:
    assert parse(encode(KNOWN)) == KNOWN
    assert len(digest(KNOWN)) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"spec": msgspec.structs.replace(SPEC, delta="0.016")},  # 2 steps are 4 sigma, not more
        {"sketch": flat((20_000, 10_000))},
        {"sketch": msgspec.structs.replace(flat(), histograms=())},
        {"sketch": msgspec.structs.replace(flat(), edges=(1,))},
        {"spec": TAPPED},
        {"inner": flat()},
        {"error_ppm": 0},
        {"width": 0},
        {"weights_root": "5e"},
    ],
    ids=lambda change: ",".join(change),
)
def test_a_reference_that_is_not_whole_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        parse(encode(msgspec.structs.replace(KNOWN, **change)))


def test_a_reference_may_have_a_second_tap() -> None:
    known = reference_of(TAPPED, [flat(), flat()])
    check(known)
    names = [name for name, _ in channel_log10_e(known, [])]
    assert names == ["activations/sketch", "activations/inner"]


def test_evidence_without_scores_weighs_nothing() -> None:
    assert channel_log10_e(KNOWN, []) == (("activations/sketch", 0.0),)
    others = [finding((1, 2), kind="tokens"), finding(())]
    assert channel_log10_e(KNOWN, others) == (("activations/sketch", 0.0),)


def test_scores_against_another_reference_are_refused() -> None:
    other = msgspec.structs.replace(KNOWN, name="other")
    with pytest.raises(VerificationError) as caught:
        channel_log10_e(KNOWN, [finding((1,), other)])
    assert caught.value.reason is Reason.UNKNOWN_REFERENCE


@pytest.mark.parametrize("score", [-1, specs.highest_micro(SPEC) + 1])
def test_scores_that_no_verifier_records_are_refused(score: int) -> None:
    with pytest.raises(FormatError):
        channel_log10_e(KNOWN, [finding((100, score))])


def test_the_e_value_is_that_of_the_counted_bins() -> None:
    scores = (0, 20_000, 40_000, 60_000, 100_000)
    counts = bins.count(KNOWN.sketch.edges, scores)
    survival = composite.tails(KNOWN.sketch, len(KNOWN.sketch.edges) + 1, KNOWN.error_ppm)
    for method, expected in (
        (BY_BINS, composite.log_e(KNOWN.sketch, [counts], null(KNOWN))),
        (BY_TAILS, composite.log_e_tails(KNOWN.sketch, [counts], survival)),
    ):
        ((_, level),) = channel_log10_e(KNOWN, [finding(scores)], method)
        assert level == pytest.approx(expected / np.log(10), abs=1e-9)


def test_honest_streams_stay_below_and_another_model_rises_above() -> None:
    rng = np.random.default_rng(21)

    def level(sigma: float) -> float:
        findings = []
        for number in range(20):
            states = states_of(rng, 40)
            claim = claimed(nearby(rng, states, sigma), receipt_id=f"x{number}")
            findings.append(verifier.verify(claim, Taps(states), KNOWN))
        return channel_log10_e(KNOWN, findings)[0][1]

    assert level(0.008) < 1
    assert level(0.016) > 3
