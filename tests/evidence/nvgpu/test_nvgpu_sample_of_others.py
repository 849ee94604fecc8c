"""A genuine report by a Hopper GPU (NVIDIA's nvtrust), read in place where it is."""

import os
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lydite.errors import Reason, Refusal
from lydite.evidence.nvgpu import report, verifier
from lydite.evidence.nvgpu.claims import Device
from lydite.evidence.nvgpu.reference import NVIDIA_ROOT, Group, Manifest, Reference, Row

VARIABLE = "LYDITE_THIRD_PARTY"
"""Names the folder of samples; else they are looked for beside the project."""
PLACES = [place / "shared" / "vectors" / "third-party" for place in Path(__file__).parents]
PLACES = [Path(os.environ[VARIABLE])] if VARIABLE in os.environ else PLACES
PLACE = next((p / "nvtrust-hopper" for p in PLACES if (p / "nvtrust-hopper").is_dir()), None)
THEN = 1_760_000_000
ROW = re.compile(r'<\w+:Resource [^>]*index="(\d+)" active="True"[^>]*>')


@pytest.fixture
def place() -> Path:
    if PLACE is None:
        pytest.skip(f"nvtrust's sample is not beside the project ({VARIABLE})")
    return PLACE


@pytest.fixture
def device(place: Path) -> Device:
    pem = (place / "hopperCertChain.txt").read_bytes()
    chain = [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(pem)]
    text = (place / "hopperAttestationReport.txt").read_text(encoding="ascii")
    return Device(report=text.strip(), certificates=tuple(each.hex() for each in chain))


def policy(*manifests: Manifest) -> Reference:
    return Reference(name="x", groups=(Group(arch="GH100", count=1),), manifests=manifests)


def rows_of(tag: Path) -> tuple[Row, ...]:
    """The active rows of a manifest, whose signature nobody looks at here."""
    found = []
    for hit in ROW.finditer(tag.read_text(encoding="utf-8")):
        values = re.findall(r'Hash\d+="([0-9a-f]{96})"', hit[0])
        found.append(Row(index=int(hit[1]), values=tuple(values)))
    return tuple(found)


def test_its_chain_leads_to_nvidias_root_and_its_signature_holds(device: Device) -> None:
    found = verifier.authenticate(device, "device", policy(), THEN)
    assert policy().root == NVIDIA_ROOT
    assert found.arch == "GH100"
    assert report.manifest_id(found.made, "GH100") == "NV_GPU_VBIOS_1010_0200_882_96009F0001"
    assert report.driver_id(found.made, "GH100") == "NV_GPU_DRIVER_GH100_550.90.07"


def test_every_part_that_is_signed_counts(device: Device) -> None:
    content = bytes.fromhex(device.report)
    for at in range(0, len(content), 101):
        bent = bytearray(content)
        bent[at] ^= 1
        changed = Device(report=bent.hex(), certificates=device.certificates)
        with pytest.raises(Refusal):
            verifier.authenticate(changed, "device", policy(), THEN)


def test_no_manifest_beside_it_is_for_its_version(place: Path, device: Device) -> None:
    manifests = tuple(
        Manifest(
            id=f"NV_GPU_VBIOS_{tag.stem.removesuffix('_PROD')}",
            rows=rows_of(tag),
            not_after_s=THEN,
        )
        for tag in sorted(place.glob("*.swidtag"))
    )
    assert len(manifests) == 2
    found = verifier.authenticate(device, "device", policy(), THEN)
    with pytest.raises(Refusal) as caught:
        verifier._check_measured(found, {m.id: m for m in manifests}, policy(*manifests), THEN)
    assert caught.value.reason is Reason.NV_RIM_VERSION


def test_firmware_of_another_version_differs_in_some_rows(place: Path, device: Device) -> None:
    found = verifier.authenticate(device, "device", policy(), THEN)
    (tag, _) = sorted(place.glob("*.swidtag"))
    rows = {row.index: row.values for row in rows_of(tag)}
    fits = {n for n, values in rows.items() if found.made.measurements[n].hex() in values}
    assert {3, 4, 5, 6} <= fits  # so a manifest's row is one less than SPDM's number
    assert set(rows) - fits == {1, 2, 9, 11}
