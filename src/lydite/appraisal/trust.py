"""Trust anchors of a relying party: whose keys, which log, which witnesses, which references.

Comes from the relying party alone; nothing in a bundle can add to it.
"""

from typing import Literal

from lydite.errors import Reason, VerificationError
from lydite.messages.canonical import Hex32, Message, Word, decode
from lydite.messages.epoch import NoteText
from lydite.sampling import beacon
from lydite.sampling.beacon import Chain
from lydite.signing.dsse import KeyId, PublicKey, key_id
from lydite.tlog import policy
from lydite.tlog.policy import Policy as LogPolicy


class Anchor(Message, frozen=True, kw_only=True):
    """One provider behind one gateway with one log. Keys are Ed25519 in hexadecimal."""

    name: Word
    provider_key: Hex32
    gateway_key: Hex32
    vrf_key: Hex32
    log_vkey: Word

    @property
    def provider(self) -> KeyId:
        """The key id by which receipts name this provider."""
        return key_id(self.provider_public)

    @property
    def provider_public(self) -> PublicKey:
        """The provider's public key."""
        return PublicKey(bytes.fromhex(self.provider_key))

    @property
    def gateway_public(self) -> PublicKey:
        """The gateway's public key."""
        return PublicKey(bytes.fromhex(self.gateway_key))


class Trust(Message, frozen=True, kw_only=True):
    """Everything that a relying party believes before it reads a bundle.

    ``witnesses`` is a C2SP tlog-policy without its ``log`` line, ``policy`` and ``references``
    are digests of documents that the bundle has to bring in exactly that form.
    """

    v: Literal[1] = 1
    policy: Hex32
    references: tuple[Hex32, ...]
    auditors: tuple[Hex32, ...]
    beacon: Chain
    witnesses: NoteText
    providers: tuple[Anchor, ...]

    def auditor_keys(self) -> dict[KeyId, PublicKey]:
        """Return the accepted auditors' keys by id."""
        keys = [PublicKey(bytes.fromhex(key)) for key in self.auditors]
        return {key_id(key): key for key in keys}

    def anchor(self, provider: str) -> Anchor:
        """Return the anchor of the provider with this key id.

        Raises:
            VerificationError: this relying party knows no such provider.
        """
        for anchor in self.providers:
            if anchor.provider == provider:
                return anchor
        raise VerificationError(Reason.UNKNOWN_KEY, f"no trust anchor for provider {provider}")

    def log_policy(self, anchor: Anchor) -> LogPolicy:
        """Return the tlog-policy for one provider's log: its key, and the common witnesses."""
        return policy.parse(f"log {anchor.log_vkey}\n{self.witnesses}".encode())


def parse(payload: bytes) -> Trust:
    """Parse a trust file, at most 1 MiB, in its one spelling."""
    return decode(payload, Trust, limit=1 << 20)


def of_anchor(anchor: Anchor) -> Trust:
    """Return what trusting one provider's anchor, and nothing else, comes to.

    Enough for receipts: there are no witnesses, no auditors and no references, so that no bundle
    will stand under it.
    """
    return Trust(
        policy="0" * 64,
        references=(),
        auditors=(),
        beacon=beacon.QUICKNET,
        witnesses="quorum none\n",
        providers=(anchor,),
    )
