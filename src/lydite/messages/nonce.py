"""What evidence about a machine has to be signed over, so that it is fresh and made for us.

One nonce of 32 bytes covers a challenge of the verifier's and what the evidence is good for: the
key of the connection or log, the digest of the model manifest, the session. Time and randomness
are arguments. Knows nothing of who signs, or of how.
"""

import base64
import hashlib
import hmac

from lydite.errors import ConfigurationError, Reason, Refusal
from lydite.messages.canonical import Count, Hex, Hex32, Message

NONCE_BYTES = 32


class Binding(Message, frozen=True, kw_only=True):
    """What evidence is made for; each part is empty where there is nothing to be bound to."""

    challenge: Hex32
    """Random, by the verifier."""
    key: Hex = ""
    """Digest of a TLS key, or of a log's checkpoint and key."""
    model: Hex = ""
    """Digest of the model manifest."""
    session: Hex = ""


class Issued(Message, frozen=True, kw_only=True):
    """A challenge as the verifier remembers it."""

    binding: Binding
    issued_s: Count
    lifetime_s: Count = 300


def nonce(label: str, binding: Binding) -> bytes:
    """Return what evidence of the kind ``label`` is signed over for ``binding``."""
    parts = (label.encode(), *map(bytes.fromhex, _parts(binding)))
    return hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()


def check(label: str, signed: bytes, claimed: Binding, issued: Issued, now_s: int) -> None:
    """Check that ``signed`` answers the challenge that was issued, in time and for its purpose.

    Raises:
        Refusal: one of the family ``fresh``, with what was expected.
    """
    wanted = nonce(label, issued.binding)
    if not hmac.compare_digest(signed, wanted):
        raise _difference(label, signed, wanted, claimed, issued.binding)
    if claimed != issued.binding:
        raise Refusal(Reason.FRESH_ECHO_UNBOUND, "binding", got="names what was not signed")
    if now_s < issued.issued_s or now_s - issued.issued_s > issued.lifetime_s:
        age = f"{now_s - issued.issued_s} s"
        raise Refusal(Reason.FRESH_EXPIRED, "challenge", f"at most {issued.lifetime_s} s", age)


def _difference(
    label: str, signed: bytes, wanted: bytes, claimed: Binding, asked: Binding
) -> Refusal:
    """Return why ``signed`` is not ``wanted``, as precisely as the claims allow."""
    expected, got = wanted.hex(), signed.hex() or "nothing"
    if not signed:
        return Refusal(Reason.FRESH_EMPTY, "nonce", expected, got)
    if wanted.startswith(signed):
        return Refusal(Reason.FRESH_PREFIX, "nonce", expected, got)
    if signed.lower() in (wanted.hex().encode(), base64.b64encode(wanted).lower()):
        return Refusal(Reason.FRESH_ENCODING, "nonce", expected, got)
    if not hmac.compare_digest(nonce(label, claimed), signed):
        echoed = claimed == asked
        reason = Reason.FRESH_ECHO_UNBOUND if echoed else Reason.FRESH_REPLAYED
        return Refusal(reason, "nonce", expected, got)
    for name, reason in _PURPOSES:
        if getattr(claimed, name) != getattr(asked, name):
            wants, has = getattr(asked, name), getattr(claimed, name)
            return Refusal(reason, name, wants or "none", has or "none")
    return Refusal(Reason.FRESH_REPLAYED, "nonce", expected, got)


_PURPOSES = (
    ("challenge", Reason.FRESH_REPLAYED),
    ("key", Reason.FRESH_OTHER_KEY),
    ("model", Reason.FRESH_OTHER_MODEL),
    ("session", Reason.FRESH_OTHER_SESSION),
)


def _parts(binding: Binding) -> tuple[str, ...]:
    return (binding.challenge, binding.key, binding.model, binding.session)


class Challenges:
    """The challenges that a verifier waits for; each is answered once, and none for ever."""

    def __init__(self, most: int = 10_000) -> None:
        self._waiting: dict[str, Issued] = {}
        self._answered: dict[str, int] = {}
        self._most = most

    def issue(self, issued: Issued) -> None:
        """Remember a challenge.

        Raises:
            ConfigurationError: it was issued before, or too many wait.
        """
        name = issued.binding.challenge
        self._forget(issued.issued_s)
        if name in self._waiting or name in self._answered:
            raise ConfigurationError("a challenge is issued once")
        if len(self._waiting) >= self._most:
            raise ConfigurationError(f"{self._most} challenges wait already", Reason.OVERLOADED)
        self._waiting[name] = issued

    def consume(self, claimed: Binding, now_s: int) -> Issued:
        """Return the challenge that evidence claims to answer, which nothing else answers later.

        Raises:
            Refusal: it was answered before (``fresh.reused``), is over (``fresh.expired``), or
                never was (``fresh.replayed``).
        """
        name = claimed.challenge
        if name in self._answered:
            raise Refusal(Reason.FRESH_REUSED, "challenge", got=name)
        issued = self._waiting.pop(name, None)
        if issued is None:
            raise Refusal(Reason.FRESH_REPLAYED, "challenge", got=f"{name}, which nobody issued")
        self._answered[name] = issued.issued_s + issued.lifetime_s
        if now_s > issued.issued_s + issued.lifetime_s:
            raise Refusal(Reason.FRESH_EXPIRED, "challenge", got=name)
        return issued

    def _forget(self, now_s: int) -> None:
        """Drop what is over; its nonce would be refused as expired, or as never issued."""
        self._answered = {n: end for n, end in self._answered.items() if end >= now_s}
        self._waiting = {
            n: each for n, each in self._waiting.items() if each.issued_s + each.lifetime_s >= now_s
        }
