import collections
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.economics import energy
from lydite.economics.energy import MICRO, Ledger, Open, Rule
from lydite.errors import FormatError
from lydite.evidence.power.readings import Reading

RULE = Rule(rest_uw=120 * MICRO)
GPUS = ("gpu 0", "gpu 1")


def request(name: str, start: int, end: int, **also: object) -> Open:
    given = {
        "tenant": "a",
        "gpus": ("gpu 0",),
        "prompt_tokens": 10,
        "output_tokens": 10,
        "explained_uj": 0,
    }
    return Open(receipt=name, start_us=start, end_us=end, **{**given, **also})  # type: ignore[arg-type]


rows = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 50), st.none() | st.integers(0, 10**9)),
    min_size=1,
    max_size=12,
)
works = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.integers(1, 300),
        st.integers(0, 5000),
        st.integers(1, 5000),
        st.sampled_from([GPUS[:1], GPUS[1:], GPUS]),
        st.sampled_from("abc"),
    ),
    max_size=12,
)


def readings(gpu: str, drawn: list[tuple[int, int, int | None]]) -> list[Reading]:
    at, made = 0, []
    for hole, long, joules in drawn:
        made.append(Reading(gpu, at + hole, at + hole + long, joules))
        at += hole + long
    return made


def requests(drawn: list[tuple[int, int, int, int, tuple[str, ...], str]]) -> list[Open]:
    return [
        request(
            f"r{i}",
            start,
            start + long,
            prompt_tokens=prompt,
            output_tokens=output,
            gpus=gpus,
            tenant=tenant,
        )
        for i, (start, long, prompt, output, gpus, tenant) in enumerate(drawn)
    ]


def plain(read: list[Reading], asked: list[Open]) -> tuple[dict[str, Fraction], Fraction]:
    """Share every reading microsecond by microsecond, in exact fractions."""
    paid: dict[str, Fraction] = collections.defaultdict(Fraction)
    rest = Fraction(0)
    for row in read:
        for at in range(row.start_us, row.end_us):
            if row.microjoules is None:
                continue
            part = Fraction(row.microjoules, row.end_us - row.start_us)
            there = [
                one for one in asked if row.gpu in one.gpus and one.start_us <= at < one.end_us
            ]
            weights = [
                (Fraction(one.output_tokens) + Fraction(one.prompt_tokens, 100))
                / (one.end_us - one.start_us)
                for one in there
            ]
            for one, weight in zip(there, weights, strict=True):
                paid[one.receipt] += part * weight / sum(weights)
            rest += 0 if there else part
    return paid, rest


@given(rows, rows, works)
def test_the_ledger_balances_to_the_microjoule(
    first: list[tuple[int, int, int | None]],
    second: list[tuple[int, int, int | None]],
    drawn: list[tuple[int, int, int, int, tuple[str, ...], str]],
) -> None:
    read = readings("gpu 0", first) + readings("gpu 1", second)
    ledger = energy.settle(read, requests(drawn), RULE)
    measured = sum(row.microjoules or 0 for row in read)
    assert ledger.measured_uj == measured
    assert sum(one.measured_uj for one in ledger.tenants) + ledger.rest_uj == measured
    assert sum(joules for _, joules in ledger.debits) + ledger.rest_uj == measured
    assert sum(one.measured_uj for one in ledger.gpus) == measured
    known = sum(row.end_us - row.start_us for row in read if row.microjoules is not None)
    assert ledger.measured_us == known
    spans = [r[-1].end_us - r[0].start_us for r in (readings("", first), readings("", second))]
    assert ledger.measured_us + ledger.unmeasured_us == sum(spans)


@given(rows, works)
def test_shares_are_those_of_the_obvious_ledger_to_a_microjoule_each(
    first: list[tuple[int, int, int | None]],
    drawn: list[tuple[int, int, int, int, tuple[str, ...], str]],
) -> None:
    read, asked = readings("gpu 0", first), requests(drawn)
    ledger = energy.settle(read, asked, RULE)
    paid, rest = plain(read, asked)
    cuts = 2 * len(asked) + len(read)
    assert abs(ledger.rest_uj - rest) <= cuts
    for receipt, joules in ledger.debits:
        # a reading is cut into whole microjoules wherever a request begins or ends
        assert abs(joules - paid[receipt]) <= cuts + 1


@given(rows, works, st.randoms(use_true_random=False))
def test_who_the_tenants_are_moves_no_joule_between_receipts(
    first: list[tuple[int, int, int | None]],
    drawn: list[tuple[int, int, int, int, tuple[str, ...], str]],
    random: object,
) -> None:
    read, asked = readings("gpu 0", first), requests(drawn)
    others = [
        msgspec.structs.replace(one, tenant=random.choice("xyz"))  # type: ignore[attr-defined]
        for one in asked
    ]
    one, other = (energy.settle(read, each, RULE) for each in (asked, others))
    assert one.debits == other.debits
    assert sum(t.measured_uj for t in one.tenants) == sum(t.measured_uj for t in other.tenants)


@given(rows, works)
def test_wallets_fall_by_exactly_what_was_measured(
    first: list[tuple[int, int, int | None]],
    drawn: list[tuple[int, int, int, int, tuple[str, ...], str]],
) -> None:
    ledger = energy.settle(readings("gpu 0", first), requests(drawn), RULE)
    before = {"a": 5 * MICRO, "z": 7}
    after = energy.debit(before, ledger)
    assert sum(after.values()) + ledger.measured_uj - ledger.rest_uj == sum(before.values())
    assert after["z"] == 7
    assert before == {"a": 5 * MICRO, "z": 7}


def test_requests_at_once_pay_by_their_tokens() -> None:
    read = [Reading("gpu 0", 0, 1000, 3000)]
    asked = [
        request("one", 0, 1000, output_tokens=100, prompt_tokens=0, tenant="a"),
        request("two", 0, 1000, output_tokens=200, prompt_tokens=0, tenant="b"),
    ]
    assert energy.settle(read, asked, RULE).debits == (("one", 1000), ("two", 2000))


def test_a_hundred_tokens_of_a_prompt_weigh_as_one_of_the_answer() -> None:
    read = [Reading("gpu 0", 0, 1000, 3000)]
    asked = [
        request("one", 0, 1000, output_tokens=1, prompt_tokens=100),
        request("two", 0, 1000, output_tokens=1, prompt_tokens=0),
    ]
    assert energy.settle(read, asked, RULE).debits == (("one", 2000), ("two", 1000))


def ledger_with(explained_j: int, measured_j: int, rest_j: int = 120) -> Ledger:
    read = [
        Reading("gpu 0", 0, MICRO, measured_j * MICRO),
        Reading("gpu 0", MICRO, 2 * MICRO, rest_j * MICRO),
    ]
    asked = [request("one", 0, MICRO, explained_uj=explained_j * MICRO)]
    return energy.settle(read, asked, RULE)


TIGHT = msgspec.structs.replace(RULE, least_uj=MICRO)


def test_work_as_explained_raises_no_alarm() -> None:
    assert energy.alarms(ledger_with(450, 460), TIGHT) == ()


@pytest.mark.parametrize(
    ("ledger", "names", "missing"),
    [
        (ledger_with(450, 600), ["gpu 0", "a"], False),  # more than the tokens explain
        (ledger_with(450, 460, rest_j=350), ["gpu 0"], False),  # work between requests
        (ledger_with(450, 200), ["gpu 0", "a"], True),  # tokens that nothing was spent on
    ],
)
def test_the_unexplained_remainder_raises_an_alarm(
    ledger: Ledger, names: list[str], missing: bool
) -> None:
    found = energy.alarms(ledger, TIGHT)
    assert [one.account.name for one in found] == names
    assert {one.missing for one in found} == {missing}


def test_a_remainder_below_the_least_is_left_alone() -> None:
    rule = msgspec.structs.replace(RULE, least_uj=1000 * MICRO)
    assert energy.alarms(ledger_with(450, 600), rule) == ()


def test_time_that_nobody_measured_is_named_and_explains_nothing() -> None:
    read = [Reading("gpu 0", 0, 500, 50), Reading("gpu 0", 500, 1000, None)]
    asked = [request("one", 0, 1000, explained_uj=100)]
    ledger = energy.settle(read, asked, RULE)
    assert ledger.unmeasured_us == 500
    assert ledger.gpus[0].explained_uj == 50
    assert ledger.tenants[0].unexplained_uj == 0


def test_a_gpu_without_a_meter_is_named() -> None:
    asked = [request("one", 0, 1000, gpus=("gpu 0", "gpu 7"))]
    ledger = energy.settle([Reading("gpu 0", 0, 1000, 9)], asked, RULE)
    assert ledger.unmetered == ("gpu 7",)


@pytest.mark.parametrize(
    "read",
    [
        [Reading("gpu 0", 0, 10, 1), Reading("gpu 0", 5, 15, 1)],
        [Reading("gpu 0", 10, 10, 1)],
        [Reading("gpu 0", 10, 5, 1)],
        [Reading("gpu 0", 0, 10, -1)],
    ],
)
def test_readings_that_no_meter_makes_are_refused(read: list[Reading]) -> None:
    with pytest.raises(FormatError):
        energy.settle(read, [], RULE)


@pytest.mark.parametrize(
    "asked",
    [
        [request("one", 10, 10)],
        [request("one", 0, 10, output_tokens=0)],
        [request("one", 0, 10, prompt_tokens=-1)],
        [request("one", 0, 10, gpus=())],
        [request("one", 0, 10, explained_uj=-1)],
        [request("one", 0, 10), request("one", 20, 30)],
    ],
)
def test_requests_that_cannot_have_been_are_refused(asked: list[Open]) -> None:
    with pytest.raises(FormatError):
        energy.settle([Reading("gpu 0", 0, 10, 1)], asked, RULE)


def test_a_day_of_ten_thousand_requests_settles() -> None:
    read = [Reading("gpu 0", i * 100, (i + 1) * 100, 37 * i % 1009) for i in range(20_000)]
    asked = [request(f"r{i}", i * 150, i * 150 + 10_000) for i in range(10_000)]
    ledger = energy.settle(read, asked, RULE)
    assert ledger.measured_uj == sum(row.microjoules or 0 for row in read)
    assert sum(joules for _, joules in ledger.debits) + ledger.rest_uj == ledger.measured_uj
