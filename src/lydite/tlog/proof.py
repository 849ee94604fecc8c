"""C2SP tlog-proof v1: one file that shows, offline, that an entry is in a witnessed log.

Knows nothing of what the entry means, nor whom to trust: the policy is an argument.
"""

import binascii

import msgspec

from lydite.errors import FormatError, Reason
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy as policies
from lydite.tlog import verification

MAX_HASHES = 63
"""Longest path: a tree has fewer than 2**63 leaves."""
MAX_EXTRA_BYTES = 1 << 16
"""Longest extra data."""
MAX_PROOF_BYTES = notes.MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES
"""Longest file that is looked at."""

_HEADER = b"c2sp.org/tlog-proof@v1"


class Proof(msgspec.Struct, frozen=True):
    """An index, the path of its leaf, and the checkpoint that the path leads to.

    ``extra`` is carried for applications and authenticated by nobody.
    """

    index: int
    path: tuple[bytes, ...]
    note: notes.Note
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the file's bytes."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(b"extra " + binascii.b2a_base64(self.extra, newline=False))
        lines.append(b"index %d" % self.index)
        lines += [checkpoints.encode_hash(each).encode() for each in self.path]
        return b"\n".join(lines) + b"\n\n" + self.note.encode()


def parse(text: bytes) -> Proof:
    """Parse a proof file, accepting only the spelling that we would write.

    Raises:
        FormatError: it is none; sizes are bounded before anything is decoded.
    """
    if len(text) > MAX_PROOF_BYTES:
        raise FormatError(f"proof: more than {MAX_PROOF_BYTES} bytes", Reason.TOO_LARGE)
    head, gap, note = text.partition(b"\n\n")
    header, *lines = head.split(b"\n")
    if not gap or header != _HEADER:
        raise FormatError("proof: expected c2sp.org/tlog-proof@v1 and a checkpoint")
    extra = None
    if lines and lines[0].startswith(b"extra "):
        extra = _extra(lines.pop(0).removeprefix(b"extra "))
    if not lines or not lines[0].startswith(b"index "):
        raise FormatError("proof: expected an index line")
    index = checkpoints.parse_decimal(lines[0].removeprefix(b"index "))
    if len(lines) - 1 > MAX_HASHES:
        raise FormatError(f"proof: more than {MAX_HASHES} hashes", Reason.TOO_LARGE)
    path = tuple(checkpoints.decode_hash(line) for line in lines[1:])
    return Proof(index=index, path=path, note=notes.parse(note), extra=extra)


def verify(proof: Proof, leaf: bytes, policy: policies.Policy) -> policies.Accepted:
    """Check that the leaf with hash ``leaf`` is in a log, at ``proof.index``, as ``policy`` asks.

    1. The checkpoint satisfies the policy.
    2. The index lies in it, and the path leads from the leaf to its root.

    Raises:
        FormatError: the note holds no checkpoint, or the index is not in it.
        VerificationError: 1 (see ``policy.accept``) or 2 (``NOT_IN_LOG``) fails.

    **Does not show** what the entry says, when it was made (only by when it was logged), or that
    ``proof.extra`` is true.
    """
    # 1.
    accepted = policies.accept(proof.note, policy)
    # 2.
    head = accepted.checkpoint
    verification.inclusion(leaf, proof.index, head.size, proof.path, head.root)
    return accepted


def _extra(text: bytes) -> bytes:
    try:
        extra = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise FormatError(f"proof: extra is not base64: {error}") from error
    if len(extra) > MAX_EXTRA_BYTES:
        raise FormatError(f"proof: more than {MAX_EXTRA_BYTES} extra bytes", Reason.TOO_LARGE)
    if binascii.b2a_base64(extra, newline=False) != text:
        raise FormatError("proof: extra is not in canonical form", Reason.NOT_CANONICAL)
    return extra
