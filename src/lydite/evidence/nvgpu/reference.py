"""What is expected of a machine's NVIDIA devices, and NVIDIA's root. Needs the base install only.

Knows nothing of how evidence is made or checked.
"""

import hashlib
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode

NVIDIA_ROOT = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
"""SHA-256 of the certificate of "NVIDIA Device Identity CA", in DER."""
SWITCHES = ("LS10",)
NVDEC0_ROW = 35
"""The row that differs where a GPU's first video decoder is off."""
Hex48 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{96}\Z")]
Serial = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9a-f][0-9a-f]{0,63})\Z")]


class Row(Message, frozen=True, kw_only=True):
    """What one measurement may be; ``index`` is one less than SPDM's."""

    index: Annotated[int, msgspec.Meta(ge=0, le=63)]
    values: Annotated[tuple[Hex48, ...], msgspec.Meta(min_length=1, max_length=64)]


class Manifest(Message, frozen=True, kw_only=True):
    """The active rows of one of NVIDIA's reference manifests, whose signature somebody checked."""

    id: Word
    """Such as ``NV_GPU_VBIOS_1010_0200_882_96009F0001``."""
    rows: tuple[Row, ...]
    not_after_s: Count


class Group(Message, frozen=True, kw_only=True):
    """How many devices of one architecture there have to be."""

    arch: Word
    """Such as ``GH100``, which stands first in the name of a device's certificate."""
    count: Annotated[int, msgspec.Meta(ge=1, le=32)]


class Reference(Message, frozen=True, kw_only=True):
    """What the devices of one machine have to show; all of it is mandatory."""

    format: Literal["lydite/nvgpu-reference/v1"] = "lydite/nvgpu-reference/v1"
    name: Word
    root: Hex32 = NVIDIA_ROOT
    groups: tuple[Group, ...]
    manifests: tuple[Manifest, ...]
    driver: bool = True
    """Whether the driver's measurements have to be in a manifest too; for GPUs alone."""
    without_fwid: bool = False
    """Whether devices pass whose report names no firmware; old drivers and switches do not."""
    without_nvdec: bool = False
    """Whether row 35 is excused where the first video decoder is off."""
    revoked: tuple[Serial, ...] = ()
    """Serial numbers of certificates that are revoked or on hold, of any place in a chain."""


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 4 MiB, in its one spelling, and check what it demands.

    Raises:
        FormatError: other bytes than we would write, or something named twice.
        Refusal: it demands nothing (``policy.empty``).
    """
    reference = decode(payload, Reference, limit=1 << 22)
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value demands something.

    Raises:
        FormatError, Refusal: as ``parse`` does.
    """
    if not reference.groups:
        raise Refusal(Reason.POLICY_EMPTY, "reference", "devices", "none")
    if not reference.manifests:
        raise Refusal(Reason.POLICY_EMPTY, "reference", "manifests", "none")
    for manifest in reference.manifests:
        if not manifest.rows:
            raise Refusal(Reason.POLICY_EMPTY, manifest.id, "rows", "none")
        if len({row.index for row in manifest.rows}) != len(manifest.rows):
            raise FormatError(f"nvgpu reference: {manifest.id} has a row twice")
    if len({each.id for each in reference.manifests}) != len(reference.manifests):
        raise FormatError("nvgpu reference: a manifest is named twice")
    if len({each.arch for each in reference.groups}) != len(reference.groups):
        raise FormatError("nvgpu reference: an architecture is named twice")


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()
