"""Appraises a machine's NVIDIA devices by the reports that they signed.

Pure: evidence, Reference Value, challenge and time in; a Finding out.
"""

import hmac
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from lydite import certificates
from lydite.certificates import Chain, Names
from lydite.errors import FormatError, Reason, Refusal, VerificationError
from lydite.evidence.nvgpu import claims, firmware, report
from lydite.evidence.nvgpu import reference as references
from lydite.evidence.nvgpu.claims import KIND, LABEL, Claims, Device
from lydite.evidence.nvgpu.reference import NVDEC0_ROW, SWITCHES, Manifest, Reference
from lydite.evidence.nvgpu.report import Report
from lydite.messages import nonce
from lydite.messages.canonical import SAFE_INTEGER
from lydite.messages.finding import Finding, Measure
from lydite.messages.nonce import Issued
from lydite.messages.tier import Tier

NAMES = Names(Reason.NV_EXCEPTION, Reason.NV_CHAIN, Reason.NV_ROOT, Reason.NV_EXPIRED)
_VECTOR = {
    "instance-identity": 2,
    "configuration": 0,
    "executables": 3,
    "file-system": 0,
    "hardware": 2,
    "runtime-opaque": 0,
    "storage-opaque": 0,
    "sourced-data": 0,
}
"""AR4SI claims of devices with known firmware: the report does not say what they compute."""


class Found(NamedTuple):
    """One device whose report is genuine."""

    where: str
    arch: str
    made: Report
    chain: Chain


def verify(evidence: Claims, reference: Reference, issued: Issued, now_s: int) -> Finding:
    """Return what the evidence of some devices amounts to; what is refused is contraindicated.

    1. Each report is signed by a device that NVIDIA's root leads to, of the firmware it names.
    2. All of them answer our nonce; none is there twice, and as many as are demanded.
    3. Every measurement that a manifest names, for just this version, is one it allows.

    Raises:
        FormatError: the Reference Value cannot be used.

    **Does not show** which weights were loaded or which requests were served: a report covers
    firmware. Nor that the devices are in the machine that sent this: nothing binds a Hopper or
    Blackwell GPU to a processor, so that a genuine one elsewhere can answer. Nor that the manifests
    are NVIDIA's: who wrote the Reference Value checked that. Whether a certificate is revoked is
    looked up in the Reference Value alone, and whether its device is opened by nobody. Fresh only
    as of the nonce.
    """
    try:
        return appraise(evidence, reference, issued, now_s)
    except VerificationError as error:
        return refused(error, reference)


def refused(error: VerificationError, reference: Reference) -> Finding:
    """Return the finding on evidence that is refused."""
    digest = references.digest(reference)
    return Finding(kind=KIND, tier=Tier.CONTRAINDICATED, reason=error.reason, reference=digest)


def appraise(evidence: Claims, reference: Reference, issued: Issued, now_s: int) -> Finding:
    """Appraise the evidence of some devices, by the steps of ``verify``.

    Raises:
        FormatError: the Reference Value cannot be used.
        Refusal: one of the families ``nv`` and ``fresh``, at which device, with what was expected.
    """
    references.check(reference)
    if not evidence.devices:
        raise Refusal(Reason.NV_COUNT, "evidence", "devices", "none")
    # 1.
    found = [
        authenticate(each, f"device {n}", reference, now_s)
        for n, each in enumerate(evidence.devices)
    ]
    # 2.
    first = found[0].made.nonce
    nonce.check(LABEL, first, evidence.binding, issued, now_s)
    for each in found[1:]:
        if not hmac.compare_digest(each.made.nonce, first):
            raise Refusal(Reason.NV_NONCE, each.where, first.hex(), each.made.nonce.hex())
    _check_numbers(found, reference)
    # 3.
    manifests = {each.id: each for each in reference.manifests}
    used = [m for each in found for m in _check_measured(each, manifests, reference, now_s)]
    return _conclude(found, used, reference, now_s)


def authenticate(device: Device, where: str, reference: Reference, now_s: int) -> Found:
    """Return what a device signed, if NVIDIA's root leads to it.

    Raises:
        Refusal: one of the family ``nv``.
    """
    if device.mode in ("dev-tools", "off"):
        raise Refusal(Reason.NV_DEV_TOOLS, where, "protection that is on", device.mode)
    made = report.parse(bytes.fromhex(device.report))
    ders = [bytes.fromhex(each) for each in device.certificates]
    chain = certificates.follow(ders, reference.root, NAMES, now_s)
    for serial in chain.serials:
        if serial in reference.revoked:
            raise Refusal(Reason.NV_REVOKED, where, "certificates that count", serial)
    certificates.check_p384(chain.leaf, made.r, made.s, made.signed, where, Reason.NV_SIGNATURE)
    _check_firmware(made, chain.leaf, where, reference)
    arch = _architecture(chain.leaf)
    if arch not in {each.arch for each in reference.groups}:
        expected = " or ".join(each.arch for each in reference.groups)
        raise Refusal(Reason.NV_ARCH, where, expected, arch)
    blocks = report.SWITCH_BLOCKS if arch in SWITCHES else report.BLOCKS
    if len(made.measurements) != blocks:
        raise Refusal(Reason.NV_INDEX, where, str(blocks), str(len(made.measurements)))
    return Found(where, arch, made, chain)


def _architecture(leaf: x509.Certificate) -> str:
    """Return the first word of a device's name, such as ``GH100`` of "GH100 A01 GSP FMC LF"."""
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value).partition(" ")[0] if len(names) == 1 else "no one name"


def _check_firmware(made: Report, leaf: x509.Certificate, where: str, policy: Reference) -> None:
    said, issued_to = made.said.get(report.FWID), firmware.digest(leaf)
    if said is None and policy.without_fwid:
        return
    if said is None or issued_to is None or not hmac.compare_digest(said, issued_to):
        expected = "none" if issued_to is None else issued_to.hex()
        got = "none" if said is None else said.hex()
        raise Refusal(Reason.NV_FWID, where, expected, got)


def _check_numbers(found: Sequence[Found], reference: Reference) -> None:
    """Check that no device is there twice, and as many of each architecture as are demanded."""
    seen: dict[str, str] = {}
    for each in found:
        serial = each.chain.serials[0]
        if serial in seen:
            raise Refusal(Reason.NV_DUPLICATE_DEVICE, each.where, "another", seen[serial])
        seen[serial] = each.where
    counted = Counter(each.arch for each in found)
    for group in reference.groups:
        if counted[group.arch] != group.count:
            expected, got = f"{group.count} of {group.arch}", str(counted[group.arch])
            raise Refusal(Reason.NV_COUNT, "evidence", expected, got)


def _check_measured(
    found: Found, manifests: dict[str, Manifest], reference: Reference, now_s: int
) -> list[Manifest]:
    """Hold a device's measurements to the manifests of just its versions."""
    names = [report.manifest_id(found.made, found.arch)]
    if reference.driver and found.arch not in SWITCHES:
        names.append(report.driver_id(found.made, found.arch))
    used = []
    for name in names:
        manifest = manifests.get(name)
        if manifest is None:
            expected = " or ".join(sorted(manifests))[:1000]
            raise Refusal(Reason.NV_RIM_VERSION, found.where, expected, name)
        if now_s > manifest.not_after_s:
            expected = f"one until {now_s}"
            raise Refusal(Reason.NV_RIM_EXPIRED, name, expected, str(manifest.not_after_s))
        _check_rows(found, manifest, reference)
        used.append(manifest)
    return used


def _check_rows(found: Found, manifest: Manifest, reference: Reference) -> None:
    excused = reference.without_nvdec and found.made.said.get(report.NVDEC0) == report.OFF
    for row in manifest.rows:
        if row.index == NVDEC0_ROW and excused:
            continue
        where = f"{found.where}, measurement {row.index}"
        if row.index >= len(found.made.measurements):
            raise Refusal(Reason.NV_MISMATCH, where, " or ".join(row.values), "none")
        got = found.made.measurements[row.index].hex()
        if got not in row.values:
            raise Refusal(Reason.NV_MISMATCH, where, " or ".join(row.values), got)


def _conclude(
    found: Sequence[Found], used: Sequence[Manifest], reference: Reference, now_s: int
) -> Finding:
    ends = [each.chain.until_s for each in found] + [each.not_after_s for each in used]
    facts = [
        ("time", "second", (now_s,)),
        ("valid-from", "second", (max(each.chain.from_s for each in found),)),
        ("valid-until", "second", (min(*ends, SAFE_INTEGER),)),
        ("devices", "device", (len(found),)),
        ("rows", "measurement", (sum(len(each.rows) for each in used),)),
        ("protected-pcie", "byte", tuple(_byte(each.made.said.get(report.PCIE)) for each in found)),
        ("unperformed/driver-manifest", "flag", (int(not reference.driver),)),
        ("unperformed/manifest-signature", "flag", (1,)),
        ("unperformed/ocsp", "flag", (1,)),
        *((f"trust/{name}", "ar4si", (value,)) for name, value in _VECTOR.items()),
    ]
    return Finding(
        kind=KIND,
        tier=Tier.AFFIRMING,
        reason=Reason.CONSISTENT,
        reference=references.digest(reference),
        measures=tuple(
            Measure(name=name, unit=unit, values=values) for name, unit, values in facts
        ),
    )


def _byte(said: bytes | None) -> int:
    return said[0] if said else 0


def examine(content: bytes, reference: Reference, issued: Issued, now_s: int) -> Finding:
    """Return the finding on evidence as it travelled; see ``verify``."""
    try:
        return verify(claims.parse(content), reference, issued, now_s)
    except VerificationError as error:
        return refused(error, reference)
    except FormatError as error:
        digest = references.digest(reference)
        return Finding(kind=KIND, tier=Tier.NONE, reason=error.reason, reference=digest)
