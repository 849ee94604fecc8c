"""The declared-model check on measured runs of others; skipped where their traces are not."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow: not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import power_traces

from lydite.evidence.power import gpus, models, reference, verifier
from lydite.evidence.power.reference import ALARM_MICRO
from lydite.evidence.power.shape import Numerics

PLACE = power_traces.folder()
pytestmark = pytest.mark.skipif(
    PLACE is None, reason=f"third-party power traces: not here ({power_traces.VARIABLE})"
)


def first_scores(model: str, declared: str, bits: int, gpus_used: int) -> list[int]:
    assert PLACE is not None
    found = []
    for step in power_traces.steps(PLACE):
        if step.model != model or step.gpu not in ("H100", "H200") or step.gpus != gpus_used:
            continue
        base = reference.generic(gpus.find(f"NVIDIA {step.gpu}"))
        shape, numerics = models.find(declared), Numerics(weight_milli_bits=bits or step.bits)
        run = power_traces.declare(step, 60, shape, numerics)
        for traces in power_traces.windows(PLACE, step, 60):
            if all(each.series["power_average_w"].values.min() > 135 for each in traces):
                seen = verifier.compare(run, traces[: run.gpus], base, 60)
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
