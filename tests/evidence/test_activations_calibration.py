"""The committed Reference Values of sketches are what the committed script makes of the data."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lydite.engines.weights import check_manifest
from lydite.evidence.activations import reference as references
from lydite.evidence.activations.reference import Reference

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "reference" / "activations"
SCRIPTS = ROOT / "scripts"
KEPT = DATA / "lydite-base.npz"
SIZES = (2, 4)


def committed(size: int) -> Reference:
    return references.parse((DATA / f"lydite-base-{size}.json").read_bytes())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr("random.Random.choices", lambda *_, **__: [])  # the power takes minutes
    yield __import__("calibrate_sketch")
    for name in ("calibrate_sketch", "run_cells", "derive_reference"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("size", SIZES)
def test_the_reference_follows_from_the_kept_scores(size: int, script: Any) -> None:
    with np.load(KEPT) as raw:
        derived = script.derive("lydite-base", size, dict(raw), KEPT)
    known = committed(size)
    assert known == msgspec.structs.replace(derived, alternatives=known.alternatives)


@pytest.mark.parametrize("size", SIZES)
def test_the_reference_names_what_it_was_made_from(size: int) -> None:
    known = committed(size)
    scripts = [SCRIPTS / name for name in ("calibrate_sketch.py", "run_cells.py")]
    made = hashlib.sha256(b"".join(path.read_bytes() for path in scripts)).hexdigest()
    assert known.provenance.script == made
    assert known.provenance.data == hashlib.sha256(KEPT.read_bytes()).hexdigest()
    assert known.weights_root == check_manifest(ROOT / "models" / "lydite-base").root
    assert known.spec.token_bytes == size


@pytest.mark.parametrize("size", SIZES)
def test_every_cheat_on_the_numbers_has_power_against_it(size: int) -> None:
    told = {one.name: one.tokens for one in committed(size).alternatives}
    assert told["int4-weights"] < 10
    assert told["smaller-model"] < 10
    assert told["int8-weights"] < 1000
