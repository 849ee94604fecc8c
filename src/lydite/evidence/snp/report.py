"""The attestation report of an SEV-SNP processor, byte for byte.

SEV Secure Nested Paging Firmware ABI (56860), 7.3 and 2.2; little endian. Knows no key or policy.
"""

from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.snp.reference import Tcb

SIZE, SIGNED = 1184, 672
VERSIONS = (2, 3, 4, 5)
ECDSA_P384 = 1
VCEK, VLEK = 0, 1
_NUMBER, _LONG = 48, 72
_FAMILIES = {
    (0x19, 0x0): "Milan",
    (0x19, 0x1): "Genoa",
    (0x19, 0xA): "Genoa",
    (0x1A, 0x0): "Turin",
    (0x1A, 0x1): "Turin",
}
"""Product by the processor's family, and its model's upper half."""


class Report(NamedTuple):
    """What a processor signed of a guest."""

    version: int
    policy: int
    vmpl: int
    algorithm: int
    masked: bool
    key: int
    data: bytes
    measurement: bytes
    reported: bytes
    launched: bytes
    product: str | None
    """By the processor's own word; none before version 3."""
    chip: bytes
    signed: bytes
    r: int
    s: int

    @property
    def debug(self) -> bool:
        """Whether the host may read the guest's memory."""
        return bool(self.policy >> 19 & 1)

    @property
    def migration(self) -> bool:
        """Whether an agent may move the guest elsewhere."""
        return bool(self.policy >> 18 & 1)


def parse(content: bytes) -> Report:
    """Parse a report.

    Raises:
        Refusal: it is in another form (``snp.form``), or so is its signature (``snp.signature``).
    """
    if len(content) != SIZE:
        raise Refusal(Reason.SNP_FORM, "report", f"{SIZE} bytes", str(len(content)))
    version, policy, flags = _number(content, 0, 4), _number(content, 8, 8), _number(content, 72, 4)
    if version not in VERSIONS:
        raise Refusal(Reason.SNP_FORM, "report, version", "2 to 5", str(version))
    if not policy >> 17 & 1:
        raise Refusal(Reason.SNP_FORM, "report, policy", "bit 17 set", f"{policy:#x}")
    if flags >> 5:
        raise Refusal(Reason.SNP_FORM, "report, byte 72", "at most 5 bits", f"{flags:#x}")
    tail = content[SIGNED:]
    if any(tail[_NUMBER:_LONG] + tail[_LONG + _NUMBER :]):
        raise Refusal(Reason.SNP_SIGNATURE, "signature", "zeros behind its numbers", "others")
    return Report(
        version=version,
        policy=policy,
        vmpl=_number(content, 48, 4),
        algorithm=_number(content, 52, 4),
        masked=bool(flags >> 1 & 1) or not any(content[416:480]),
        key=flags >> 2,
        data=content[80:144],
        measurement=content[144:192],
        reported=content[384:392],
        launched=content[496:504],
        product=_product(content[392:395]) if version > 2 else None,
        chip=content[416:480],
        signed=content[:SIGNED],
        r=_number(tail, 0, _NUMBER),
        s=_number(tail, _LONG, _NUMBER),
    )


def _number(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")


def _product(found: bytes) -> str:
    return _FAMILIES.get((found[0], found[1] >> 4), f"family {found[0]:#x}, model {found[1]:#x}")


def tcb(content: bytes, product: str) -> Tcb:
    """Return the versions that eight bytes stand for, which Turin lays out anew."""
    if product == "Turin":
        return Tcb(fmc=content[0], bl=content[1], tee=content[2], snp=content[3], ucode=content[7])
    return Tcb(bl=content[0], tee=content[1], snp=content[6], ucode=content[7])
