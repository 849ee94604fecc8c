"""The committed Reference Values are whole, of the committed models, and made by the scripts."""

import hashlib
from pathlib import Path

import pytest

from lydite.engines.weights import check_manifest
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.egress.reference import Part, Reference, check_reference, coarse, parse
from lydite.messages.canonical import encode

ROOT = Path(__file__).parents[2]
MODELS = ("lydite-small", "lydite-base")


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_values_are_of_the_committed_models(name: str) -> None:
    found = parse((ROOT / "data" / "reference" / "egress" / f"{name}.json").read_bytes())
    assert found.weights_root == check_manifest(ROOT / "models" / name).root
    scripts = ("calibrate_egress.py", "run_cells.py")
    made = b"".join((ROOT / "scripts" / each).read_bytes() for each in scripts)
    assert found.provenance.script == hashlib.sha256(made).hexdigest()
    rates = [1000 * one.bits / one.tokens for one in found.honest]
    assert max(rates) < 60


def test_a_kernel_of_more_than_everything_is_refused(reference: Reference) -> None:
    fields = {name: getattr(reference, name) for name in reference.__struct_fields__}
    heavy = (Part(scale_micro=1, weight_ppm=600_000), Part(scale_micro=2, weight_ppm=600_000))
    with pytest.raises(FormatError):
        parse(encode(Reference(**{**fields, "kernel": heavy})))


def test_a_finding_against_another_reference_is_refused(reference: Reference) -> None:
    with pytest.raises(VerificationError):
        check_reference(coarse(1, Reason.UNSUPPORTED), reference)
