import msgspec
import numpy as np
import pytest

from lydite.errors import FormatError
from lydite.evidence.power import profiled
from lydite.evidence.power.profiled import Profile
from lydite.evidence.power.reference import ALARM_MICRO
from lydite.messages.calibration import Provenance
from lydite.messages.canonical import decode, encode

PROVENANCE = Provenance(script="1" * 64, data="2" * 64, prompts="3" * 64, versions=())
TDP_W = 700


def serving(generator: np.random.Generator, samples: int = 600) -> np.ndarray:
    """Watts of a server: at rest for a good third of the time, else at work."""
    resting = generator.random(samples) < generator.normal(0.35, 0.02)
    return np.where(resting, generator.normal(118, 4, samples), generator.normal(450, 25, samples))


def learnt(runs: int) -> Profile:
    generator = np.random.default_rng(1)
    rows = [serving(generator) for _ in range(runs)]
    return profiled.learn("serving", "power_average_w", TDP_W, rows, PROVENANCE)


SERVING = learnt(20)


def test_power_of_a_server_has_two_peaks() -> None:
    assert SERVING.kind == "bimodal"


def test_honest_runs_fit_their_profile() -> None:
    generator = np.random.default_rng(2)
    held = [profiled.hold(SERVING, serving(generator)) for _ in range(200)]
    assert np.mean([one.score_micro >= ALARM_MICRO for one in held]) <= 0.01
    assert np.mean([one.score_micro for one in held]) <= SERVING.mean_micro
    assert max(one.distance for one in held) < 0.2


@pytest.mark.parametrize(
    "watts",
    [
        np.random.default_rng(3).normal(650, 10, 600),  # never at rest
        np.random.default_rng(3).normal(280, 10, 600),  # throttled to the mean
        np.full(600, 450.0),  # made up: the likeliest value throughout
    ],
)
def test_other_work_and_made_up_telemetry_do_not_fit(watts: np.ndarray) -> None:
    held = profiled.hold(SERVING, watts)
    assert held.score_micro >= ALARM_MICRO
    assert held.distance > 0.3


def test_a_profile_survives_its_spelling() -> None:
    assert decode(encode(SERVING), Profile) == SERVING


def test_few_runs_make_no_profile() -> None:
    with pytest.raises(FormatError):
        learnt(4)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters_micro": (1, 2)},
        {"parameters_micro": (500_000, 1, 0, 1, 1)},
        {"parameters_micro": (1_000_000, 1, 1, 1, 1)},
    ],
)
def test_a_profile_without_a_distribution_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        profiled.hold(msgspec.structs.replace(SERVING, **change), np.full(600, 100.0))


@pytest.mark.parametrize("watts", [np.full(600, 900.0), np.full(3, 100.0), np.full(600, -1.0)])
def test_values_that_the_profile_is_not_of_are_refused(watts: np.ndarray) -> None:
    with pytest.raises(FormatError):
        profiled.hold(SERVING, watts)
