"""What travels of a guest on SEV-SNP: the report, and the certificates beside it.

One message of at most 64 KiB: nothing else is looked at before the signature is verified. Knows
nothing of keys, policies or clocks.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.messages.canonical import Message, decode, encode
from lydite.messages.nonce import Binding

KIND = "snp"
LABEL = "lydite/snp-report/v1"
"""Goes into every nonce that a report is asked for with."""
MOST = 1 << 16
Bytes = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]*\Z", max_length=1 << 14)]


class Claims(Message, frozen=True, kw_only=True):
    """One guest's evidence."""

    format: Literal["lydite/snp-evidence/v1"] = "lydite/snp-evidence/v1"
    binding: Binding
    report: Bytes
    """The ``ATTESTATION_REPORT`` as the processor made it, with its signature."""
    certificates: Annotated[tuple[Bytes, ...], msgspec.Meta(max_length=8)]
    """In DER, that of the processor first, its family's root last."""


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
    return (found.report, *found.certificates)


def report_data(nonce: bytes) -> bytes:
    """Return the 64 bytes that a guest has signed for a nonce: it, and zeros."""
    return nonce + bytes(32)
