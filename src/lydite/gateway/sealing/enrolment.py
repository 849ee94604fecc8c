"""Who this gateway is to its TPM: the sealed secret, and what it is sealed to.

Lies in the state directory and is trusted for nothing: what it says about files and registers only
explains a refusal. What it holds of worth, the TPM opens or does not.
"""

import hashlib
import hmac
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from lydite.errors import DeviceError, FormatError, Reason, SealError
from lydite.gateway.sealing.measured import Measurement, differences
from lydite.gateway.settings import Device
from lydite.messages.canonical import Hex, Hex32, decode, encode
from lydite.tlog import disk
from lydite.tpm import sealing
from lydite.tpm.commands import Tpm
from lydite.tpm.objects import Blob

NAME = "device.json"
RESETTABLE = {16, 23}
"""Registers that software may reset; all others only a boot does."""
_CAP = hashlib.sha256(b"lydite/cap/v1").digest()
_TOLD = 4


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is written here."""


class Seal(_Frozen, frozen=True, kw_only=True):
    """The secret, sealed for one measurement of the gateway, given by its digest."""

    measurement: Hex32
    public: Hex
    private: Hex


class Enrolment(_Frozen, frozen=True, kw_only=True):
    """All that is kept in the open; ``seen`` and ``registers`` are as at the newest sealing."""

    v: Literal[1] = 1
    index: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    seals: Annotated[tuple[Seal, ...], msgspec.Meta(min_length=1, max_length=8)]
    registers: dict[str, Hex32]
    seen: Measurement


def derive(secret: bytes, label: str) -> bytes:
    """Return the 32 bytes that belong to ``label`` (HKDF-SHA256, RFC 5869)."""
    key = hmac.digest(b"lydite/device/v1", secret, "sha256")
    return hmac.digest(key, label.encode() + b"\x01", "sha256")


def read(state: Path) -> Enrolment:
    """Return what ``gateway seal`` wrote.

    Raises:
        SealError: there is none (``NOT_SEALED``), or it was altered (``STATE_CHANGED``).
        StorageError: the disk refuses.
    """
    content = disk.read(state / NAME)
    if content is None:
        raise SealError(
            Reason.NOT_SEALED,
            f"{state} is not sealed to a device, as the settings ask; see `lydite gateway seal`",
        )
    try:
        return decode(content, Enrolment)
    except FormatError as error:
        raise SealError(Reason.STATE_CHANGED, f"{NAME} was altered: {error}") from error


def write(state: Path, enrolment: Enrolment) -> None:
    """Put an enrolment in its place, durably."""
    disk.place(state / NAME, encode(enrolment), durable=True)


def new_secret(tpm: Tpm) -> bytes:
    """Return 32 bytes that neither the system nor the TPM chose alone."""
    return hashlib.sha256(os.urandom(32) + tpm.random(32)).digest()


def seal(tpm: Tpm, device: Device, secret: bytes, measurement: bytes) -> Seal:
    """Seal ``secret`` for a gateway of this ``measurement``, on the platform as it is now."""
    values = platform(tpm, device) | {device.pcr: sealing.extended(bytes(32), measurement)}
    blob = sealing.seal(tpm, secret, values)
    return Seal(measurement=measurement.hex(), public=blob.public.hex(), private=blob.private.hex())


def unseal(tpm: Tpm, device: Device, enrolment: Enrolment, now: Measurement) -> bytes:
    """Measure the gateway into its register, unseal, and extend once more so that nobody else can.

    Raises:
        SealError: it does not open; the reason and message say what differs.
        DeviceError: the TPM does not answer, or refuses.
    """
    found = _choose(enrolment, now)
    _extend(tpm, device, now.digest())
    try:
        blob = Blob(bytes.fromhex(found.public), bytes.fromhex(found.private))
        pcrs = (*device.pcrs, device.pcr)
        return sealing.unseal(tpm, blob, tuple(sorted(set(pcrs))))
    except SealError as error:
        raise _explained(tpm, device, enrolment, now, error) from error
    finally:
        tpm.pcr_extend(device.pcr, _CAP)


def platform(tpm: Tpm, device: Device) -> dict[int, bytes]:
    """Return what the registers that others extend hold now."""
    return tpm.pcr_read([pcr for pcr in device.pcrs if pcr != device.pcr])


def spelt(registers: dict[int, bytes]) -> dict[str, str]:
    """Return registers and values as they are written down."""
    return {str(pcr): value.hex() for pcr, value in registers.items()}


def _choose(enrolment: Enrolment, now: Measurement) -> Seal:
    """Return the seal for this measurement; for another, any: the TPM is to refuse, not we."""
    digest = now.digest().hex()
    return next((s for s in enrolment.seals if s.measurement == digest), enrolment.seals[-1])


def _extend(tpm: Tpm, device: Device, measurement: bytes) -> None:
    if device.pcr in RESETTABLE:
        tpm.pcr_reset(device.pcr)
    elif tpm.pcr_read([device.pcr])[device.pcr] != bytes(32):
        raise SealError(
            Reason.ALREADY_USED,
            f"register {device.pcr} was extended since boot, and only a boot resets it: reboot",
        )
    tpm.pcr_extend(device.pcr, measurement)


def _explained(
    tpm: Tpm, device: Device, enrolment: Enrolment, now: Measurement, error: SealError
) -> SealError:
    """Return the error that says what differs, as far as the enrolment is to be believed."""
    if error.reason is Reason.OTHER_TPM:
        return error
    found: list[tuple[Reason, str]] = []
    files = differences(enrolment.seen.files, now.files)
    if files:
        more = f" and {len(files) - _TOLD} more" if len(files) > _TOLD else ""
        found.append((Reason.BINARY_CHANGED, f"program: {', '.join(files[:_TOLD])}{more}"))
    if enrolment.seen.settings != now.settings:
        found.append((Reason.SETTINGS_CHANGED, "settings, or the declaration that they name"))
    try:
        values = spelt(platform(tpm, device))
    except DeviceError:
        values = enrolment.registers
    changed = [pcr for pcr in values if values[pcr] != enrolment.registers.get(pcr)]
    if changed:
        found.append((Reason.PLATFORM_CHANGED, f"registers {', '.join(changed)}"))
    if not found:
        return SealError(error.reason, f"{error}; {NAME} does not tell which, or was altered")
    said = "; ".join(words for _, words in found)
    return SealError(found[0][0], f"the keys stay sealed, for these are not as sealed: {said}")
