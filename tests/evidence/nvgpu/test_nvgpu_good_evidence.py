"""Devices that are as they should be, how a driver is asked, and changes at random."""

import random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lydite.errors import Reason, UnavailableError
from lydite.evidence.nvgpu import attester, claims, report, verifier
from lydite.evidence.nvgpu import reference as references
from lydite.evidence.nvgpu.attester import Mode
from lydite.evidence.nvgpu.reference import Group
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier
from tests.evidence.hex_mutations import mutated
from tests.evidence.nvgpu.devices import (
    DRIVER_ID,
    FIRMWARE,
    SAID,
    SWITCH_ID,
    TCB_INFO,
    VBIOS_ID,
    Gpu,
    claims_of,
    manifest,
    own,
    reference,
    switch,
    tcb_info,
    vendor,
)
from tests.evidence.snp.processor import NOW, challenge

FEW, MANY = 6_000, 1_000_000


def without(*kinds: int) -> dict[int, bytes]:
    return {kind: found for kind, found in SAID.items() if kind not in kinds}


def with_row_35_off() -> Gpu:
    gpu = Gpu(said=dict(SAID) | {report.NVDEC0: report.OFF})
    gpu.measured[35] = b"\xee" * 48
    return gpu


@pytest.mark.parametrize(
    ("gpus", "policy"),
    [
        ((Gpu(),), {}),
        ((Gpu(dice=own(TCB_INFO, tcb_info(FIRMWARE, bytes(48)))),), {}),
        ((Gpu(said=without(report.FWID)),), {"without_fwid": True}),
        ((Gpu(said=without(report.DRIVER)),), {"driver": False}),
        ((with_row_35_off(),), {"without_nvdec": True}),
        (
            (Gpu(), Gpu(key="p384-gpu-2"), switch()),
            {
                "groups": (Group(arch="GH100", count=2), Group(arch="LS10", count=1)),
                "without_fwid": True,
                "manifests": (
                    manifest(VBIOS_ID, 1, 2),
                    manifest(DRIVER_ID, 12),
                    manifest(SWITCH_ID, 0, 30),
                ),
            },
        ),
    ],
    ids=["hopper", "blackwell-fwid", "old-driver", "firmware-alone", "decoder-off", "machine"],
)
def test_devices_that_are_as_they_should_be_affirm(
    gpus: tuple[Gpu, ...], policy: dict[str, Any]
) -> None:
    expected = references.parse(encode(reference(**policy)))
    content = claims.write(claims_of(*gpus))
    finding = verifier.examine(content, expected, challenge(), NOW)
    assert finding.reason is Reason.CONSISTENT
    assert finding.tier is Tier.AFFIRMING
    assert finding.values("devices") == (len(gpus),)
    assert finding.values("unperformed/driver-manifest") == (int(not expected.driver),)
    assert finding.values("unperformed/ocsp") == (1,)


def try_mutations(count: int, seed: int) -> set[str]:
    dice, issued, expected, reasons = random.Random(seed), challenge(), reference(), set[str]()
    good = claims.write(claims_of(Gpu()))
    for number in range(count):
        changed = mutated(good, dice)
        finding = verifier.examine(changed, expected, issued, NOW)
        reasons.add(finding.reason.value)
        if finding.tier is Tier.AFFIRMING and changed != good:
            # the driver's word on protection is unsigned, and good news in it counts for nothing
            before, after = claims.parse(good), claims.parse(changed)
            assert after.devices[0].report == before.devices[0].report, f"seed {seed}, {number}"
            assert after.devices[0].certificates == before.devices[0].certificates
    return reasons


def test_six_thousand_mutations_affirm_nothing_else_and_raise_nothing() -> None:
    reasons = try_mutations(FEW, seed=1)
    assert reasons >= {"attest.wrapper", "nv.form", "nv.index", "nv.signature", "nv.exception"}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_mutations_affirm_nothing_else_and_raise_nothing() -> None:
    try_mutations(MANY, seed=2)


@pytest.mark.parametrize("size", [0, 1, 4117, 1 << 20])
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"[", b'"', b"{"])
def test_garbage_is_refused(size: int, fill: bytes) -> None:
    finding = verifier.examine(fill * size, reference(), challenge(), NOW)
    assert finding.tier is Tier.CONTRAINDICATED


class Rack:
    """A driver with devices of software."""

    def __init__(self, *gpus: Gpu, mode: Mode = "on") -> None:
        self.gpus, self.said = gpus, mode

    def count(self) -> int:
        return len(self.gpus)

    def report(self, device: int, nonce: bytes) -> bytes:
        gpu = self.gpus[device]
        return gpu.sign(gpu.body(nonce))

    def chain(self, device: int) -> bytes:
        ders = (self.gpus[device].certificate, *vendor())
        read = [x509.load_der_x509_certificate(each) for each in ders]
        return b"".join(each.public_bytes(Encoding.PEM) for each in read) + b"\0"

    def mode(self) -> Mode:
        return self.said


def test_what_the_driver_gives_is_evidence() -> None:
    rack = Rack(Gpu(), Gpu(key="p384-gpu-2"))
    evidence = claims.parse(claims.write(attester.attest(challenge().binding, rack)))
    expected = reference(groups=(Group(arch="GH100", count=2),))
    assert verifier.verify(evidence, expected, challenge(), NOW).tier is Tier.AFFIRMING


def test_a_driver_that_says_it_is_open_is_believed() -> None:
    evidence = attester.attest(challenge().binding, Rack(Gpu(), mode="dev-tools"))
    finding = verifier.verify(evidence, reference(), challenge(), NOW)
    assert finding.reason is Reason.NV_DEV_TOOLS


def test_a_machine_without_a_gpu_has_no_evidence() -> None:
    with pytest.raises(UnavailableError, match="no NVIDIA GPU"):
        attester.attest(challenge().binding, Rack())


def test_blocks_are_read_at_once_as_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu in (Gpu(), switch()):
        content = gpu.sign(gpu.body(bytes(32)))
        fast = report.parse(content)
        with monkeypatch.context() as slowly:
            slowly.setattr(report, "_is_regular", lambda *_: False)
            assert report.parse(content) == fast
        assert list(fast.measurements) == gpu.measured
