"""What travels of a machine: the quote, registers, key, and the two logs behind them.

A first line of JSON, at most 64 KiB, has all that is looked at before a signature is verified; the
logs follow as they are. Knows nothing of keys, policies or clocks.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.messages.canonical import Count, Message, decode, encode
from lydite.messages.nonce import Binding

KIND = "tpm"
MAGIC = b"lydite/tpm-evidence/v1\n"
MOST_HEAD = 1 << 16
MOST_LOG = 1 << 28

Bytes = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z", max_length=8192)]
BankName = Literal["sha1", "sha256", "sha384", "sha512"]


class Register(Message, frozen=True, kw_only=True):
    """The value of one register."""

    bank: BankName
    number: Annotated[int, msgspec.Meta(ge=0, le=31)]
    value: Bytes


class List(Message, frozen=True, kw_only=True):
    """How the list of measured files comes: as what, and what came before it."""

    form: Literal["binary", "ascii"] = "binary"
    first: Count = 0
    """How many entries are left out, since an earlier appraisal covers them."""
    size: Count


class Head(Message, frozen=True, kw_only=True):
    """All but the logs."""

    binding: Binding
    quote: Bytes
    """The ``TPMS_ATTEST`` that was signed."""
    signature: Bytes
    """The ``TPMT_SIGNATURE``."""
    key: Bytes
    """The ``TPMT_PUBLIC`` of the attestation key."""
    registers: Annotated[tuple[Register, ...], msgspec.Meta(max_length=128)]
    """In the order of the quote's selection."""
    boot_size: Count | None = None
    """Length of the boot log; absent where there is none."""
    files: List | None = None
    """The list of measured files; absent where there is none."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """One machine's evidence; the logs are cut out when they are asked for."""

    head: Head
    logs: bytes
    """Holds the boot log from ``at`` on, and the list behind it."""
    at: int = 0

    @property
    def quote(self) -> bytes:
        """The bytes that the TPM signed."""
        return bytes.fromhex(self.head.quote)

    @property
    def boot(self) -> bytes | None:
        """The boot log."""
        if self.head.boot_size is None:
            return None
        return self.logs[self.at : self.at + self.head.boot_size]

    @property
    def files(self) -> bytes | None:
        """The list of measured files."""
        if self.head.files is None:
            return None
        return self.logs[self.at + (self.head.boot_size or 0) :]


def write(claims: Claims) -> bytes:
    """Return claims as they travel."""
    return MAGIC + encode(claims.head) + b"\n" + claims.logs[claims.at :]


def parse(content: bytes) -> Claims:
    """Parse claims; nothing is done to the logs, however long they are.

    Raises:
        Refusal: they are not in the form that ``write`` gives them (``attest.wrapper``).
    """
    begin = len(MAGIC)
    end = content.find(b"\n", begin, begin + MOST_HEAD)
    if not content.startswith(MAGIC) or end < 0:
        expected = f"{MAGIC.decode().strip()} and a line of at most {MOST_HEAD} bytes"
        raise Refusal(Reason.ATTEST_WRAPPER, "evidence", expected, "another form")
    try:
        head = decode(content[begin:end], Head, limit=MOST_HEAD)
    except FormatError as error:
        raise Refusal(Reason.ATTEST_WRAPPER, "evidence", got=str(error)) from error
    sizes = (head.boot_size or 0, 0 if head.files is None else head.files.size)
    left = len(content) - end - 1
    if sum(sizes) != left or max(sizes) > MOST_LOG:
        raise Refusal(Reason.ATTEST_WRAPPER, "evidence", f"{sum(sizes)} bytes of logs", str(left))
    return Claims(head=head, logs=content, at=end + 1)
