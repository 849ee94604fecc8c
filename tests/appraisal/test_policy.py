"""A policy that would affirm on nothing, or overspend its error budget, is refused."""

from typing import Any

import msgspec
import pytest

from lydite.appraisal import decision, policy, references
from lydite.appraisal.policy import DEFAULT, Weight
from lydite.errors import FormatError, Reason
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World, calibrated
from lydite.messages.calibration import BY_BINS, BY_TAILS, Method
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier

replace = msgspec.structs.replace


def test_the_default_policy_reads_back_and_keeps_its_digest() -> None:
    assert policy.parse(encode(DEFAULT)) == DEFAULT
    assert policy.digest(DEFAULT) == policy.digest(policy.parse(encode(DEFAULT)))


@pytest.mark.parametrize(
    "change",
    [
        {"weights": (Weight(channel="tokens/margin", weight_ppm=999_999),)},
        {"weights": (Weight(channel="tokens/margin", weight_ppm=500_000),) * 2},
        {"weights": ()},
        {"mandatory": ()},
        {"alternatives": ()},
        {"suspect_milli": 0},
        {"suspect_milli": 5000},
        {"epsilon_ppm": 0},
        {"scored_ppm": 0},
    ],
)
def test_a_policy_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        policy.parse(encode(replace(DEFAULT, **change)))


def test_an_alternative_without_known_power_can_never_be_excluded() -> None:
    with pytest.raises(FormatError, match="no power against"):
        decision.decide(replace(DEFAULT, alternatives=("fp8-cache",)), (calibrated(Bigram()),), [])


def test_an_unknown_channel_is_an_error_and_not_a_silent_one() -> None:
    weights = (Weight(channel="tokens/astrology", weight_ppm=1_000_000),)
    with pytest.raises(FormatError, match="no such channel"):
        decision.decide(replace(DEFAULT, weights=weights), (calibrated(Bigram()),), [])


def test_a_provider_under_suspicion_is_neither_accused_nor_affirmed() -> None:
    world = World(cheat=Bigram(noise=0.3), policy=replace(DEFAULT, accuse_milli=9_000_000))
    world.traffic(12)
    verdict = world.judged()
    assert (verdict.tier, verdict.reason) == (Tier.NONE, Reason.SUSPECTED)


def test_weights_are_an_average_and_never_a_product() -> None:
    world = World(cheat=Bigram(noise=1.0))
    world.traffic(12)
    verdict = world.judged()
    assert verdict.log10_e_milli <= max(channel.log10_e_milli for channel in verdict.channels)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"null", b'{"format":"lydite/tokens-reference/v2"}', b'{"format":"x"}', b"\xff"],
)
def test_a_file_that_is_no_reference_of_any_kind_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        references.parse(payload)


@pytest.mark.parametrize("method", [BY_BINS, BY_TAILS])
def test_every_published_method_judges_and_is_verified_by_its_own_arithmetic(
    method: Method,
) -> None:
    rules = replace(DEFAULT, method=method)
    honest, cheating = World(policy=rules), World(cheat=Bigram(noise=0.3), policy=rules)
    for world, tier in ((honest, Tier.AFFIRMING), (cheating, Tier.CONTRAINDICATED)):
        world.traffic(12)
        assert world.judged().tier is tier
        assert world.verify(world.bundle()).tier is tier


def test_methods_weigh_the_same_records_unlike() -> None:
    levels = []
    for method in (BY_BINS, BY_TAILS):
        world = World(cheat=Bigram(noise=0.3), policy=replace(DEFAULT, method=method))
        world.traffic(4)
        levels.append(world.judged().log10_e_milli)
    assert levels[0] != levels[1]


def test_power_by_another_method_excludes_nothing() -> None:
    known = calibrated(Bigram())
    older = replace(known, alternatives=tuple(a for a in known.alternatives if a.method == BY_BINS))
    decision.decide(DEFAULT, (older,), [])
    with pytest.raises(FormatError, match="no power against int4-weights by"):
        decision.decide(replace(DEFAULT, method=BY_TAILS), (older,), [])


def test_an_unpublished_method_is_refused() -> None:
    payload = encode(DEFAULT).replace(BY_BINS.encode(), b"lydite/bets-average/v1")
    with pytest.raises(FormatError):
        policy.parse(payload)
