import math

import msgspec
import numpy as np
import pytest

from lydite.errors import FormatError
from lydite.evidence.power import calibration, declared, reference, verifier
from lydite.evidence.power.calibration import Run
from lydite.evidence.power.declared import Deployment, Load
from lydite.evidence.power.reference import ALARM_MICRO, MICRO, Physics, Reference
from lydite.messages.calibration import Provenance
from lydite.messages.canonical import encode
from tests.evidence import power_world as world
from tests.evidence.power_world import H200, HALF, LLAMA_8B, LLAMA_70B

GENERIC = reference.generic(H200)
PROVENANCE = Provenance(script="1" * 64, data="2" * 64, prompts="3" * 64, versions=("engine 1",))


def honest(
    generator: np.random.Generator, session: str, slower: float = 0.0, more: float = 0.0
) -> Run:
    """A session whose token takes 30 % less time than physics says, give or take a percent."""
    sequences = float(generator.choice([4, 8, 16, 32]))
    load = Load(sequences, 384, 256, 256)
    time = -0.3 + 0.02 * math.log(sequences) + generator.normal(0, 0.01) + slower
    energy = 0.1 + generator.normal(0, 0.01) + more
    logs = {"time": time, "energy": energy, "power": energy - time}
    return Run(session, 60, Deployment(LLAMA_8B, HALF, H200, 1, Physics()), load, logs)  # type: ignore[arg-type]


def calibrated(sessions: int) -> Reference:
    generator = np.random.default_rng(1)
    runs = [honest(generator, f"job {i}") for i in range(sessions)]
    return calibration.calibrate(GENERIC, "hall 3", runs, PROVENANCE)


SITE = calibrated(40)


def alarms(run: Run, made: Reference) -> bool:
    quiet, sure = made.quiet_milli, made.sure_milli
    size = 1000 * calibration.deviation(run, made.fitted)
    return (size - quiet) / (sure - quiet) * MICRO >= ALARM_MICRO


def test_a_site_that_repeats_within_a_percent_sees_five_percent_of_other_work() -> None:
    generator = np.random.default_rng(2)
    fresh = [honest(generator, "x") for _ in range(400)]
    mixed = [honest(generator, "x", 0.0513, 0.045) for _ in range(400)]
    assert np.mean([alarms(run, SITE) for run in fresh]) <= 0.01
    assert np.mean([alarms(run, SITE) for run in mixed]) >= 0.9


def test_more_sessions_bound_the_honest_mean_more_tightly() -> None:
    assert calibrated(120).mean_micro < SITE.mean_micro < calibrated(10).mean_micro


def test_the_bound_holds_for_fresh_sessions() -> None:
    generator = np.random.default_rng(4)
    quiet, sure = SITE.quiet_milli / 1000, SITE.sure_milli / 1000
    sizes = [calibration.deviation(honest(generator, "x"), SITE.fitted) for _ in range(1000)]
    scores = np.clip((np.array(sizes) - quiet) / (sure - quiet), 0, 1)
    assert scores.mean() * MICRO < SITE.mean_micro


def test_a_site_whose_honest_runs_keep_the_bound_on_time_has_little_slack() -> None:
    assert SITE.physics.slack_micro < GENERIC.physics.slack_micro
    generator = np.random.default_rng(5)
    odd = [
        honest(generator, f"job {i}")._replace(logs={"time": -0.9, "energy": 0.0, "power": 0.9})
        for i in range(6)
    ]
    wide = calibration.calibrate(GENERIC, "odd clocks", odd, PROVENANCE)
    run = odd[0]
    needed = declared.needs(run.deployment, run.load)
    took = math.exp(-0.9) * needed.time_s
    assert took < needed.least_time_s
    assert took > (1 - wide.physics.slack_micro / MICRO) * needed.least_time_s


def test_few_sessions_calibrate_nothing() -> None:
    with pytest.raises(FormatError):
        calibrated(4)
    generator = np.random.default_rng(1)
    same = [honest(generator, "one job") for _ in range(50)]
    with pytest.raises(FormatError):
        calibration.calibrate(GENERIC, "hall 3", same, PROVENANCE)


def test_a_calibrated_reference_survives_its_spelling() -> None:
    assert reference.parse(encode(SITE)) == SITE


def test_slopes_are_found_where_there_are_runs_enough() -> None:
    time = reference.fitted(SITE, "time")
    assert time is not None
    generator = np.random.default_rng(9)
    run = honest(generator, "x")._replace(load=Load(8, 384, 256, 256))
    usual = declared.expected_log(time, run.deployment, run.load)
    assert usual == pytest.approx(-0.3 + 0.02 * math.log(8), abs=0.01)
    assert 8_000 <= time.spread_micro <= 18_000


def test_a_calibrated_site_tells_eight_bits_from_sixteen() -> None:
    half = world.physical(LLAMA_70B, world.load_of(8))
    eighth = world.physical(LLAMA_70B, world.load_of(8), numerics=world.EIGHTH)
    fitted = tuple(
        msgspec.structs.replace(one, spread_micro=20_000, terms_micro=(0,))
        for one in GENERIC.fitted
    )
    site = msgspec.structs.replace(
        GENERIC, site="here", fitted=fitted, honest_runs=40, provenance=PROVENANCE
    )
    for needed, least, most in ((half, 0, 0), (eighth, MICRO, MICRO)):
        made = world.claims(LLAMA_70B, needed.time_s)
        traces = [world.trace(needed.power_w)] * 2
        found = verifier.verify(made, traces, site, 60).values("score")[0]
        assert least <= found <= most
