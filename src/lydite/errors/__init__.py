"""Every exception that lydite raises; each carries a reason that is published.

Knows nothing of what failed.
"""

from lydite.errors.reason import Reason

__all__ = [
    "ConfigurationError",
    "DeviceError",
    "FormatError",
    "LyditeError",
    "Reason",
    "Refusal",
    "SealError",
    "StorageError",
    "UnavailableError",
    "VerificationError",
]


class LyditeError(Exception):
    """Base of everything that lydite raises on purpose; carries a published reason."""

    reason: Reason = Reason.CONFIGURATION

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class FormatError(LyditeError):
    """Bytes that are not in the form that we would write: nothing was learnt from them."""

    reason = Reason.MALFORMED


class VerificationError(LyditeError):
    """Evidence that is well formed and false: a signature, a proof or a claim fails."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, reason)


class Refusal(VerificationError):  # noqa: N818
    """Evidence of a machine that is refused: at which register or entry, and got what instead."""

    def __init__(self, reason: Reason, where: str, expected: str = "", got: str = "") -> None:
        told = f": expected {expected}, got {got}" if expected else f": {got}" if got else ""
        super().__init__(reason, where + told)
        self.where, self.expected, self.got = where, expected, got


class UnavailableError(LyditeError):
    """Evidence, or what is needed to check it, could not be had: nothing was learnt."""

    reason = Reason.UNAVAILABLE


class ConfigurationError(LyditeError):
    """A setting, path or argument that cannot be used; the message says what to do."""

    reason = Reason.CONFIGURATION


class StorageError(LyditeError):
    """The disk refused a write; nothing that depends on it was handed out."""

    reason = Reason.DISK_FULL


class DeviceError(LyditeError):
    """A TPM did not answer, or refused a command with the response ``code`` (0: no answer)."""

    reason = Reason.TPM_UNAVAILABLE

    def __init__(self, message: str, reason: Reason | None = None, code: int = 0) -> None:
        super().__init__(message, reason)
        self.code = code


class SealError(LyditeError):
    """What is sealed to a machine does not open here and now; the message says what differs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, reason)
