"""Seals 32 bytes to the values of platform registers, below the TPM's own storage key.

Decides nothing about what the registers should hold.
"""

import hashlib

from lydite.errors import DeviceError, Reason, SealError
from lydite.tpm import objects
from lydite.tpm.codec import pcr_selection, u32
from lydite.tpm.commands import Tpm
from lydite.tpm.objects import Blob

_POLICY_PCR = 0x17F
_INTEGRITY, _VALUE, _POLICY_FAIL = 0x9F, 0x84, 0x9D


def policy_of(values: dict[int, bytes]) -> bytes:
    """Return the digest of the policy that registers hold these values, as the TPM computes it."""
    pcrs = tuple(sorted(values))
    digest = hashlib.sha256(b"".join(values[pcr] for pcr in pcrs)).digest()
    step = bytes(32) + u32(_POLICY_PCR) + pcr_selection(pcrs) + digest
    return hashlib.sha256(step).digest()


def extended(value: bytes, *digests: bytes) -> bytes:
    """Return what a register holds after it was extended by each of ``digests``."""
    for digest in digests:
        value = hashlib.sha256(value + digest).digest()
    return value


def seal(tpm: Tpm, secret: bytes, values: dict[int, bytes]) -> Blob:
    """Seal ``secret`` so that it opens where registers hold these values, on this TPM only."""
    parent = objects.create_primary(tpm)
    with tpm.loaded(parent.handle.number):
        return objects.create_sealed(tpm, parent, secret, policy_of(values))


def unseal(tpm: Tpm, blob: Blob, pcrs: tuple[int, ...]) -> bytes:
    """Return what was sealed.

    Raises:
        SealError: another TPM's, or altered (``OTHER_TPM``); or the registers hold other values
            than it was sealed to (``PLATFORM_CHANGED``).
        DeviceError: anything else that a TPM may refuse.
    """
    parent = objects.create_primary(tpm)
    with tpm.loaded(parent.handle.number):
        try:
            sealed = objects.load(tpm, parent, blob)
        except DeviceError as error:
            if error.reason is Reason.TPM_REFUSED:
                raise SealError(
                    Reason.OTHER_TPM, f"the sealed secret is another TPM's, or altered: {error}"
                ) from error
            raise
        with tpm.loaded(sealed.number), tpm.policy_session(parent) as session:
            tpm.policy_pcr(session, tuple(sorted(pcrs)))
            try:
                return objects.unseal(tpm, sealed, session)
            except DeviceError as error:
                if error.code & 0xBF == _POLICY_FAIL:
                    raise SealError(
                        Reason.PLATFORM_CHANGED, "the TPM's registers are not as when it was sealed"
                    ) from error
                raise
