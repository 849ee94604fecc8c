"""What travels of a machine's NVIDIA devices: a report of each, and the certificates beside it.

Knows nothing of keys, policies or clocks.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.messages.canonical import Message, decode, encode
from lydite.messages.nonce import Binding

KIND = "nvgpu"
LABEL = "lydite/nvgpu-report/v1"
"""Goes into every nonce that a report is asked for with."""
MOST, MOST_DEVICES = 1 << 20, 32
Bytes = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]*\Z", max_length=1 << 15)]


class Device(Message, frozen=True, kw_only=True):
    """One GPU or switch."""

    report: Bytes
    """Request and answer as SPDM has them, with the signature over both."""
    certificates: Annotated[tuple[Bytes, ...], msgspec.Meta(max_length=8)]
    """In DER, that of the device first, NVIDIA's root last."""
    mode: Literal["on", "dev-tools", "off", "unread"] = "unread"
    """What the driver says of its protection; unsigned, so that only bad news counts."""


class Claims(Message, frozen=True, kw_only=True):
    """The devices of one machine."""

    format: Literal["lydite/nvgpu-evidence/v1"] = "lydite/nvgpu-evidence/v1"
    binding: Binding
    devices: Annotated[tuple[Device, ...], msgspec.Meta(max_length=MOST_DEVICES)]


def write(claims: Claims) -> bytes:
    """Return claims as they travel."""
    return encode(claims)


def parse(content: bytes) -> Claims:
    """Parse claims.

    Raises:
        Refusal: they are not in the form that ``write`` gives them (``attest.wrapper``).
    """
    try:
        found = decode(content, Claims, limit=MOST)
    except FormatError as error:
        raise Refusal(Reason.ATTEST_WRAPPER, "evidence", got=str(error)) from error
    if any(len(each) % 2 for each in _bytes(found)):  # which a pattern would take long to see
        raise Refusal(Reason.ATTEST_WRAPPER, "evidence", "two digits a byte", "one")
    return found


def _bytes(found: Claims) -> tuple[str, ...]:
    return tuple(text for each in found.devices for text in (each.report, *each.certificates))
