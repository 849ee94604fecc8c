"""C2SP tlog-checkpoint v1.0.0: the signed head of a log.

Knows nothing of witnesses and quorums (``policy`` does), nor of where a checkpoint came from.
"""

import binascii
import re
from collections.abc import Collection

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.tlog.hashing import EMPTY_ROOT, HASH_BYTES
from lydite.tlog.verification import MAX_SIZE

_DECIMAL = re.compile(rb"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True):
    """A log's name, its number of entries and its root.

    ``extensions`` are lines that a log may add; they are signed and carried, and mean nothing
    here: no witness vouches for them, and our own log writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> bytes:
        """Return the note text, which is what gets signed."""
        lines = (self.origin, str(self.size), encode_hash(self.root), *self.extensions)
        return ("\n".join(lines) + "\n").encode()


class Opened(msgspec.Struct, frozen=True):
    """A checkpoint with verified signatures: the log's, and of the witnesses asked about."""

    checkpoint: Checkpoint
    verified: notes.Verified


def parse(text: bytes) -> Checkpoint:
    """Parse the text of a checkpoint, accepting only the spelling that we would write.

    Raises:
        FormatError: it is none.
    """
    if not text.endswith(b"\n"):
        raise FormatError("checkpoint: must end in a newline")
    lines = text[:-1].split(b"\n")
    if len(lines) < 3 or not all(lines):
        raise FormatError("checkpoint: expected origin, size and root, and no empty line")
    try:
        origin, *extensions = (line.decode() for line in (lines[0], *lines[3:]))
    except UnicodeDecodeError as error:
        raise FormatError("checkpoint: not valid UTF-8") from error
    size, root = parse_decimal(lines[1]), decode_hash(lines[2])
    return Checkpoint(origin=origin, size=size, root=root, extensions=tuple(extensions))


def sign(checkpoint: Checkpoint, signer: notes.Signer) -> notes.Note:
    """Sign ``checkpoint`` as its log: the key bears the name of the origin."""
    text = checkpoint.text()
    return notes.Note(text=text, signatures=(notes.sign(text, checkpoint.origin, signer),))


def open_note(
    note: notes.Note,
    logs: Collection[notes.VerifierKey],
    witnesses: Collection[notes.VerifierKey] = (),
) -> Opened:
    """Verify the checkpoint in ``note``.

    1. It names a log of which we hold a key; a log's key bears the name of its origin.
    2. Such a key signed it, and no signature by a key that we know is bad.
    3. The tree without leaves has the one root that it can have.

    Raises:
        FormatError: the note's text is no checkpoint.
        VerificationError: 1 (``WRONG_ORIGIN``), 2 (``BAD_SIGNATURE``, ``UNKNOWN_KEY``) or 3
            (``INCONSISTENT_LOG``) fails.

    **Does not show** that others are shown the same tree, nor that its extension lines are true.
    """
    checkpoint = parse(note.text)
    # 1.
    keys = [log for log in logs if log.name == checkpoint.origin]
    if not keys:
        raise VerificationError(
            Reason.WRONG_ORIGIN, f"checkpoint of {checkpoint.origin}, a log that we do not know"
        )
    # 2.
    verified = notes.verify(note, (*keys, *witnesses))
    if all(signed.key not in keys for signed in verified.signed):
        raise VerificationError(Reason.UNKNOWN_KEY, f"checkpoint: not signed by {keys[0].name}")
    # 3.
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise VerificationError(
            Reason.INCONSISTENT_LOG, "checkpoint: the tree without leaves has another root"
        )
    return Opened(checkpoint=checkpoint, verified=verified)


def parse_decimal(text: bytes) -> int:
    """Parse a size or index: ASCII digits, no leading zero, below 2**63.

    Raises:
        FormatError: it is spelt otherwise, or too large.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise FormatError("log: a number must be decimal, below 2**63, without leading zeros")
    return int(text)


def encode_hash(value: bytes) -> str:
    """Return a hash as it is written in checkpoints and proofs."""
    return binascii.b2a_base64(value, newline=False).decode()


def decode_hash(text: bytes) -> bytes:
    """Parse a hash: 32 bytes in base64, in the one spelling that we would write.

    Raises:
        FormatError: it is spelt otherwise, or has another length.
    """
    try:
        value = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise FormatError(f"log: a hash must be base64: {error}") from error
    if len(value) != HASH_BYTES or encode_hash(value).encode() != text:
        raise FormatError("log: a hash must be 32 bytes in canonical base64")
    return value
