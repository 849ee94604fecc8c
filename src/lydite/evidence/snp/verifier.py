"""Appraises one guest by the report that its processor signed.

Pure: evidence, Reference Value, challenge and time in; a Finding out.
"""

import hmac

from cryptography import x509

from lydite import certificates
from lydite.certificates import Chain, Names
from lydite.errors import FormatError, Reason, Refusal, VerificationError
from lydite.evidence.snp import claims, report
from lydite.evidence.snp import reference as references
from lydite.evidence.snp.claims import KIND, LABEL, Claims
from lydite.evidence.snp.reference import Image, Reference, Tcb
from lydite.evidence.snp.report import Report
from lydite.messages import nonce
from lydite.messages.canonical import SAFE_INTEGER
from lydite.messages.finding import Finding, Measure
from lydite.messages.nonce import Issued
from lydite.messages.tier import Tier

NAMES = Names(Reason.SNP_FORM, Reason.SNP_CHAIN, Reason.SNP_ROOT, Reason.SNP_EXPIRED)
AMD = "1.3.6.1.4.1.3704.1"
_VERSIONS = {
    name: x509.ObjectIdentifier(f"{AMD}.3.{n}")
    for name, n in (("bl", 1), ("tee", 2), ("snp", 3), ("ucode", 8), ("fmc", 9))
}
_PRODUCT, _CHIP = (x509.ObjectIdentifier(f"{AMD}.{n}") for n in (2, 4))
_KEYS = {"vcek": report.VCEK, "vlek": report.VLEK}
_VECTOR = {
    "instance-identity": 2,
    "configuration": 2,
    "executables": 3,
    "file-system": 0,
    "hardware": 2,
    "runtime-opaque": 2,
    "storage-opaque": 0,
    "sourced-data": 0,
}
"""AR4SI claims of a guest that was launched as allowed: approved at its boot, opaque as it runs."""


def verify(evidence: Claims, reference: Reference, issued: Issued, now_s: int) -> Finding:
    """Return what the evidence of one guest amounts to; what is refused is contraindicated.

    1. The certificates lead to the pinned root, and are those of this processor and firmware.
    2. The report is signed by that key, over our nonce.
    3. The guest is one that nobody debugs or moves, launched as allowed, on firmware new enough.

    Raises:
        FormatError: the Reference Value cannot be used.

    **Does not show** what the guest loaded after its launch, unless what was measured checks that
    itself; nor that memory was safe from who can open the machine: interposers on its memory bus
    extracted keys of such processors in 2025. Whether AMD has revoked a certificate since is not
    asked. A report says nothing of devices beside the processor, and is fresh only as of the nonce.
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
    """Appraise the evidence of one guest, by the steps of ``verify``.

    Raises:
        FormatError: the Reference Value cannot be used.
        Refusal: one of the families ``snp`` and ``fresh``, with what was expected.
    """
    references.check(reference)
    if now_s > reference.not_after_s:
        expected = f"one until {now_s}"
        raise Refusal(Reason.POLICY_EXPIRED, "reference", expected, str(reference.not_after_s))
    # 1.
    made = report.parse(bytes.fromhex(evidence.report))
    chain = follow(evidence, made, reference, now_s)
    # 2.
    certificates.check_p384(chain.leaf, made.r, made.s, made.signed, "report", Reason.SNP_SIGNATURE)
    nonce.check(LABEL, made.data[:32], evidence.binding, issued, now_s)
    if any(made.data[32:]):
        got = made.data[32:].hex()
        raise Refusal(Reason.SNP_REPORT_DATA, "report, data", "zeros behind the nonce", got)
    # 3.
    _check_guest(made, reference)
    image = _check_image(made, reference)
    return _conclude(made, image, chain, reference, now_s)


def follow(evidence: Claims, made: Report, reference: Reference, now_s: int) -> Chain:
    """Return the chain of the key that a report says it is signed with.

    Raises:
        Refusal: it does not hold, or is one of another processor, firmware or kind.
    """
    if made.algorithm != report.ECDSA_P384:
        raise Refusal(Reason.SNP_SIGALGO, "report", "1, ECDSA on P-384", str(made.algorithm))
    if made.key != _KEYS[reference.key]:
        expected = f"{_KEYS[reference.key]}, a {reference.key}"
        raise Refusal(Reason.SNP_VLEK, "report, signing key", expected, str(made.key))
    if made.masked:
        raise Refusal(Reason.SNP_MASKED, "report", "the processor's identity", "none")
    ders = [bytes.fromhex(each) for each in evidence.certificates]
    chain = certificates.follow(ders, reference.root, NAMES, now_s)
    _check_family(made, chain.leaf, reference)
    _check_chip(made, chain.leaf, reference)
    _check_firmware(made, chain.leaf, reference)
    return chain


def _check_family(made: Report, leaf: x509.Certificate, reference: Reference) -> None:
    said = certificates.raw_extension(leaf, _PRODUCT) or b""
    name = said[2:].decode("ascii", "replace") if said[:1] == b"\x16" else ""
    if name.partition("-")[0] != reference.product:
        raise Refusal(Reason.SNP_FAMILY, "certificate 0", reference.product, name or "none")
    if made.product not in (None, reference.product):
        raise Refusal(Reason.SNP_FAMILY, "report", reference.product, str(made.product))


def _check_chip(made: Report, leaf: x509.Certificate, reference: Reference) -> None:
    named = certificates.raw_extension(leaf, _CHIP)
    if (named is None) != (reference.key == "vlek"):
        expected = f"a {reference.key}"
        raise Refusal(Reason.SNP_VLEK, "certificate 0", expected, "one of another kind")
    if named is not None:
        whole = named[2:] if len(named) in (10, 66) and named[0] == 4 else named
        padded = whole.ljust(64, b"\0") if reference.product == "Turin" else whole
        if len(whole) not in (8, 64) or not hmac.compare_digest(padded, made.chip):
            raise Refusal(Reason.SNP_CHIP_ID, "certificate 0", made.chip.hex(), named.hex())
    if reference.chips and made.chip.hex() not in reference.chips:
        expected = f"one of {len(reference.chips)} processors"
        raise Refusal(Reason.SNP_CHIP_ID, "report", expected, made.chip.hex())


def _check_firmware(made: Report, leaf: x509.Certificate, reference: Reference) -> None:
    reported = report.tcb(made.reported, reference.product)
    for name, oid in _VERSIONS.items():
        found = certificates.raw_extension(leaf, oid)
        if name == "fmc" and found is None and reference.product != "Turin":
            continue
        version = getattr(reported, name)
        if found is None or _integer(found) != version:
            got = "none" if found is None else found.hex()
            raise Refusal(Reason.SNP_TCB, f"certificate 0, {name}", str(version), got)
    launched = report.tcb(made.launched, reference.product)
    for what, has in (("reported", reported), ("at launch", launched)):
        _check_least(has, reference.least, what)


def _check_least(has: Tcb, least: Tcb, what: str) -> None:
    for name in _VERSIONS:
        if getattr(has, name) < getattr(least, name):
            expected = f"at least {getattr(least, name)}"
            raise Refusal(
                Reason.SNP_TCB, f"report, {what}, {name}", expected, str(getattr(has, name))
            )


def _integer(der: bytes) -> int | None:
    """Return an INTEGER of one byte, which a sign bit may make two."""
    if der[:1] != b"\2" or len(der) not in (3, 4) or der[1] != len(der) - 2:
        return None
    return int.from_bytes(der[2:], "big", signed=True)


def _check_guest(made: Report, reference: Reference) -> None:
    if made.debug:
        raise Refusal(Reason.SNP_DEBUG, "report, policy", "bit 19 clear", f"{made.policy:#x}")
    if made.migration:
        raise Refusal(Reason.SNP_MIGRATION, "report, policy", "bit 18 clear", f"{made.policy:#x}")
    if made.vmpl > reference.most_vmpl:
        expected = f"at most {reference.most_vmpl}"
        raise Refusal(Reason.SNP_VMPL, "report, vmpl", expected, str(made.vmpl))


def _check_image(made: Report, reference: Reference) -> Image:
    for image in reference.images:
        if image.measurement == made.measurement.hex():
            beside = image.features & ~reference.features
            if beside:
                allowed, got = f"within {reference.features:#x}", f"{image.features:#x}"
                raise Refusal(Reason.SNP_FEATURES, image.name, allowed, got)
            return image
    expected = " or ".join(each.measurement for each in reference.images[:9])
    raise Refusal(Reason.SNP_MEASUREMENT, "report", expected, made.measurement.hex())


def _conclude(
    made: Report, image: Image, chain: Chain, reference: Reference, now_s: int
) -> Finding:
    reported = report.tcb(made.reported, reference.product)
    facts = [
        ("time", "second", now_s),
        ("valid-from", "second", chain.from_s),
        ("valid-until", "second", min(chain.until_s, reference.not_after_s, SAFE_INTEGER)),
        ("version", "number", made.version),
        ("vmpl", "number", made.vmpl),
        ("features", "bits", image.features),
        *((f"tcb/{name}", "version", getattr(reported, name)) for name in _VERSIONS),
        ("unperformed/revocation", "flag", 1),
        *((f"trust/{name}", "ar4si", value) for name, value in _VECTOR.items()),
    ]
    return Finding(
        kind=KIND,
        tier=Tier.AFFIRMING,
        reason=Reason.CONSISTENT,
        reference=references.digest(reference),
        measures=tuple(Measure(name=name, unit=unit, values=(n,)) for name, unit, n in facts),
    )


def examine(content: bytes, reference: Reference, issued: Issued, now_s: int) -> Finding:
    """Return the finding on evidence as it travelled; see ``verify``."""
    try:
        return verify(claims.parse(content), reference, issued, now_s)
    except VerificationError as error:
        return refused(error, reference)
    except FormatError as error:
        digest = references.digest(reference)
        return Finding(kind=KIND, tier=Tier.NONE, reason=error.reason, reference=digest)
