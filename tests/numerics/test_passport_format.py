"""A passport is bounded, has one spelling, and contradicts itself nowhere."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import passport, scores, stack

from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.canonical import encode
from lydite.messages.grid import LINEAR, LOG
from lydite.messages.passport import Passport, Row
from lydite.numerics import deriving
from lydite.numerics.measuring import cells
from lydite.statistics import dependence

GRIDS = pytest.mark.parametrize("grid", [LOG, LINEAR])


@pytest.fixture(scope="module")
def honest() -> Passport:
    return passport(answers=40)


def altered(known: Passport, **fields: object) -> Passport:
    said = msgspec.structs.replace(known.predicate, **fields)
    return msgspec.structs.replace(known, predicate=said)


def with_row(known: Passport, row: Row) -> Passport:
    first, *others = known.predicate.channels
    rows = (row, *first.rows[1:])
    return altered(known, channels=(msgspec.structs.replace(first, rows=rows), *others))


def test_a_passport_is_read_as_it_was_written(honest: Passport) -> None:
    assert passports.parse(encode(honest)) == honest


def test_another_spelling_is_refused(honest: Passport) -> None:
    spelling = encode(honest)
    with pytest.raises(FormatError) as raised:
        passports.parse(spelling.replace(b'"cheat":null', b'"cheat": null'))
    assert raised.value.reason is Reason.NOT_CANONICAL


def test_more_bytes_than_the_bound_are_not_even_parsed() -> None:
    with pytest.raises(FormatError) as raised:
        passports.parse(b" " * (passports.MAX_BYTES + 1))
    assert raised.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "row",
    [
        Row(cells=(3, 1), counts=(1, 1), first=1, last=3, products=3),
        Row(cells=(1, 1), counts=(1, 1), first=1, last=1, products=1),
        Row(cells=(1,), counts=(1, 1), first=1, last=1, products=1),
        Row(cells=(200,), counts=(1,), first=200, last=200, products=0),
        Row(cells=(1,), counts=(2,), first=0, last=1, products=1),
        Row(cells=(1, 2), counts=(100, 100), first=1, last=2, products=400),
        Row(cells=(1, 2), counts=(1, 1), first=1, last=2, products=5),
        Row(cells=(1, 2), counts=(1, 1), first=1, last=2, products=0),
    ],
)
def test_rows_that_contradict_themselves_are_refused(honest: Passport, row: Row) -> None:
    with pytest.raises(FormatError):
        passports.parse(encode(with_row(honest, row)))


def test_a_passport_about_other_weights_than_it_says_is_refused(honest: Passport) -> None:
    with pytest.raises(VerificationError) as raised:
        passports.parse(encode(altered(honest, weights_root="00" * 32)))
    assert raised.value.reason is Reason.UNKNOWN_REFERENCE


def test_a_passport_that_expires_before_it_begins_is_refused(honest: Passport) -> None:
    with pytest.raises(FormatError):
        passports.check(altered(honest, expires=honest.predicate.issued))


def test_channels_of_different_answers_are_refused(honest: Passport) -> None:
    margin, residual = honest.predicate.channels
    shorter = msgspec.structs.replace(residual, rows=residual.rows[:-1])
    for several in ((margin, shorter), (margin, margin)):
        with pytest.raises(FormatError):
            passports.check(altered(honest, channels=several))


@pytest.mark.parametrize("now", ["2025-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z"])
def test_a_passport_counts_in_its_time_only(honest: Passport, now: str) -> None:
    with pytest.raises(VerificationError) as raised:
        passports.check_current(honest, passports.unix_ms(now))
    assert raised.value.reason is Reason.STALE


SPELLING = encode(passport(answers=3))


@given(st.integers(0, len(SPELLING) - 1), st.binary(max_size=3))
def test_no_bytes_end_the_process(at: int, some: bytes) -> None:
    with contextlib.suppress(LyditeError):
        passports.parse(SPELLING[:at] + some + SPELLING[at + len(some) :])


@GRIDS
def test_grids_ascend_and_never_change(grid: grids.Grid) -> None:
    edges = grids.edges(grid)
    assert list(edges) == sorted(set(edges))
    ends = {LOG: (1, 10, 100, 115), LINEAR: (-950_000, -900_000, -850_000, -800_000)}
    assert edges[:4] == ends[grid]
    assert (len(edges), grids.cells(grid)) == {LOG: (83, 85), LINEAR: (39, 40)}[grid]


def obvious_cell(grid: grids.Grid, value: int) -> int:
    if grid == LOG and value == grids.OUTSIDE:
        return grids.cells(grid) - 1
    return sum(value >= edge for edge in grids.edges(grid))


@given(st.lists(st.integers(-1, 10_000_000), min_size=1, max_size=50))
def test_scores_fall_into_the_cells_that_begin_below_them(values: list[int]) -> None:
    assert cells(LOG, values) == tuple(obvious_cell(LOG, value) for value in values)


@given(st.sets(st.sampled_from(grids.edges(LOG)), max_size=8), st.integers(0, 10_000_000))
def test_coarse_bins_are_those_of_the_scores_themselves(wanted: set[int], value: int) -> None:
    edges = sorted(wanted)
    into = grids.coarse(LOG, edges)
    assert into[obvious_cell(LOG, value)] == sum(value >= edge for edge in edges)
    assert into[-1] == len(edges) + 1


def test_bins_that_are_none_of_the_grid_are_refused() -> None:
    for wrong in ((7,), (115, 100), (100, 100)):
        with pytest.raises(FormatError):
            grids.coarse(LOG, wrong)
    with pytest.raises(FormatError):
        grids.edge_from(LOG, 10**7 + 1)


answers = st.lists(
    st.lists(st.integers(0, 10_000_000), min_size=2, max_size=12), min_size=2, max_size=6
)


@given(answers)
def test_dependence_follows_from_the_sums_that_a_row_keeps(every: list[list[int]]) -> None:
    into = [cells(LOG, row) for row in every]
    expected = dependence.lag_one(into)
    found = deriving.dependence([passports.row(row) for row in into])
    assert found.rho == pytest.approx(expected.rho, abs=1e-6)
    assert found.standard_error == pytest.approx(expected.standard_error, abs=1e-6)
    assert (found.responses, found.pairs) == (expected.responses, expected.pairs)


def test_bins_quantiles_and_scores_follow_from_the_counts() -> None:
    _, residuals = scores(5, 10_000.0, answers=30)
    rows = [passports.row(cells(LOG, row)) for row in residuals]
    edges = deriving.quantile_edges(rows, LOG, (0.5, 0.9))
    table = deriving.tables(rows, LOG, edges)
    for answer, counted in zip(residuals, table, strict=True):
        assert counted[0] == sum(value < edges[0] for value in answer)
        assert counted[2] == sum(value >= edges[1] for value in answer)
    flat = sorted(value for answer in residuals for value in answer)
    assert sum(value < edges[0] for value in flat) >= len(flat) / 2
    assert sum(value < edges[1] for value in flat) >= 0.9 * len(flat)
    assert deriving.quantile(rows, LOG, 0.5) == edges[0]
    assert deriving.score_of(rows[0], LOG) <= sum(residuals[0])


def test_answers_count_with_their_first_128_tokens() -> None:
    row = passports.row((0,) * 100 + (5,) * 100)
    assert (row.tokens, row.counts, row.last) == (128, (100, 28), 5)
    with pytest.raises(FormatError):
        passports.row(())


def test_stacks_are_compared_letter_by_letter() -> None:
    assert stack() == stack()
    assert stack(dtype="fp32") != stack()
