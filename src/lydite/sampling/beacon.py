"""Public randomness: which round was due when, and whether a round is genuine.

Two kinds of chain: drand, whose rounds a threshold of independent parties signs, and a local one
for development, which whoever holds its key predicts and which says so (``describe``). A chain is a
trust anchor: it comes from the relying party, never from the evidence.

Fetches nothing and reads no clock.
"""

import enum
from hashlib import sha256
from typing import NamedTuple

import msgspec
from nacl import bindings, exceptions

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages.canonical import Count, Hex, Message, Word
from lydite.messages.epoch import BeaconRound

_LAST_ROUND = 2**64 - 1
_GENESIS_SEED_BYTES = 32
_LOCAL_TAG = b"lydite/local-beacon/v1"
_TAG_G1 = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_TAG_G2 = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_"


class Scheme(enum.StrEnum):
    """How a chain signs its rounds; drand's names for drand's."""

    CHAINED = "pedersen-bls-chained"
    """Long signatures over the round and the signature before it."""
    UNCHAINED = "pedersen-bls-unchained"
    """Long signatures over the round alone."""
    UNCHAINED_ON_G1 = "bls-unchained-on-g1"
    """Short signatures, hashed under the tag of the long ones: an early mistake, kept."""
    UNCHAINED_G1_RFC9380 = "bls-unchained-g1-rfc9380"
    """Short signatures, hashed as RFC 9380 says; quicknet."""
    LOCAL_DEV = "lydite-local-ed25519-dev"
    """One Ed25519 key. For development: whoever holds the key knows every round to come."""


class _Bls(NamedTuple):
    """What tells one of drand's schemes from another."""

    tag: bytes
    short: bool


_BLS = {
    Scheme.CHAINED: _Bls(_TAG_G2, short=False),
    Scheme.UNCHAINED: _Bls(_TAG_G2, short=False),
    Scheme.UNCHAINED_ON_G1: _Bls(_TAG_G2, short=True),
    Scheme.UNCHAINED_G1_RFC9380: _Bls(_TAG_G1, short=True),
}


class Chain(Message, frozen=True, kw_only=True):
    """Where randomness comes from: enough to check any round and to say when each was due.

    Part of a relying party's trust file, hence with its key in hexadecimal as drand publishes it.
    """

    name: Word
    scheme: Scheme
    public_key: Hex
    genesis_time_s: Count
    """When round 1 was due, in Unix seconds."""
    period_s: Count
    """Seconds from one round to the next, at least 1."""

    def __post_init__(self) -> None:
        """Refuse a schedule that answers no question, and a key that is no hexadecimal."""
        if self.period_s < 1 or self.genesis_time_s < 0:
            raise FormatError(f"beacon chain {self.name}: period or genesis time out of range")
        try:
            bytes.fromhex(self.public_key)
        except ValueError as error:
            raise FormatError(f"beacon chain {self.name}: the key is no hexadecimal") from error

    @property
    def key(self) -> bytes:
        """The bytes of the public key."""
        return bytes.fromhex(self.public_key)


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a chain published: signature, randomness, and what came before if the scheme chains."""

    number: int
    """1 for the first."""
    signature: bytes
    previous_signature: bytes | None = None
    randomness: bytes
    """SHA-256 of the signature; redundant, and therefore checked."""


LEAGUE_OF_ENTROPY = Chain(
    name="drand/default",
    scheme=Scheme.CHAINED,
    public_key="868f005eb8e6e4ca0a47c8a77ceaa5309a47978a7c71bc5cce96366b5d7a5699"
    "37c529eeda66c7293784a9402801af31",
    genesis_time_s=1595431050,
    period_s=30,
)
"""drand's first public chain, 8990e7a9aaed2ffed73dbd7092123d6f289930540d7651336225dc172e51b2ce."""

QUICKNET = Chain(
    name="drand/quicknet",
    scheme=Scheme.UNCHAINED_G1_RFC9380,
    public_key="83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c"
    "8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb"
    "5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
    genesis_time_s=1692803367,
    period_s=3,
)
"""drand's quick chain, 52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971."""


def describe(chain: Chain) -> str:
    """Say in one sentence, for a person, what trusting ``chain`` means."""
    if chain.scheme is Scheme.LOCAL_DEV:
        return (
            f"{chain.name} is a local development beacon: whoever holds its key can predict every "
            "round, so a draw by it convinces nobody else"
        )
    return (
        f"{chain.name} is a drand beacon, a round every {chain.period_s} s: unpredictable unless "
        "a threshold of its members colludes"
    )


def due_s(chain: Chain, number: int) -> int:
    """Return when round ``number``, at least 1, is due, in Unix seconds."""
    return chain.genesis_time_s + (number - 1) * chain.period_s


def round_at(chain: Chain, time_s: int) -> int:
    """Return the newest round due at ``time_s``, in Unix seconds; 0 before the first."""
    return max(0, (time_s - chain.genesis_time_s) // chain.period_s + 1)


def first_round_after(chain: Chain, time_s: int) -> int:
    """Return the first round due strictly later than ``time_s``, in Unix seconds."""
    return round_at(chain, time_s) + 1


def local_message(number: int) -> bytes:
    """Return what the key of a local chain signs for round ``number``."""
    return _LOCAL_TAG + number.to_bytes(8)


def local_round(number: int, signature: bytes) -> Round:
    """Return the round that the 64-byte Ed25519 ``signature`` of ``local_message`` makes."""
    return Round(number=number, signature=signature, randomness=sha256(signature).digest())


def to_record(chain: Chain, beacon: Round) -> BeaconRound:
    """Return ``beacon`` as an epoch records it: in hexadecimal, beside its chain's name."""
    previous = beacon.previous_signature
    return BeaconRound(
        chain=chain.name,
        round=beacon.number,
        signature=beacon.signature.hex(),
        previous_signature=None if previous is None else previous.hex(),
        randomness=beacon.randomness.hex(),
    )


def from_record(chain: Chain, record: BeaconRound) -> Round:
    """Return the round that an epoch records, not yet verified.

    Raises:
        VerificationError: BAD_BEACON, the record names another chain.
    """
    if record.chain != chain.name:
        raise _refused(f"the epoch names {record.chain}, the relying party {chain.name}")
    previous = record.previous_signature
    return Round(
        number=record.round,
        signature=bytes.fromhex(record.signature),
        previous_signature=None if previous is None else bytes.fromhex(previous),
        randomness=bytes.fromhex(record.randomness),
    )


def verify(chain: Chain, beacon: Round) -> bytes:
    """Return the 32 bytes of randomness of a genuine round of ``chain``.

    1. The number is that of a round: 1 to 2^64 - 1.
    2. The previous signature is there if and only if the scheme chains; before round 1 stands the
       chain's 32-byte seed instead of a signature.
    3. The randomness is the SHA-256 of the signature.
    4. The chain's key signed this number, after that signature.

    Raises:
        VerificationError: BAD_BEACON, with the step that failed.

    **Does not show** that this is the round that was due (``schedule`` does), nor that nobody knew
    it earlier: that rests on whoever holds the chain's key, see ``describe``.
    """
    # 1.
    if not 1 <= beacon.number <= _LAST_ROUND:
        raise _refused(f"there is no round {beacon.number}")
    # 2.
    previous = _previous(chain.scheme, beacon)
    # 3. Cheap, and a signature that is right beside randomness that is not would pass step 4.
    if sha256(beacon.signature).digest() != beacon.randomness:
        raise _refused("the randomness is not the hash of the signature")
    # 4.
    if chain.scheme is Scheme.LOCAL_DEV:
        _verify_local(chain, beacon)
    else:
        _verify_drand(chain, beacon, previous)
    return beacon.randomness


def _refused(message: str) -> VerificationError:
    return VerificationError(Reason.BAD_BEACON, f"beacon: {message}")


def _previous(scheme: Scheme, beacon: Round) -> bytes:
    """Return what was signed before the round number: nothing, unless ``scheme`` chains."""
    if scheme is not Scheme.CHAINED:
        if beacon.previous_signature is not None:
            raise _refused(f"{scheme} has no previous signature, this round brings one")
        return b""
    if beacon.previous_signature is None:
        raise _refused(f"{scheme} needs the previous signature")
    expected = _GENESIS_SEED_BYTES if beacon.number == 1 else len(beacon.signature)
    if len(beacon.previous_signature) != expected:
        raise _refused(f"before round {beacon.number} stand {expected} bytes")
    return beacon.previous_signature


def _verify_local(chain: Chain, beacon: Round) -> None:
    # libsodium takes lengths on trust.
    if len(chain.key) != bindings.crypto_sign_PUBLICKEYBYTES:
        raise _refused("the key of a local chain has 32 bytes")
    if len(beacon.signature) != bindings.crypto_sign_BYTES:
        raise _refused("the signature of a local round has 64 bytes")
    try:
        bindings.crypto_sign_open(beacon.signature + local_message(beacon.number), chain.key)
    except exceptions.CryptoError as error:
        raise _refused("the local key did not sign this round") from error


def _verify_drand(chain: Chain, beacon: Round, previous: bytes) -> None:
    # Here and not above: the tables of the curve take half a second to build, and who checks a
    # local round needs none of them.
    from lydite.sampling import bls

    scheme = _BLS[chain.scheme]
    message = sha256(previous + beacon.number.to_bytes(8)).digest()
    bls.verify(chain.key, message, beacon.signature, scheme.tag, short=scheme.short)
