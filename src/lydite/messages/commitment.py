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
_SHORT_BYTES = 16 * 1024


def request_hasher(salt: Salt, path: bytes) -> "hashlib._Hash":
    """Return a SHA-256 object that wants only the exact body bytes of the request."""
    return hashlib.sha256(_request_prefix(salt, path))


def response_hasher(salt: Salt) -> "hashlib._Hash":
    """Return a SHA-256 object that wants only the exact body bytes of the response."""
    return hashlib.sha256(_RESPONSE + _checked(salt))


def commit_request(salt: Salt, path: bytes, body: bytes) -> RequestCommitment:
    """Commit to the request target ``path`` and the exact ``body`` bytes, 32 bytes."""
    return RequestCommitment(_digest(_request_prefix(salt, path), body))


def commit_response(salt: Salt, body: bytes) -> ResponseCommitment:
    """Commit to the exact bytes that the client received, less the gateway's comment line."""
    return ResponseCommitment(_digest(_RESPONSE + _checked(salt), body))


def sampling_seed(salt: Salt, commitment: RequestCommitment) -> int:
    """Return the seed, in [0, 2^63), that the provider has to sample this answer with."""
    digest = hashlib.sha256(_SEED + _checked(salt) + commitment).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def _request_prefix(salt: Salt, path: bytes) -> bytes:
    return _REQUEST + _checked(salt) + len(path).to_bytes(8, "big") + path


def _digest(prefix: bytes, body: bytes) -> bytes:
    """Return SHA-256 of both; a short body is cheaper to copy than to hand over by itself."""
    if len(body) <= _SHORT_BYTES:
        return hashlib.sha256(prefix + body).digest()
    hasher = hashlib.sha256(prefix)
    hasher.update(body)
    return hasher.digest()


def _checked(salt: Salt) -> bytes:
    if len(salt) != 32:
        raise FormatError(f"salt has {len(salt)} bytes, expected 32")
    return salt
