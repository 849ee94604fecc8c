"""Salted commitments to one request and its answer, and the seed that follows from them.

Digests of short prompts can be guessed, so each commitment takes a fresh 32-byte salt that the
gateway draws and only client, gateway and auditor see. Knows nothing of HTTP beyond raw bytes.
"""

import hashlib
from typing import NewType

from lydite.errors import FormatError

Salt = NewType("Salt", bytes)
RequestCommitment = NewType("RequestCommitment", bytes)
ResponseCommitment = NewType("ResponseCommitment", bytes)

_REQUEST = b"lydite/request/v1\x00"
_RESPONSE = b"lydite/response/v1\x00"
_SEED = b"lydite/seed/v1\x00"


def request_hasher(salt: Salt, path: bytes) -> "hashlib._Hash":
    """Return a SHA-256 object that wants only the exact body bytes of the request."""
    return hashlib.sha256(_REQUEST + _checked(salt) + len(path).to_bytes(8, "big") + path)


def response_hasher(salt: Salt) -> "hashlib._Hash":
    """Return a SHA-256 object that wants only the exact body bytes of the response."""
    return hashlib.sha256(_RESPONSE + _checked(salt))


def commit_request(salt: Salt, path: bytes, body: bytes) -> RequestCommitment:
    """Commit to the request target ``path`` and the exact ``body`` bytes, 32 bytes."""
    hasher = request_hasher(salt, path)
    hasher.update(body)
    return RequestCommitment(hasher.digest())


def commit_response(salt: Salt, body: bytes) -> ResponseCommitment:
    """Commit to the exact bytes that the client received, less the gateway's comment line."""
    hasher = response_hasher(salt)
    hasher.update(body)
    return ResponseCommitment(hasher.digest())


def sampling_seed(salt: Salt, commitment: RequestCommitment) -> int:
    """Return the seed, in [0, 2^63), that the provider has to sample this answer with."""
    digest = hashlib.sha256(_SEED + _checked(salt) + commitment).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def _checked(salt: Salt) -> bytes:
    if len(salt) != 32:
        raise FormatError(f"salt has {len(salt)} bytes, expected 32")
    return salt
