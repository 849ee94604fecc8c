"""What is expected of a guest on SEV-SNP, and AMD's roots. Needs the base install only.

Knows nothing of how evidence is made or checked.
"""

import hashlib
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode

AMD_ROOTS = {
    "Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
"""SHA-256 of each family's root (ARK), in DER; it issues for both kinds of key."""
ACTIVE, DEBUG_SWAP = 1, 1 << 5
"""Bits of ``SEV_FEATURES``: encryption as such; debug registers kept from the host."""

Product = Literal["Milan", "Genoa", "Turin"]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Hex48 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{96}\Z")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Tcb(Message, frozen=True, kw_only=True):
    """Versions of the processor's firmware; ``fmc`` from Turin on."""

    bl: Byte = 0
    tee: Byte = 0
    snp: Byte = 0
    ucode: Byte = 0
    fmc: Byte = 0


class Image(Message, frozen=True, kw_only=True):
    """What a guest may be launched with; its features show in the measurement alone."""

    measurement: Hex48
    features: Count
    """The ``SEV_FEATURES`` that this measurement was computed for."""
    name: Word


class Reference(Message, frozen=True, kw_only=True):
    """What one guest has to show; all of it is mandatory."""

    format: Literal["lydite/snp-reference/v1"] = "lydite/snp-reference/v1"
    name: Word
    product: Product
    root: Hex32
    """SHA-256 of the pinned root's certificate, such as one of ``AMD_ROOTS``."""
    key: Literal["vcek", "vlek"] = "vcek"
    """Whose key signs: the chip's own, or one that AMD lends a cloud."""
    least: Tcb
    images: tuple[Image, ...]
    features: Count = ACTIVE | DEBUG_SWAP
    """Bits of ``SEV_FEATURES`` that an image may have."""
    most_vmpl: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    """The least privileged level that a report may be asked for at."""
    chips: tuple[Hex64, ...] = ()
    """The processors that it may run on; any of the family where there is none."""
    not_after_s: Count


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check what it demands.

    Raises:
        FormatError: other bytes than we would write.
        Refusal: it allows anything (``policy.empty``), or an image without encryption
            (``snp.features``).
    """
    reference = decode(payload, Reference, limit=1 << 20)
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value demands something.

    Raises:
        FormatError, Refusal: as ``parse`` does.
    """
    if not reference.images:
        raise Refusal(Reason.POLICY_EMPTY, "reference", "an image", "none")
    if reference.least == Tcb():
        raise Refusal(Reason.POLICY_EMPTY, "reference, least", "versions of firmware", "none")
    if len({each.measurement for each in reference.images}) != len(reference.images):
        raise FormatError("snp reference: a measurement is named twice")
    for image in reference.images:
        if not image.features & ACTIVE:
            expected = f"features with {ACTIVE:#x}"
            raise Refusal(Reason.SNP_FEATURES, image.name, expected, f"{image.features:#x}")


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()
