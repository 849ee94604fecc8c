"""What is expected of one machine: its key, registers, boot and files. Needs the base install only.

What is long (policies of files and boots) is named by digest and date, and handed over beside it.
Knows nothing of how evidence is made or checked.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.tpm.claims import BankName, Bytes
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode

Number = Annotated[int, msgspec.Meta(ge=0, le=23)]
BOOT = tuple(range(10))
"""Registers of firmware, boot loader and kernel, which the list's first entry covers."""
RESETTABLE = (16, 23)
"""Registers that any program may set to zero."""


class Enrolled(Message, frozen=True, kw_only=True):
    """One machine's keys, found to belong together: what all of its evidence has to come from."""

    format: Literal["lydite/tpm-enrolment/v1"] = "lydite/tpm-enrolment/v1"
    machine: Word
    key_name: Bytes
    """The TPM's name of the attestation key."""
    signers: tuple[Bytes, ...]
    """Qualified names that its quotes may bear."""
    endorsement_name: Bytes
    certificate: Hex32
    """SHA-256 of the endorsement certificate."""
    root: Hex32
    """SHA-256 of the pinned root that it leads to."""
    manufacturer: Word
    model: Word
    not_after_s: Count
    """When the first of the certificates ends."""
    software: bool
    """Whether the root endorses TPMs of software, which protect nothing."""


class Selected(Message, frozen=True, kw_only=True):
    """Registers that a quote covers, of one bank."""

    bank: BankName
    registers: tuple[Number, ...]


class Known(Message, frozen=True, kw_only=True):
    """Values that a register may have."""

    bank: BankName
    register: Number
    values: tuple[Bytes, ...]


class Dated(Message, frozen=True, kw_only=True):
    """A document, by its SHA-256, and when it ends to count."""

    document: Hex32
    not_after_s: Count


class Files(Message, frozen=True, kw_only=True):
    """Which files may run, and how strictly the list of them is read."""

    register: Number = 10
    runtime: tuple[Dated, ...]
    """Keylime runtime policies; what any of them allows until its date is allowed."""
    demanded: tuple[Word, ...] = ()
    """Files that have to be on the list."""
    weak: bool = False
    """Whether digests in SHA-1 are taken."""
    violations: bool = False
    """Whether a violation only warns."""
    kexec: bool = False
    """Whether another kernel may be started without a reboot."""
    most_tail: Count = 1 << 24
    """Bytes behind the quoted place that are left for the next time."""


class Reference(Message, frozen=True, kw_only=True):
    """What one machine has to show; whatever is named here is mandatory."""

    format: Literal["lydite/tpm-reference/v1"] = "lydite/tpm-reference/v1"
    name: Word
    machine: Enrolled
    selection: tuple[Selected, ...]
    """What the quote covers, exactly, in this order."""
    known: tuple[Known, ...] = ()
    boot: tuple[Dated, ...] = ()
    """Measured-boot reference states; one of those that have not ended has to fit."""
    files: Files | None = None
    unlogged: tuple[Number, ...] = ()
    """Registers that programs extend beside the boot log, such as 11 and 15 by systemd."""
    sha1: bool = False
    """Whether a quote of SHA-1 registers alone is taken."""


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check what it demands.

    Raises:
        FormatError: other bytes than we would write, or registers that are not selected.
        Refusal: it demands nothing (``policy.empty``), or relies on registers that prove nothing
            (``pcr.resettable``, ``pcr.sha1-only``).
    """
    reference = decode(payload, Reference, limit=1 << 20)
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value demands something, of registers that the quote covers.

    Raises:
        FormatError, Refusal: as ``parse`` does.
    """
    if not (reference.known or reference.boot or reference.files):
        raise Refusal(Reason.POLICY_EMPTY, "reference", "registers, a boot or files", "nothing")
    if any(not each.values for each in reference.known):
        raise Refusal(Reason.POLICY_EMPTY, "reference", "values of a register", "none")
    if reference.files is not None and not reference.files.runtime:
        raise Refusal(Reason.POLICY_EMPTY, "reference, files", "runtime policies", "none")
    demanded = _demanded(reference)
    for number in sorted({number for _, number in demanded} & set(RESETTABLE)):
        raise Refusal(Reason.PCR_RESETTABLE, f"register {number}", "one that only a reboot resets")
    missing = demanded - {(each.bank, n) for each in reference.selection for n in each.registers}
    if missing:
        names = ", ".join(sorted(f"{bank}:{number}" for bank, number in missing))
        raise FormatError(f"tpm reference: registers not selected: {names}")
    if not reference.sha1 and all(each.bank == "sha1" for each in reference.selection):
        raise Refusal(Reason.PCR_SHA1_ONLY, "reference", "a bank of SHA-256 or longer", "SHA-1")


def _demanded(reference: Reference) -> set[tuple[str, int]]:
    """Return the registers that the reference relies on."""
    found: set[tuple[str, int]] = {(each.bank, each.register) for each in reference.known}
    bank = bank_of(reference)
    if reference.boot or reference.files:
        found |= {(bank, number) for number in BOOT}
    if reference.files is not None:
        found.add((bank, reference.files.register))
    return found


def bank_of(reference: Reference) -> BankName:
    """Return the bank that logs are replayed in: the first that is not of SHA-1, if any is."""
    names = [each.bank for each in reference.selection]
    return next((name for name in names if name != "sha1"), "sha1")


def current(dated: Sequence[Dated], what: str, now_s: int) -> tuple[Dated, ...]:
    """Return the documents that still count.

    Raises:
        Refusal: none does (``policy.expired``).
    """
    found = tuple(each for each in dated if now_s <= each.not_after_s)
    if not found:
        last = max((each.not_after_s for each in dated), default=0)
        raise Refusal(Reason.POLICY_EXPIRED, what, f"one until {now_s}", f"the last until {last}")
    return found


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()
