import math
import random
import time
from collections.abc import Callable
from functools import partial
from statistics import mean

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.tokens import reference as room
from lydite.evidence.tokens.reference import Reference
from lydite.messages.calibration import (
    BY_BINS,
    BY_TAILS,
    Binned,
    Cheat,
    Histogram,
    Method,
    Provenance,
)
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics import betting, bins, channel, composite, nearest, shares


def histogram(name: str, rows: list[list[int]]) -> Histogram:
    """From the tokens of each response in each bin."""
    lengths = [sum(row) for row in rows]
    columns = list(zip(*rows, strict=True))
    return Histogram(
        name=name,
        responses=len(rows),
        tokens=sum(lengths),
        tokens_squared=sum(n * n for n in lengths),
        counts=tuple(sum(column) for column in columns),
        counts_squared=tuple(sum(k * k for k in column) for column in columns),
        crosses=tuple(
            sum(k * n for k, n in zip(column, lengths, strict=True)) for column in columns
        ),
    )


BF16 = histogram("bf16", [[99, 1, 0, 0, 0]] * 40 + [[98, 1, 1, 0, 0]] * 20)
FP32 = histogram("fp32", [[100, 0, 0, 0, 0]] * 50 + [[97, 0, 2, 1, 0]] * 10)
REPLACE = msgspec.structs.replace
MARGIN = Binned(edges=(1, 5_000, 50_000), histograms=(BF16, FP32))
REFERENCE = Reference(
    name="toy",
    weights_root="00" * 32,
    sampler="lydite/v1",
    auditor="fp32",
    margin=MARGIN,
    residual=None,
    error_ppm=1000,
    drift_micro=700,
    noise_micro=20_000,
    temperature_min_milli=600,
    top_p_min_ppm=800_000,
    alternatives=(),
    provenance=Provenance(script="11" * 32, data="22" * 32, prompts="33" * 32, versions=()),
)


def finding(margins: list[int], surprisals: list[int], reference: Reference = REFERENCE) -> Finding:
    rows = {"margin": margins, "surprisal": surprisals}
    return Finding(
        kind="tokens",
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=room.digest(reference),
        measures=tuple(
            Measure(name=name, unit="micro", values=tuple(row)) for name, row in rows.items() if row
        ),
    )


def test_a_reference_survives_its_own_spelling() -> None:
    assert room.parse(encode(REFERENCE)) == REFERENCE
    assert room.digest(room.parse(encode(REFERENCE))) == room.digest(REFERENCE)


def test_the_null_is_the_worst_implementation_in_every_bin() -> None:
    null = room.null(REFERENCE)
    for one in (BF16, FP32):
        alone = room.null(
            msgspec.structs.replace(
                REFERENCE, margin=msgspec.structs.replace(MARGIN, histograms=(one,)), error_ppm=500
            )
        )
        assert all(c >= a - 1e-12 for c, a in zip(null, alone, strict=True))
        assert all(c >= count / one.tokens for c, count in zip(null, one.counts, strict=True))
    assert sum(null) > 1.0
    assert min(null) > 0.0


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(0, 0), (1, 1), (4_999, 1), (5_000, 2), (50_000, 3), (500_000, 3), (room.OUTSIDE, 4)],
)
def test_every_margin_has_its_bin(margin: int, expected: int) -> None:
    assert room.bin_of(REFERENCE, margin) == expected


@pytest.mark.parametrize("margin", [-2, room.CAP_MICRO + 1])
def test_a_margin_that_no_verifier_records_is_refused(margin: int) -> None:
    with pytest.raises(FormatError):
        room.bin_of(REFERENCE, margin)


@pytest.mark.parametrize("method", [BY_BINS, BY_TAILS])
def test_channels_are_recomputed_from_the_recorded_integers_alone(method: Method) -> None:
    findings = [finding([0, 0, 3, 60_000], [100, -5_000]), finding([room.OUTSIDE], [900_000])]
    nothing = Finding(kind="tokens", tier=Tier.NONE, reason=Reason.NO_TOKEN_IDS)
    other = Finding(
        kind="tpm", tier=Tier.NONE, reason=Reason.RECORDED, measures=findings[0].measures
    )
    channels = room.channel_log10_e(REFERENCE, [findings[0], nothing, other, findings[1]], method)
    assert channels == room.channel_log10_e(REFERENCE, findings, method)
    counts = [[2, 1, 0, 1, 0], [0, 0, 0, 0, 1]]
    survival = composite.tails(REFERENCE.margin, 5, REFERENCE.error_ppm)
    margins = {
        BY_BINS: channel.log_e(counts, room.null(REFERENCE)),
        BY_TAILS: channel.log_e_tails(counts, survival),
    }[method]
    surprisals = channel.log_e_centred([[100, -5_000], [900_000]], 700)
    assert channels == (
        ("tokens/margin", pytest.approx(margins / math.log(10))),
        ("tokens/surprisal", pytest.approx(surprisals / math.log(10))),
    )


@pytest.mark.parametrize("cheats", [(), (Cheat(name="known", counts=(90, 0, 5, 5, 0)),)])
@given(
    steps=st.lists(
        st.lists(st.sampled_from([0, 0, 3, 60_000, room.OUTSIDE]), max_size=3), max_size=5
    )
)
def test_every_bet_is_mixed_over_every_start_by_its_definition(
    cheats: tuple[Cheat, ...], steps: list[list[int]]
) -> None:
    """Starts before the first answer, shares of answers, known cheats: products and sums only."""
    reference = REPLACE(REFERENCE, margin=REPLACE(MARGIN, cheats=cheats))
    findings = [finding(m, [9_000 * len(m)] * len(m), reference) for m in steps]
    scored = [f for f in findings if f.values("margin")]
    null = room.null(reference)

    def learnt(some: list[Finding]) -> float:
        margins = [v for f in some for v in f.values("margin")]
        places = [sum(room.bin_of(reference, m) == b for m in margins) for b in range(5)]
        return math.exp(bins.log_e(places, null))

    def known(some: list[Finding], cheat: Cheat) -> float:
        bet = nearest.log_ratios(nearest.smoothed(cheat.counts), null)
        return math.prod(
            math.exp(bet[room.bin_of(reference, m)]) for f in some for m in f.values("margin")
        )

    def one(answer: Finding) -> float:
        return mean([learnt([answer]), *(known([answer], cheat) for cheat in cheats)])

    def centred(some: list[Finding]) -> float:
        return math.exp(betting.log_e([v for f in some for v in f.values("surprisal")], 700))

    margin = [mixed(scored, learnt), shared(scored, one)]
    margin += [mean([mixed(scored, partial(known, cheat=c)) for c in cheats])] if cheats else []
    surprisal = [mixed(scored, centred), shared(scored, lambda answer: centred([answer]))]
    levels = [10**value for _, value in room.channel_log10_e(reference, findings, BY_BINS)]
    assert levels == pytest.approx([mean(margin), mean(surprisal)], rel=1e-9)


def mixed(steps: list[Finding], e_value: Callable[[list[Finding]], float]) -> float:
    """The mixture over the first answer that is bet on."""
    begun = [e_value(steps[k:]) / ((k + 1) * (k + 2)) for k in range(len(steps))]
    return sum(begun) + 1 / (len(steps) + 1)


def shared(steps: list[Finding], e_value: Callable[[Finding], float]) -> float:
    """The same of bets on a share of the answers."""
    return mean(
        [
            mixed(
                steps,
                lambda some, share=share: math.prod(1 - share + share * e_value(f) for f in some),
            )
            for share in shares.SHARES
        ]
    )


def test_a_long_honest_past_pays_for_little_of_a_later_cheat() -> None:
    honest = [finding([0] * 100, [0] * 100)] * 1000
    cheat = finding([0] * 60 + [60_000] * 4, [50_000] * 64)

    def needed(past: list[Finding]) -> int:
        for count in range(1, 100):
            levels = room.channel_log10_e(REFERENCE, past + [cheat] * count)
            if min(value for _, value in levels) >= 4.0:
                return count
        raise AssertionError("never")

    assert needed(honest) <= 3 * needed([])


def test_the_evidence_of_two_thousand_audits_is_recomputed_in_a_moment() -> None:
    dice = random.Random(1)
    findings = [
        finding([0] * 63 + [dice.randrange(9_000)], [dice.randrange(-90_000, 90_000)] * 64)
        for _ in range(2000)
    ]
    started = time.process_time()
    room.channel_log10_e(REFERENCE, findings)
    assert time.process_time() - started < 2.0  # 0.3 s on an idle core; others share this one


def test_no_findings_are_no_evidence() -> None:
    channels = room.channel_log10_e(REFERENCE, [])
    assert [name for name, _ in channels] == list(room.CHANNELS)
    assert [value for _, value in channels] == pytest.approx([0.0, 0.0])


def test_scores_against_another_reference_are_refused() -> None:
    other = msgspec.structs.replace(REFERENCE, drift_micro=10)
    with pytest.raises(VerificationError) as caught:
        room.channel_log10_e(REFERENCE, [finding([0], [0], other)])
    assert caught.value.reason is Reason.UNKNOWN_REFERENCE


def test_many_honest_tokens_are_evidence_for_nobody_and_never_nan() -> None:
    channels = dict(room.channel_log10_e(REFERENCE, [finding([0] * 50_000, [0] * 50_000)]))
    assert all(math.isfinite(value) and value < 0.0 for value in channels.values())


@pytest.mark.parametrize(
    "broken",
    [
        *(
            REPLACE(REFERENCE, **{channel: REPLACE(MARGIN, **change)})
            for channel in ("margin", "residual")
            for change in (
                {"edges": (5_000, 1, 50_000)},
                {"edges": (1, 1, 50_000)},
                {"edges": (1, 5_000)},
                {"histograms": ()},
                {"histograms": (BF16, REPLACE(FP32, counts=(1, 1, 1, 1, 1)))},
                {"histograms": (REPLACE(BF16, crosses=(1,)),)},
                {"histograms": (REPLACE(BF16, responses=1),)},
            )
        ),
        REPLACE(REFERENCE, error_ppm=0),
        REPLACE(REFERENCE, drift_micro=-1),
        REPLACE(REFERENCE, noise_micro=-1),
    ],
)
def test_a_reference_that_is_not_whole_is_refused(broken: Reference) -> None:
    with pytest.raises(FormatError):
        room.parse(encode(broken))


def test_another_spelling_of_a_reference_is_refused() -> None:
    spaced = encode(REFERENCE).replace(b",", b", ", 1)
    with pytest.raises(FormatError) as caught:
        room.parse(spaced)
    assert caught.value.reason is Reason.NOT_CANONICAL
