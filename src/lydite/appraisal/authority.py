"""Who may tell a gateway to do what: keys, and for each action how many of which have to agree.

The gateway asks this before it does anything; whoever reads its log may ask again. Pure: the time
is an argument. Knows nothing of what an action does.
"""

import hashlib
from collections.abc import Collection
from typing import Annotated, NamedTuple

import msgspec

from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError
from lydite.messages import instruction, receipt
from lydite.messages.canonical import Hex32, Word, decode
from lydite.messages.instruction import Action, Instruction
from lydite.signing.dsse import (
    Envelope,
    KeyId,
    PublicKey,
    key_id,
    open_envelope,
)

_MAX_ENVELOPE_BYTES = 1 << 19


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``threshold`` of these ``officers`` together may order each of these ``actions``."""

    actions: tuple[Action, ...]
    officers: tuple[Word, ...]
    threshold: Annotated[int, msgspec.Meta(gt=0, le=8)]


class Authority(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The officers' keys by name, Ed25519 in hexadecimal, and what is granted to them.

    An action in no grant cannot be ordered. ``validity_s`` bounds how long an instruction may be
    good for, ``skew_s`` how far an officer's clock may be ahead of the gateway's.
    """

    officers: dict[Word, Hex32]
    grants: tuple[Grant, ...]
    validity_s: Annotated[int, msgspec.Meta(gt=0, le=30 * 86_400)] = 86_400
    skew_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 60

    def keys(self) -> dict[KeyId, PublicKey]:
        """Return every officer's key by its id."""
        raw = [PublicKey(bytes.fromhex(key)) for key in self.officers.values()]
        return {key_id(key): key for key in raw}


class Ordered(NamedTuple):
    """An instruction that is signed by officers, and who signed it, by name in order."""

    statement: bytes
    instruction: Instruction
    signers: tuple[str, ...]


def check(authority: Authority) -> None:
    """Refuse an authority under which something could be done that nobody meant.

    Raises:
        ConfigurationError: two names for one key, a grant to nobody, a threshold that cannot be
            reached, or an action granted twice.
    """
    if len(set(authority.officers.values())) != len(authority.officers):
        raise ConfigurationError("authority: one key under two names could agree with itself")
    for grant in authority.grants:
        unknown = set(grant.officers) - set(authority.officers)
        if unknown:
            raise ConfigurationError(f"authority: no officer is named {min(unknown)}")
        if len(set(grant.officers)) < max(grant.threshold, len(grant.officers)):
            raise ConfigurationError(
                f"authority: {len(set(grant.officers))} officers cannot be {grant.threshold} of "
                f"{len(grant.officers)}"
            )
        if not grant.actions:
            raise ConfigurationError("authority: a grant without an action")


def identify(envelope: bytes, authority: Authority, origin: str, gateway: KeyId) -> Ordered:
    """Open an instruction for one gateway, and say who signed it.

    1. It is in its one spelling, within 512 KiB, and every signature is an officer's and good.
    2. It is for this gateway and this log.

    Raises:
        FormatError, VerificationError: a step fails.

    **Does not show** that those who signed may order it: ``authorise`` does.
    """
    # 1.
    if len(envelope) > _MAX_ENVELOPE_BYTES:
        raise FormatError("an instruction of more than 512 KiB", Reason.TOO_LARGE)
    keys = authority.keys()
    statement = open_envelope(envelope, keys, ())
    ordered = instruction.parse(statement)
    # 2.
    named = hashlib.sha256(origin.encode()).hexdigest()
    if ordered.predicate.gateway != gateway or ordered.subject[0].digest.sha256 != named:
        raise VerificationError(
            Reason.WRONG_ORIGIN, f"an instruction for gateway {ordered.predicate.gateway}"
        )
    names = {
        key_id(PublicKey(bytes.fromhex(key))): name for name, key in authority.officers.items()
    }
    signatures = decode(envelope, Envelope).signatures
    signers = sorted(names[KeyId(each.keyid)] for each in signatures)
    return Ordered(statement, ordered, tuple(signers))


def authorise(ordered: Ordered, authority: Authority, now_ms: int, used: Collection[str]) -> None:
    """Decide whether an instruction may be carried out now.

    1. It is not from the future, not over, and not good for longer than it may be.
    2. Its nonce is not among those ``used``.
    3. Some grant names its action, and enough of that grant's officers signed.

    Raises:
        VerificationError: a step fails.

    **Does not show** that carrying it out is wise, nor who holds the officers' keys.
    """
    said = ordered.instruction.predicate
    # 1.
    issued, expires = receipt.unix_ms(said.issued), receipt.unix_ms(said.expires)
    if issued > now_ms + authority.skew_s * 1000:
        raise VerificationError(Reason.STALE, f"issued in the future, at {said.issued}")
    if now_ms >= expires:
        raise VerificationError(Reason.STALE, f"expired at {said.expires}")
    if expires - issued > authority.validity_s * 1000:
        raise VerificationError(
            Reason.STALE, f"good for longer than the {authority.validity_s} s that are allowed"
        )
    # 2.
    if said.nonce in used:
        raise VerificationError(Reason.REPLAYED, "this instruction was given before")
    # 3.
    error = shortfall(ordered, authority)
    if error is not None:
        raise error


def shortfall(ordered: Ordered, authority: Authority) -> VerificationError | None:
    """Return why those who signed may not order this, None if they may."""
    action = ordered.instruction.predicate.action
    grants = [grant for grant in authority.grants if action in grant.actions]
    if not grants:
        return VerificationError(Reason.NOT_GRANTED, f"nobody may order {action}")
    if any(len(set(each.officers) & set(ordered.signers)) >= each.threshold for each in grants):
        return None
    least = min(grants, key=lambda grant: grant.threshold)
    return VerificationError(
        Reason.TOO_FEW_OFFICERS,
        f"{action} takes {least.threshold} of {', '.join(least.officers)}; signed by "
        f"{', '.join(ordered.signers)}",
    )
