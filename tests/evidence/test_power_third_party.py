"""The declared-model check on measured runs of others; skipped where their traces are not."""

import pytest

pytest.importorskip("pyarrow", reason="pyarrow: not installed")

from lydite.errors import UnavailableError
from lydite.evidence.power import gpus, models, reference, verifier
from lydite.evidence.power.reference import ALARM_MICRO
from lydite.evidence.power.shape import Numerics
from lydite.laboratory.power import serving, traces

try:
    PLACE = traces.folder()
except UnavailableError as error:
    pytest.skip(f"third-party power traces: {error}", allow_module_level=True)


def first_scores(model: str, declared: str, bits: int, gpus_used: int) -> list[int]:
    found = []
    for step in serving.steps(PLACE):
        if step.model != model or step.gpu not in ("H100", "H200") or step.gpus != gpus_used:
            continue
        base = reference.generic(gpus.find(f"NVIDIA {step.gpu}"))
        shape, numerics = models.find(declared), Numerics(weight_milli_bits=bits or step.bits)
        run = serving.declare(step, 60, shape, numerics)
        for sampled in serving.windows(PLACE, step, 60):
            if all(each.series["power_average_w"].values.min() > 135 for each in sampled):
                seen = verifier.compare(run, sampled[: run.gpus], base, 60)
                found.append(verifier.score(seen, base))
                break
    return found


def test_measured_8b_declared_as_70b_alarms_within_a_minute() -> None:
    found = first_scores("llama-3.1-8b", "llama-3.1-70b", 8_000, 1)
    assert len(found) >= 10
    assert min(found) >= ALARM_MICRO


def test_measured_70b_declared_as_itself_does_not() -> None:
    found = first_scores("llama-3.1-70b", "llama-3.1-70b", 0, 2)
    assert len(found) >= 3
    assert max(found) < ALARM_MICRO
