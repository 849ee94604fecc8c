import math
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens import attester, verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.noise import murmur
from lydite.evidence.tokens.reference import (
    CAP_MICRO,
    MARGIN,
    OUTSIDE,
    SEEDED,
    SURPRISAL,
    Reference,
    check_covered,
    digest,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.calibration import Binned, Histogram, Provenance
from lydite.messages.tier import Tier

SEED = 987_654_321_987
VOCABULARY = 60
samplings = st.sampled_from(
    [
        Sampling(),
        Sampling(temperature=0.7),
        Sampling(top_p=0.9),
        Sampling(top_p=0.3, temperature=1.3),
        Sampling(top_k=5),
        Sampling(top_k=2, top_p=0.6),
    ]
)


TOY = Histogram(
    name="toy",
    responses=10,
    tokens=1000,
    tokens_squared=100_000,
    counts=(990, 6, 3, 1, 0),
    counts_squared=(98_010, 6, 3, 1, 0),
    crosses=(99_000, 600, 300, 100, 0),
)


def reference(*, noise_micro: int = 0, sampler: str = "lydite/v1") -> Reference:
    return Reference(
        name="toy",
        weights_root="00" * 32,
        sampler=sampler,
        auditor="toy",
        margin=Binned(edges=(1, 5_000, 50_000), histograms=(TOY,)),
        residual=None,
        error_ppm=1000,
        drift_micro=100,
        noise_micro=noise_micro,
        temperature_min_milli=600,
        top_p_min_ppm=300_000,
        alternatives=(),
        provenance=Provenance(script="11" * 32, data="22" * 32, prompts="33" * 32, versions=()),
    )


def serve(
    logits: NDArray[np.float64], sampling: Sampling, seed: int = SEED, prompt: int = 4
) -> Claims:
    """What an honest provider with these logits serves."""
    tokens = [attester.sample(row, sampling, seed, prompt - 1 + t) for t, row in enumerate(logits)]
    return Claims(
        prompt_ids=tuple(range(prompt)), output_ids=tuple(tokens), sampling=sampling, seed=SEED
    )


def some_logits(seed: int, tokens: int = 12) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(scale=2.5, size=(tokens, VOCABULARY))


@given(st.integers(0, 10_000), samplings)
def test_tokens_from_the_same_logits_and_seed_have_no_margin(seed: int, sampling: Sampling) -> None:
    logits = some_logits(seed)
    finding = verifier.verify(serve(logits, sampling), logits, reference())
    assert set(finding.values(MARGIN)) == {0}
    assert finding.tier is Tier.NONE
    assert finding.reason is Reason.RECORDED
    assert finding.reference == digest(reference())


@given(st.integers(0, 10_000), samplings, st.sampled_from([0.001, 0.01, 0.05]))
def test_logits_within_the_noise_never_leave_the_support_nor_exceed_twice_the_noise(
    seed: int, sampling: Sampling, eps: float
) -> None:
    logits = some_logits(seed)
    nudges = np.random.default_rng(seed + 1).uniform(-eps, eps, size=logits.shape)
    served = serve(logits + nudges, sampling)
    finding = verifier.verify(served, logits, reference(noise_micro=round(1e6 * eps)))
    margins = finding.values(MARGIN)
    assert OUTSIDE not in margins
    assert max(margins) <= 2e6 * eps + 1


@given(st.integers(0, 10_000), samplings, st.data())
def test_scores_agree_with_the_obvious_twin(
    seed: int, sampling: Sampling, data: st.DataObject
) -> None:
    logits = some_logits(seed, tokens=3)
    tokens = data.draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=3, max_size=3))
    claims = Claims(prompt_ids=(7,), output_ids=tuple(tokens), sampling=sampling, seed=SEED)
    finding = verifier.verify(claims, logits, reference())
    pairs = zip(logits, tokens, strict=True)
    twins = [twin(row, y, sampling, t) for t, (row, y) in enumerate(pairs)]
    assert finding.values(MARGIN) == pytest.approx([m for m, _ in twins], abs=1)
    assert finding.values(SURPRISAL) == pytest.approx([x for _, x in twins], abs=1)


def twin(row: NDArray[np.float64], y: int, sampling: Sampling, position: int) -> tuple[int, int]:
    """Margin and surprisal without slack, by the definition and plain loops."""
    size = len(row)
    scaled = [float(v) / sampling.temperature for v in row]
    order = sorted(range(size), key=lambda v: -scaled[v])[: sampling.top_k or size]
    total = sum(math.exp(scaled[v]) for v in order)
    kept, mass = [], 0.0
    for v in order:
        if mass >= sampling.top_p:
            break
        kept.append(v)
        mass += math.exp(scaled[v]) / total
    norm = sum(math.exp(scaled[v]) for v in kept)
    p = {v: math.exp(scaled[v]) / norm for v in kept}
    f = {v: min(-math.log(p[v]), 6.0) for v in kept}
    mean = sum(p[v] * f[v] for v in kept)
    surprisal = round(1e6 * (f.get(y, 6.0) - mean) / 6.0)
    g = murmur.gumbel(SEED, position, size)
    noisy = [sampling.temperature * (scaled[v] + float(g[v])) for v in range(size)]
    if y not in kept:
        return OUTSIDE, surprisal
    return min(round(1e6 * (max(noisy[v] for v in kept) - noisy[y])), CAP_MICRO), surprisal


def test_surprisal_is_centred_for_tokens_drawn_from_the_model_with_any_generator() -> None:
    rng = np.random.default_rng(3)
    row = rng.normal(scale=2.0, size=VOCABULARY)
    p = np.exp(row) / np.exp(row).sum()
    tokens = rng.choice(VOCABULARY, size=4000, p=p)
    claims = Claims(
        prompt_ids=(1,), output_ids=tuple(tokens.tolist()), sampling=Sampling(), seed=SEED
    )
    values = verifier.verify(claims, np.tile(row, (4000, 1)), reference()).values(SURPRISAL)
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(4000)


def test_another_seed_temperature_or_filter_leaves_margins() -> None:
    logits = some_logits(5, tokens=200)
    honest = serve(logits, Sampling())
    for cheat in (
        serve(logits, Sampling(), seed=SEED + 1),
        serve(logits, Sampling(temperature=0.8)),
        serve(logits, Sampling(top_p=0.7)),
    ):
        claims = msgspec.structs.replace(honest, output_ids=cheat.output_ids)
        margins = verifier.verify(claims, logits, reference()).values(MARGIN)
        assert sum(margin > 0 for margin in margins) >= 10


@pytest.mark.parametrize("sampler", ["lydite/v1", "sglang-murmur3"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7), Sampling(top_p=0.9)])
def test_hits_are_centred_for_tokens_that_ignore_the_noise_and_frequent_for_others(
    sampling: Sampling, sampler: str
) -> None:
    logits = some_logits(8, tokens=1500)
    honest = serve(logits, sampling)
    known = reference(sampler=sampler)
    deaf = msgspec.structs.replace(
        honest, output_ids=serve(logits, sampling, seed=SEED + 1).output_ids
    )
    other = msgspec.structs.replace(
        honest, output_ids=serve(some_logits(9, tokens=1500), sampling, seed=SEED + 1).output_ids
    )
    for claims in (deaf, other):
        values = verifier.verify(claims, logits, known).values(SEEDED)
        assert len(values) == 1500
        assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(1500)
    if sampler == "lydite/v1":
        assert np.mean(verifier.verify(honest, logits, known).values(SEEDED)) > 300_000


def test_a_sampler_without_seed_leaves_surprisal_alone() -> None:
    logits = some_logits(6)
    drawn = verifier.verify(serve(logits, Sampling()), logits, reference(sampler="none"))
    assert [m.name for m in drawn.measures] == [SURPRISAL]


FIXED = [
    Sampling(temperature=0.0),
    Sampling(seed=7),
    Sampling(top_k=1),
    Sampling(seed=0, top_p=0.9),
]
UNLIKE = [Sampling(temperature=0.59), Sampling(temperature=0.05, top_p=0.9), Sampling(top_p=0.29)]


@pytest.mark.parametrize("sampler", ["lydite/v1", "none"])
@pytest.mark.parametrize(
    ("sampling", "reason"),
    [(s, Reason.NOT_RANDOM) for s in FIXED] + [(s, Reason.UNCALIBRATED) for s in UNLIKE],
)
def test_what_the_client_fixed_or_nobody_calibrated_is_held_against_nobody(
    sampling: Sampling, reason: Reason, sampler: str
) -> None:
    logits = some_logits(7)
    for claims in (serve(logits, sampling), serve(logits, Sampling())):
        with pytest.raises(UnavailableError) as caught:
            verifier.verify(
                msgspec.structs.replace(claims, sampling=sampling),
                logits,
                reference(sampler=sampler),
            )
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.6), Sampling(temperature=9.0), Sampling(top_p=0.3)]
)
def test_the_edge_of_what_was_calibrated_is_covered(sampling: Sampling) -> None:
    check_covered(reference(), sampling)


def test_an_answer_without_tokens_has_no_scores() -> None:
    claims = Claims(prompt_ids=(1,), output_ids=(), sampling=Sampling(), seed=SEED)
    finding = verifier.verify(claims, np.zeros((0, VOCABULARY)), reference())
    assert (finding.values(MARGIN), finding.values(SURPRISAL)) == ((), ())
    assert finding.reason is Reason.RECORDED


def test_a_client_that_asks_at_the_edge_of_the_filter_frames_nobody() -> None:
    # The filter ends exactly between two tokens for the auditor, and after the second one for an
    # honest provider whose logits differ by a hair, in every request that the client picked.
    row = np.log(np.array([0.6, 0.35] + [0.05 / 58] * 58))
    sampling = Sampling(top_p=0.6)
    theirs = row.copy()
    theirs[0] -= 0.01
    assert attester.support(row, sampling).size == 1
    assert attester.support(theirs, sampling).size == 2
    served = serve(np.tile(theirs, (400, 1)), sampling)
    assert len(set(served.output_ids)) == 2
    finding = verifier.verify(served, np.tile(row, (400, 1)), reference(noise_micro=20_000))
    assert set(finding.values(MARGIN)) == {0}
    assert set(finding.values(SURPRISAL)) == {0}


@given(
    st.integers(0, 10_000),
    st.floats(0.3, 0.999),
    st.sampled_from([0, 3, 20]),
    st.floats(0.001, 0.5),
)
def test_no_nudge_within_the_slack_leaves_what_is_certain_or_enters_what_is_impossible(
    seed: int, top_p: float, top_k: int, slack: float
) -> None:
    row = some_logits(seed, tokens=1)[0]
    sampling = Sampling(top_p=top_p, top_k=top_k)
    kept = verifier.support(row, sampling, slack)
    assert not (kept.certain & ~kept.possible).any()
    dice = np.random.default_rng(seed)
    for size in (1.0, 0.3):
        nudge = dice.choice([-slack, slack], VOCABULARY) * size
        left = np.zeros(VOCABULARY, dtype=bool)
        left[attester.support(row + nudge, sampling)] = True
        assert not (left & ~kept.possible).any()
        assert not (kept.certain & ~left).any()


def test_a_filter_close_to_one_keeps_most_of_its_power() -> None:
    row = np.sort(some_logits(3, tokens=1)[0])[::-1]
    p = np.exp(row) / np.exp(row).sum()
    kept = verifier.support(row, Sampling(top_p=0.95), 0.1)
    assert p[kept.certain].sum() > 0.85
    assert not kept.possible.all()


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((2, VOCABULARY)),
        np.zeros((4, VOCABULARY)),
        np.zeros(VOCABULARY),
        np.full((3, VOCABULARY), np.nan),
        np.full((3, VOCABULARY), np.inf),
    ],
)
def test_logits_that_do_not_fit_the_tokens_are_refused(logits: NDArray[np.float64]) -> None:
    claims = Claims(prompt_ids=(1,), output_ids=(1, 2, 3), sampling=Sampling(), seed=SEED)
    with pytest.raises(FormatError):
        verifier.verify(claims, logits, reference())


def test_a_token_that_the_model_does_not_have_is_proof() -> None:
    claims = Claims(prompt_ids=(1,), output_ids=(VOCABULARY,), sampling=Sampling(), seed=SEED)
    with pytest.raises(VerificationError) as caught:
        verifier.verify(claims, np.zeros((1, VOCABULARY)), reference())
    assert caught.value.reason is Reason.UNKNOWN_TOKEN


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_p=0.95)])
def test_scoring_an_answer_takes_milliseconds(sampling: Sampling) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=2.5, size=(128, 2048)).astype(np.float32)
    claims = serve(logits, sampling)
    verifier.verify(claims, logits, reference())
    started = time.process_time()
    verifier.verify(claims, logits, reference())
    assert time.process_time() - started < 0.2  # 0.03 s on an idle core; others share this one


def test_tokens_before_which_honest_machines_differ_are_left_out() -> None:
    dice = np.random.default_rng(5)
    logits = dice.normal(0.0, 2.0, (4, VOCABULARY)).astype(np.float32)
    others = logits + np.float32(3.0)  # a common shift changes no choice
    others[1, logits[1].argmax()] += 1.0
    others[2, logits[2].argmin()] += 1.0 if np.ptp(logits[2]) > verifier.LEADING_NATS else 0.0
    found = verifier.settled(logits, others, reference(noise_micro=100_000))
    assert found.tolist() == [True, False, True, True]


def test_what_is_left_out_is_left_out_of_every_measure() -> None:
    dice = np.random.default_rng(6)
    logits = dice.normal(0.0, 2.0, (4, VOCABULARY)).astype(np.float32)
    finding = verifier.verify(serve(logits, Sampling()), logits, reference())
    kept = verifier.keep(finding, np.array([True, False, True, False]))
    for measure, whole in zip(kept.measures, finding.measures, strict=True):
        assert measure.values == (whole.values[0], whole.values[2])


def test_logits_of_two_shapes_cannot_agree() -> None:
    with pytest.raises(FormatError):
        verifier.settled(np.zeros((2, 3)), np.zeros((3, 2)), reference())
