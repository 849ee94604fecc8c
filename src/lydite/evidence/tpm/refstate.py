"""Which boots are good: a subset of Keylime's measured-boot reference state, in its own JSON.

Firmware, Secure Boot and its keys, boot loaders, kernel, initial disk, command line. What we do not
check is refused, not overlooked; of register 0, which Keylime reads in part, every event has to be
among the firmware. Knows nothing of registers' quoted values.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.tpm import events, patterns
from lydite.evidence.tpm.boot import SEPARATOR, Log
from lydite.evidence.tpm.events import Signer
from lydite.messages.canonical import UNREADABLE

MOST_BYTES = 1 << 24
Digests = dict[str, str]


class Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One entry of a signature database."""

    owner: str = msgspec.field(name="SignatureOwner")
    data: str = msgspec.field(name="SignatureData")


class Firmware(msgspec.Struct, forbid_unknown_fields=True):
    """What register 0 was extended by."""

    scrtm: Digests
    platform_firmware: list[Digests]


class Kernel(msgspec.Struct, forbid_unknown_fields=True):
    """One way from the boot loader to a running kernel."""

    shim_authcode_sha256: str | None = None
    grub_authcode_sha256: str | None = None
    kernel_authcode_sha256: str | None = None
    initrd_plain_sha256: str | None = None
    kernel_cmdline: str | None = None
    """A pattern that the whole command line has to match."""


class RefState(msgspec.Struct, forbid_unknown_fields=True):
    """One measured-boot reference state."""

    has_secureboot: bool
    scrtm_and_bios: list[Firmware]
    kernels: list[Kernel]
    pk: list[Entry] = []
    kek: list[Entry] = []
    db: list[Entry] = []
    dbx: list[Entry] = []


def parse(content: bytes) -> RefState:
    """Parse a reference state.

    Raises:
        FormatError: no such JSON, or a part that we would not check.
        Refusal: it allows no boot (``policy.empty``), or has a pattern that may take too long.
    """
    if len(content) > MOST_BYTES:
        raise FormatError(f"a reference state of {len(content)} bytes", Reason.TOO_LARGE)
    try:
        state = msgspec.json.decode(content, type=RefState)
    except UNREADABLE as error:
        raise FormatError(f"measured-boot reference state: {error}") from error
    if not state.scrtm_and_bios or not state.kernels:
        raise Refusal(Reason.POLICY_EMPTY, "reference state", "firmware and kernels", "none")
    for kernel in state.kernels:
        if kernel.kernel_cmdline is not None:
            patterns.compile_pattern(kernel.kernel_cmdline, "kernel_cmdline")
    return state


def check(states: Sequence[RefState], log: Log, bank: str) -> None:
    """Check that one of the reference states allows the boot of a log that was replayed.

    Raises:
        Refusal: none does; says what the first one of them finds.
    """
    found: Refusal | None = None
    for state in states:
        try:
            _check(state, log, bank)
        except Refusal as refusal:
            found = found or refusal
        else:
            return
    raise found or Refusal(Reason.POLICY_EMPTY, "reference states", "one", "none")


def _check(state: RefState, log: Log, bank: str) -> None:
    _check_firmware(state, log, bank)
    _check_secure_boot(state, log)
    refusal: Refusal | None = None
    for kernel in state.kernels:
        try:
            _check_images(kernel, log, bank)
            _check_command_line(kernel, log)
        except Refusal as found:
            if refusal is None or found.reason is Reason.BOOT_CMDLINE:  # it came the farthest
                refusal = found
        else:
            return
    if refusal is not None:
        raise refusal


def _check_firmware(state: RefState, log: Log, bank: str) -> None:
    crtm, blobs = _firmware(log, bank)
    for allowed in state.scrtm_and_bios:
        wanted = _bytes([allowed.scrtm], bank)
        if crtm == wanted and blobs == _bytes(allowed.platform_firmware, bank):
            return
    first = _bytes(
        [state.scrtm_and_bios[0].scrtm, *state.scrtm_and_bios[0].platform_firmware], bank
    )
    raise Refusal(
        Reason.BOOT_UNKNOWN_IMAGE, "firmware, register 0", _hex(first), _hex(crtm + blobs)
    )


def _firmware(log: Log, bank: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the digest of the core's version, and all else that register 0 was extended by."""
    own = (events.CRTM_VERSION, SEPARATOR)
    crtm = tuple(
        each.digests[bank]
        for each in log.events
        if (each.register, each.kind) == (0, events.CRTM_VERSION)
    )
    return crtm, events.digests(log, bank, 0, own)


def _check_secure_boot(state: RefState, log: Log) -> None:
    variable = events.config(log, "SecureBoot")
    value = b"" if variable is None else variable.value
    if not state.has_secureboot:
        return
    if value != b"\1":
        raise Refusal(
            Reason.BOOT_SECURE_BOOT, "variable SecureBoot", "01", value.hex() or "nothing"
        )
    for name, allowed in (("PK", state.pk), ("KEK", state.kek), ("db", state.db)):
        for entry in sorted(_entries(log, name) - set(allowed), key=lambda e: e.data):
            expected = f"one of {len(allowed)} that the policy names"
            got = f"{entry.owner} {entry.data[:40]}"
            raise Refusal(Reason.BOOT_SECURE_BOOT, f"variable {name}", expected, got)
    for entry in sorted(set(state.dbx) - _entries(log, "dbx"), key=lambda e: e.data):
        raise Refusal(Reason.BOOT_DBX, "variable dbx", f"{entry.owner} {entry.data[:80]}", "none")


def _entries(log: Log, name: str) -> set[Entry]:
    variable = events.config(log, name)
    if variable is None:
        raise Refusal(Reason.BOOT_SECURE_BOOT, f"variable {name}", "measured", "nowhere")
    return {_entry(each) for each in events.signers(variable.value, f"variable {name}")}


def _entry(signer: Signer) -> Entry:
    """Return an entry as Keylime writes it; the first three parts of an owner are little-endian."""
    raw = signer.owner
    parts = (raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:])
    return Entry(owner="-".join(part.hex() for part in parts), data="0x" + signer.data.hex())


def _check_images(kernel: Kernel, log: Log, bank: str) -> None:
    if bank != "sha256":
        raise Refusal(Reason.PCR_SELECTION, "boot", "sha256, which the reference has", bank)
    spelt = (
        kernel.shim_authcode_sha256,
        kernel.grub_authcode_sha256,
        kernel.kernel_authcode_sha256,
    )
    allowed = [_raw(each) for each in spelt if each is not None]
    run = events.images(log, bank)
    for digest in run:
        if digest not in allowed:
            expected = _hex(allowed)
            raise Refusal(Reason.BOOT_UNKNOWN_IMAGE, "image, register 4", expected, digest.hex())
    for digest in allowed:
        if digest not in run:
            raise Refusal(Reason.BOOT_UNKNOWN_IMAGE, "register 4", digest.hex(), _hex(run))
    if kernel.initrd_plain_sha256 is not None:
        initrd = _raw(kernel.initrd_plain_sha256)
        read = events.digests(log, bank, 9)
        if initrd not in read:
            expected = initrd.hex()
            raise Refusal(
                Reason.BOOT_UNKNOWN_IMAGE, "initial disk, register 9", expected, _hex(read)
            )


def _check_command_line(kernel: Kernel, log: Log) -> None:
    if kernel.kernel_cmdline is None:
        return
    pattern = patterns.compile_pattern(kernel.kernel_cmdline, "kernel_cmdline")
    lines = events.command_lines(log)
    if not lines:
        raise Refusal(Reason.BOOT_CMDLINE, "register 8", kernel.kernel_cmdline, "no command line")
    for event, line in lines:
        if not pattern.fullmatch(line):
            raise Refusal(Reason.BOOT_CMDLINE, event.where, kernel.kernel_cmdline, line)


def describe(log: Log) -> RefState:
    """Return the reference state that allows the boot of ``log``, and no other."""
    bank = "sha256"
    crtm, blobs = _firmware(log, bank)
    run = [*dict.fromkeys(events.images(log, bank))]
    if len(crtm) != 1 or len(run) > 3:
        raise FormatError(f"{len(crtm)} core measurements and {len(run)} images: no such form")
    images = dict(zip(Kernel.__struct_fields__, map(_spelt, run), strict=False))
    lines = [line for _, line in events.command_lines(log)]
    read = events.digests(log, bank, 9)
    kernel = Kernel(
        **images,
        initrd_plain_sha256=_spelt(read[-1]) if read else None,
        kernel_cmdline=_literal(lines[-1]) if lines else None,
    )
    variable = events.config(log, "SecureBoot")
    return RefState(
        has_secureboot=variable is not None and variable.value == b"\1",
        scrtm_and_bios=[
            Firmware(
                scrtm={bank: _spelt(crtm[0])}, platform_firmware=[{bank: _spelt(b)} for b in blobs]
            )
        ],
        kernels=[kernel],
        pk=_sorted(_entries(log, "PK")),
        kek=_sorted(_entries(log, "KEK")),
        db=_sorted(_entries(log, "db")),
        dbx=_sorted(_entries(log, "dbx")),
    )


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda each: (each.owner, each.data))


def _literal(text: str) -> str:
    return "".join(
        f"\\{letter}" if not letter.isalnum() and letter.isascii() else letter for letter in text
    )


def _bytes(spelt: Iterable[Mapping[str, str]], bank: str) -> tuple[bytes, ...]:
    return tuple(_raw(each.get(bank, "")) for each in spelt)


def _raw(spelt: str) -> bytes:
    try:
        return bytes.fromhex(spelt.removeprefix("0x"))
    except ValueError as error:
        raise FormatError(f"reference state: {spelt[:80]!r} is no digest") from error


def _spelt(digest: bytes) -> str:
    return "0x" + digest.hex()


def _hex(found: Iterable[bytes]) -> str:
    return ", ".join(each.hex() for each in found) or "none"
