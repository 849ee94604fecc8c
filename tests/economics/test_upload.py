"""Upload times, the attacks in them, and the checklist of what software cannot see."""

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.economics import checklist
from lydite.economics.checklist import MEASURES, Attestation, states
from lydite.economics.upload import ATTACKS, TERABYTE, Upload, rates, times
from lydite.errors import ConfigurationError, FormatError

TODAY = datetime.date(2029, 3, 1)


@pytest.mark.parametrize(
    ("link", "minutes"),
    [(1, 133.333), (10, 13.3333), (25, 5.33333), (100, 1.33333), (400, 0.33333)],
)
def test_a_terabyte_over_each_link(link: float, minutes: float) -> None:
    found = times(Upload(size=TERABYTE, link=link, hash_rate=1e12))
    assert found.link_s / 60 == pytest.approx(minutes, rel=1e-4)
    assert found.hash_s == 1


@given(st.integers(1, 10**15), st.floats(0.1, 1e4), st.floats(1e3, 1e13), st.integers(1, 1000))
def test_hashing_on_the_way_takes_as_long_as_the_slower_of_the_two(
    size: int, link: float, rate: float, servers: int
) -> None:
    found = times(Upload(size=size, link=link, hash_rate=rate, servers_per_link=servers))
    assert found.streamed_s == (found.link_s if found.bound == "link" else found.hash_s)
    assert found.streamed_s <= found.afterwards_s <= 2 * found.streamed_s
    assert found.link_s == pytest.approx(size * servers * 8 / (link * 1e9))
    assert found.load_s == pytest.approx(size * 8 / 1e11)
    assert 0 < found.lost <= 1


def test_rates_come_from_rows_in_bytes_a_second_each_name_once() -> None:
    hashed = {"metric": "weights hashed", "ours": 1.5, "unit": "GB/s"}
    rows = [
        {**hashed, "peer": 2, "peer_name": "b3sum"},
        {"metric": "no rate", "ours": None, "unit": "GB/s"},
        {"metric": "sums", "ours": 3, "unit": "MiB/s", "peer": 9, "peer_name": "b3sum"},
        {"metric": "hashes", "ours": 9, "unit": "1/s"},
    ]
    results = json.dumps({"rows": rows}).encode()
    assert [(rate.name, rate.bytes_per_s) for rate in rates(results)] == [
        ("weights hashed", 1.5e9),
        ("b3sum", 2e9),
        ("sums", 3 * 2**20),
    ]
    with pytest.raises(FormatError):
        rates(b"{}")


def test_an_upload_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="size"):
        times(Upload(size=0, hash_rate=1.0))


def test_every_attack_says_who_what_refuses_it_and_what_remains() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 10
    assert all(all(attack) for attack in ATTACKS)


def test_every_measure_is_attested_by_somebody_and_leaves_something() -> None:
    assert len({measure.id for measure in MEASURES}) == len(MEASURES)
    for measure in MEASURES:
        assert "inspector" in measure.by  # nobody vouches for himself alone
        assert measure.days >= 1
        assert measure.remains
    named = {measure.id for measure in MEASURES}
    source = {"guards", "power-sensors", "radio-sensors", "cameras", "interconnect-removed"}
    assert source | {"storage-removed", "gateway-seals", "forced-reload"} <= named


def test_without_attestations_everything_is_owed() -> None:
    for measure, state in zip(MEASURES, states((), TODAY), strict=True):
        assert state.missing == measure.by
        assert state.due is None


@given(st.integers(-3, 400))
def test_an_attestation_counts_from_its_day_until_its_interval_is_over(age: int) -> None:
    measure = MEASURES[0]
    on = TODAY - datetime.timedelta(days=age)
    held = [Attestation(measure=measure.id, by=role, on=on) for role in measure.by]
    state = states(held, TODAY)[0]
    if 0 <= age <= measure.days:
        assert state.missing == ()
        assert state.due == on + datetime.timedelta(days=measure.days)
    else:
        assert state.missing == measure.by
    one = states(held[:1], TODAY)[0]
    assert set(measure.by[1:]) <= set(one.missing)


def test_attestations_about_unknown_measures_are_refused() -> None:
    assert len(checklist.parse(b'[{"measure":"guards","by":"guards","on":"2029-03-01"}]')) == 1
    with pytest.raises(FormatError, match="no measure"):
        checklist.parse(b'[{"measure":"prayer","by":"guards","on":"2029-03-01"}]')
    with pytest.raises(FormatError):
        checklist.parse(b'[{"measure":"guards","by":"nobody","on":"2029-03-01"}]')
