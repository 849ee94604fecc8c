"""Runs as files, for whoever wants to try the checks: declared work and telemetry, made up.

The traces follow the physics that the checks predict, so they show how the commands are used and
not how well they work. Knows nothing of verdicts.
"""

import json
from pathlib import Path

import numpy as np

from lydite.evidence.power import models
from lydite.evidence.power.claims import Claims
from lydite.laboratory.power import scenes
from lydite.laboratory.power.scenes import Scene
from lydite.messages.canonical import encode
from lydite.monitor.store import samples

SESSIONS = 6
"""Honest runs to calibrate by: one more than the least."""
SPREAD = 0.01
"""How much their pace differs."""


def leave(place: Path) -> list[str]:
    """Fill ``place``: a run to judge, one that cheats, and honest runs; return the files' names.

    ``work.json`` and ``swapped.json`` declare 70B; a smaller model did the work of the second.
    ``draft.json`` is ``work.json`` as a person would write it.
    """
    generator = np.random.default_rng(21)
    large, small = models.find("llama-3.1-70b"), models.find("llama-3.1-8b")
    runs = {
        "work": scenes.declared_run(generator, "job 7", large, large),
        "swapped": scenes.declared_run(generator, "job 8", large, small),
    }
    for number in range(1, SESSIONS + 1):
        pace = 1.0 + SPREAD * float(generator.normal())
        runs[f"honest-{number}"] = scenes.declared_run(
            generator, f"honest {number}", large, large, pace=pace
        )
    for name, scene in runs.items():
        _write(place, name, scene)
    work = runs["work"].claims
    assert work is not None
    (place / "draft.json").write_text(draft(work), encoding="utf-8")
    return sorted(path.name for path in place.iterdir())


def draft(work: Claims) -> str:
    """Return declared work spread over lines, for a person to read and change."""
    return json.dumps(json.loads(encode(work)), indent=2) + "\n"


def _write(place: Path, name: str, scene: Scene) -> None:
    assert scene.claims is not None
    (place / f"{name}.json").write_bytes(encode(scene.claims) + b"\n")
    for number, trace in enumerate(scene.traces):
        (place / f"{name}-gpu-{number}.parquet").write_bytes(samples.encode(trace))
