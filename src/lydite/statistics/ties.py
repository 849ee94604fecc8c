"""Uniform numbers that break ties: nobody chooses them, and anybody derives them again.

Knows nothing of what is tied. **Who may know the digest matters**: to honest providers the numbers
are fair if the digest was fixed by nobody who profits, so take one that follows from public
randomness (a draw's proof, a receipt's projection key), not one that a verifier could try again.
"""

import hashlib

from lydite.errors import FormatError

_LABEL = b"lydite/tie/v1\0"
_BITS = 52


def uniform(purpose: str, digest: bytes, position: int = 0) -> float:
    """Return a number strictly between 0 and 1 that ``digest`` determines.

    ``U = (h + 1/2) / 2^52``, h the first 52 bits of SHA-256 over
    ``"lydite/tie/v1" || 0 || purpose || 0 || digest || u64be position``.
    Never 0 or 1, so that no p-value made with it is 0.

    Raises:
        FormatError: not a digest of 32 bytes, a purpose that is not plain ASCII, or a position
            outside of 64 bits.
    """
    if len(digest) != hashlib.sha256().digest_size:
        raise FormatError(f"ties are broken by a digest of 32 bytes, not {len(digest)}")
    if not purpose.isascii() or "\0" in purpose or not 0 <= position < 1 << 64:
        raise FormatError("ties need a plain purpose and a position of 64 bits")
    material = _LABEL + purpose.encode() + b"\0" + digest + position.to_bytes(8, "big")
    word = int.from_bytes(hashlib.sha256(material).digest()[:8], "big")
    return ((word >> (64 - _BITS)) + 0.5) / (1 << _BITS)
