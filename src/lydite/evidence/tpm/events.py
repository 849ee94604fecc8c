"""What boot events say, where their digest covers it, and nothing where it does not.

Firmware writes text beside digests that were computed from something else: names of files, whole
variables of which only the value was hashed. ``read`` returns what is covered; the rest is a claim
by whoever wrote the log.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.boot import NO_ACTION, SEPARATOR, Event, Log
from lydite.messages.cursor import Cursor

ACTION, CRTM_VERSION, IPL = 0x5, 0x8, 0xD
VARIABLE_CONFIG, VARIABLE_BOOT, BOOT_APPLICATION = 0x80000001, 0x80000002, 0x80000003
EFI_GPT, EFI_ACTION, FIRMWARE_BLOB, FIRMWARE_BLOB2 = 0x80000006, 0x80000007, 0x80000008, 0x8000000A
VARIABLE_AUTHORITY = 0x800000E0
_WHOLE = (SEPARATOR, ACTION, CRTM_VERSION, EFI_ACTION, VARIABLE_CONFIG, EFI_GPT)
_COMMANDS = (b"grub_cmd: ", b"kernel_cmdline: ")
_SEPARATOR = bytes(4)
_ACTIONS = (
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Success",
    b"Exit Boot Services Returned with Failure",
)
"""What firmware says of itself in register 4; any other text there could be a program's."""
_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_IMAGE_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
_LINUX = ("linux ", "linuxefi ", "linux16 ")
_OTHER_KERNELS = ("multiboot", "xen_", "kfreebsd", "knetbsd", "kopenbsd", "ntldr", "plan9")
_CLOSED = (0, 2, 3)
"""Registers that nothing but firmware extends, and it no more once it said that it was done."""
_FIRMWARE = 8
"""The first register that firmware does not separate."""
_MOST_NAME, _MOST_VALUE = 1 << 12, 1 << 22


class Variable(NamedTuple):
    """A firmware variable, as far as its event covers it."""

    vendor: bytes
    name: str
    value: bytes


class Signer(NamedTuple):
    """One entry of a signature database: whose it is, and a certificate or digest."""

    owner: bytes
    data: bytes


def check(log: Log, bank: str) -> None:
    """Check that events' texts are covered by their digests, and the order that firmware keeps.

    An event's type is not covered: whoever can extend registers after the boot, and writes the log,
    calls it what he likes. So a separator is what has a separator's digest.

    Raises:
        Refusal: ``boot.data-digest``, ``boot.separator`` or ``boot.after-separator``.
    """
    separated: dict[int, Event] = {}
    mark = hashlib.new(bank, _SEPARATOR).digest()
    for event in log.events:
        if event.kind == NO_ACTION:
            continue
        if not _is_covered(event, bank):
            expected = hashlib.new(bank, event.data).hexdigest()
            got = event.digests[bank].hex()
            raise Refusal(Reason.BOOT_DATA_DIGEST, event.where, expected, got)
        before = separated.get(event.register)
        if event.register < _FIRMWARE and (event.digests[bank] == mark or event.kind == SEPARATOR):
            if before is not None or event.data != _SEPARATOR:
                raise Refusal(Reason.BOOT_SEPARATOR, event.where, "one, of zeros")
            separated[event.register] = event
        elif before is not None and (event.register in _CLOSED or event.kind == VARIABLE_CONFIG):
            raise Refusal(Reason.BOOT_AFTER_SEPARATOR, event.where, "nothing", before.where)
    missing = sorted({*range(_FIRMWARE)} - set(separated))
    if missing:
        got = f"none in registers {', '.join(map(str, missing))}"
        raise Refusal(Reason.BOOT_SEPARATOR, "boot log", "one in each of registers 0 to 7", got)


def _is_covered(event: Event, bank: str) -> bool:
    """Say whether the digest is that of the text, for types of event where it has to be."""
    digest, data = event.digests[bank], event.data

    def fits(*texts: bytes) -> bool:
        return any(hashlib.new(bank, text).digest() == digest for text in texts)

    if event.kind in _WHOLE:
        return fits(data)
    if event.kind == VARIABLE_AUTHORITY:
        return fits(data, data[:-1])
    if event.kind == VARIABLE_BOOT:
        return fits(data, variable(event).value)
    if event.kind == IPL and event.register == 8:
        return fits(data, data.rstrip(b"\0"), command(event))
    return True


def command(event: Event) -> bytes:
    """Return a boot loader's command or a kernel's command line, as it was hashed."""
    text = event.data.removesuffix(b"\0")
    for mark in _COMMANDS:
        if text.startswith(mark):
            return text.removeprefix(mark)
    return text


def variable(event: Event) -> Variable:
    """Return the firmware variable of an event.

    Raises:
        Refusal: it is in no such form (``boot.size``).
    """
    cursor = Cursor(event.data, event.where, Reason.BOOT_SIZE, little=True)
    vendor, letters, size = cursor.take(16), cursor.u64(), cursor.u64()
    if letters > _MOST_NAME or size > _MOST_VALUE:
        raise Refusal(
            Reason.BOOT_SIZE, event.where, "a variable", f"{letters} letters, {size} bytes"
        )
    name = cursor.take(2 * letters).decode("utf-16-le", "replace")
    return Variable(vendor, name, cursor.take(size))


def config(log: Log, name: str) -> Variable | None:
    """Return a variable of the firmware's configuration, which is covered whole.

    Raises:
        Refusal: the log has it twice (``boot.secure-boot``).
    """
    vendor = _IMAGE_SECURITY if name in ("db", "dbx") else _GLOBAL
    found = [
        each
        for event in log.events
        if event.kind == VARIABLE_CONFIG and event.register == 7
        for each in [variable(event)]
        if (each.vendor, each.name) == (vendor, name)
    ]
    if len(found) > 1:
        raise Refusal(Reason.BOOT_SECURE_BOOT, f"variable {name}", "once", str(len(found)))
    return found[0] if found else None


def signers(value: bytes, what: str) -> tuple[Signer, ...]:
    """Return the entries of a signature database (``EFI_SIGNATURE_LIST``).

    Raises:
        Refusal: it is in no such form (``boot.size``).
    """
    cursor = Cursor(value, what, Reason.BOOT_SIZE, little=True)
    found = []
    while cursor.left:
        cursor.take(16)
        size, head, each = cursor.u32(), cursor.u32(), cursor.u32()
        body = size - 28 - head
        if each <= 16 or body < 0 or body % each or body > cursor.left:
            raise Refusal(Reason.BOOT_SIZE, what, "a signature list", f"{size} bytes of {each}")
        cursor.take(head)
        for _ in range(body // each):
            found.append(Signer(cursor.take(16), cursor.take(each - 16)))
    return tuple(found)


def digests(log: Log, bank: str, register: int, without: Sequence[int] = ()) -> tuple[bytes, ...]:
    """Return what a register was extended by, in order, less events of types that are covered."""
    return tuple(
        event.digests[bank]
        for event in log.events
        if event.register == register and event.kind not in (NO_ACTION, *without)
    )


def images(log: Log, bank: str) -> tuple[bytes, ...]:
    """Return the digests of all programs that were started, whatever the log calls them."""
    return tuple(
        event.digests[bank]
        for event in log.events
        if event.register == 4 and event.kind != NO_ACTION and event.data not in _TEXTS
    )


_TEXTS = (_SEPARATOR, *_ACTIONS)


def command_lines(log: Log) -> tuple[tuple[Event, str], ...]:
    """Return all that may be a kernel's command line, each with its event.

    The word before it, ``kernel_cmdline``, is not hashed, so any text that begins as one is taken
    for one, and the boot loader's command that starts a kernel too.

    Raises:
        Refusal: register 8 holds what is no text of a boot loader (``boot.cmdline``).
    """
    found = []
    for event in log.events:
        if event.register != 8 or event.kind == NO_ACTION:
            continue
        if event.kind != IPL:
            raise Refusal(Reason.BOOT_CMDLINE, event.where, "a boot loader's text")
        text = command(event).decode("utf-8", "replace")
        if text.startswith(_OTHER_KERNELS):
            raise Refusal(Reason.BOOT_CMDLINE, event.where, "a kernel of Linux", text)
        start = next((each for each in _LINUX if text.startswith(each)), None)
        if start is not None:
            found.append((event, text.removeprefix(start)))
        elif text.startswith(("/", "(", "BOOT_IMAGE")) or event.data.startswith(_COMMANDS[1]):
            found.append((event, text))
    return tuple(found)
