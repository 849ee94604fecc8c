"""C2SP signed notes (c2sp.org/signed-note v1.0.0, c2sp.org/tlog-cosignature v1.0.1).

Two kinds of signature: Ed25519 over the text (0x01), and Ed25519 over the text and a time (0x04).
Knows nothing of what a text says, nor whom to trust: keys and times are arguments, and a private
key is whatever can sign.
"""

import binascii
import enum
import hashlib
from collections.abc import Collection, Iterable
from typing import Protocol

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from lydite.errors import FormatError, Reason, VerificationError

MAX_NOTE_BYTES = 1 << 17
"""Longest note that is looked at: room for 16 post-quantum signatures of other people's keys."""
MAX_SIGNATURES = 64
"""Most signature lines in a note; the specification asks for at least 16."""
MAX_TIME_S = (1 << 63) - 1
"""Latest time of a cosignature (POSIX seconds)."""

_DASH = "— "
_KEY_BYTES = 32
_ID_BYTES = 4
_TIME_BYTES = 8
_SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Whatever signs with Ed25519; ``lydite.signing.keys.Signer`` is one."""

    @property
    def public(self) -> bytes:
        """Return the public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""


class Kind(enum.IntEnum):
    """The signature type identifier byte of a verifier key."""

    ED25519 = 0x01
    """Ed25519 over the text of the note."""
    COSIGNATURE = 0x04
    """Ed25519 over a time and the text of a checkpoint (``cosignature/v1``)."""


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key by name; ``str(key)`` is its vkey."""

    name: str
    kind: Kind
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return the 4 bytes that name this key in a signature line, beside its name."""
        material = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(material).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        """Return the vkey: ``name+hex(key id)+base64(kind || public key)``."""
        material = _to_base64(bytes([self.kind]) + self.public)
        return f"{self.name}+{self.key_id.hex()}+{material}"


class Signature(msgspec.Struct, frozen=True):
    """One signature line, not yet verified; ``blob`` is what follows the key id."""

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> bytes:
        """Return the line as it stands in a note, newline included."""
        return f"{_DASH}{self.name} {_to_base64(self.key_id + self.blob)}\n".encode()


class Note(msgspec.Struct, frozen=True):
    """A parsed note. Nothing in it is to be believed before ``verify``."""

    text: bytes
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Return the note's bytes, the same that ``parse`` was given."""
        return self.text + b"\n" + b"".join(each.line() for each in self.signatures)


class Signed(msgspec.Struct, frozen=True):
    """One verified signature: whose, and for a cosignature when (POSIX seconds)."""

    key: VerifierKey
    time_s: int | None


class Verified(msgspec.Struct, frozen=True):
    """A text, who signed it, and how many lines were by keys that we do not know."""

    text: bytes
    signed: tuple[Signed, ...]
    ignored: int


def parse_key(vkey: str) -> VerifierKey:
    """Parse a vkey, accepting only the spelling that we would write.

    Raises:
        FormatError: it is not a vkey, its id is not that of the key, or its kind is not ours.
    """
    name, plus, rest = vkey.partition("+")
    key_id, second_plus, material = rest.partition("+")
    if not (plus and second_plus):
        raise FormatError("vkey: expected name+id+key")
    _check_name(name)
    raw = _from_base64(material)
    kinds = [kind for kind in Kind if raw[:1] == bytes([kind])]
    if not kinds:
        raise FormatError(f"vkey: unsupported signature type {raw[:1].hex()}", Reason.UNSUPPORTED)
    if len(raw) != 1 + _KEY_BYTES:
        raise FormatError(f"vkey: expected {_KEY_BYTES} bytes of key, got {len(raw) - 1}")
    key = VerifierKey(name=name, kind=kinds[0], public=raw[1:])
    if key_id != key.key_id.hex():
        raise FormatError(f"vkey: id is {key_id}, that of the key is {key.key_id.hex()}")
    return key


def verifier_key(name: str, signer: Signer, kind: Kind = Kind.ED25519) -> VerifierKey:
    """Return the public half of ``signer`` under ``name``.

    Raises:
        FormatError: the name cannot stand in a note.
    """
    _check_name(name)
    return VerifierKey(name=name, kind=kind, public=bytes(signer.public))


def sign(text: bytes, name: str, signer: Signer) -> Signature:
    """Sign ``text`` with Ed25519 as ``name``.

    Raises:
        FormatError: the text or the name cannot stand in a note.
    """
    _check_text(text)
    key = verifier_key(name, signer)
    return Signature(name=name, key_id=key.key_id, blob=signer.sign(text))


def cosign(text: bytes, name: str, signer: Signer, time_s: int) -> Signature:
    """Cosign ``text`` (a checkpoint's body) as ``name`` at ``time_s``, POSIX seconds.

    The signed message does not commit to the name: use one key per witness.

    Raises:
        FormatError: the text, the name or the time cannot stand in a cosignature.
    """
    _check_text(text)
    if not 0 < time_s <= MAX_TIME_S:
        raise FormatError(f"cosignature: time {time_s} is out of range")
    key = verifier_key(name, signer, Kind.COSIGNATURE)
    blob = time_s.to_bytes(_TIME_BYTES, "big") + signer.sign(_cosigned(text, time_s))
    return Signature(name=name, key_id=key.key_id, blob=blob)


def parse(note: bytes) -> Note:
    """Parse a note strictly; sizes are bounded before anything is decoded.

    Raises:
        FormatError: too large, not UTF-8, a control character, no signature, a line that is
            not spelt as we would spell it.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise FormatError(f"note: more than {MAX_NOTE_BYTES} bytes", Reason.TOO_LARGE)
    text, gap, lines = note.rpartition(b"\n\n")
    if not gap:
        raise FormatError("note: no blank line before the signatures")
    _check_text(text + b"\n")
    return Note(text=text + b"\n", signatures=parse_signatures(lines))


def parse_signatures(lines: bytes) -> tuple[Signature, ...]:
    """Parse signature lines, as they stand in a note and in a witness's answer.

    Raises:
        FormatError: none, too many, or one that is not spelt as we would spell it.
    """
    if not lines.endswith(b"\n"):
        raise FormatError("note: expected signature lines, each ending in a newline")
    count = lines.count(b"\n")
    if count > MAX_SIGNATURES:
        raise FormatError(f"note: more than {MAX_SIGNATURES} signatures", Reason.TOO_LARGE)
    _check_text(lines)
    return tuple(_parse_signature(line) for line in lines.decode()[:-1].split("\n"))


def verify(note: Note, keys: Collection[VerifierKey]) -> Verified:
    """Verify every signature of ``note`` by one of ``keys``; others are ignored and counted.

    1. A key that we know signs at most once, so that counting lines counts keys.
    2. A line that bears the name and id of a key that we know must verify.
    3. At least one line must.

    Raises:
        FormatError: 1 fails, a cosignature has no valid time, or two of ``keys`` share name and id.
        VerificationError: 2 fails (``BAD_SIGNATURE``) or 3 fails (``UNKNOWN_KEY``).

    **Does not show** that the text is true, complete or recent, that an ignored line is good or
    bad, or, for a cosignature, under which name its key was meant to act.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(set(keys)):
        raise FormatError("note: two keys share a name and an id, so lines cannot be told apart")
    seen: set[tuple[str, bytes]] = set()
    signed = []
    for signature in note.signatures:
        label = (signature.name, signature.key_id)
        key = known.get(label)
        if key is None:
            continue
        # 1.
        if label in seen:
            raise FormatError(f"note: {key.name} signs twice", Reason.NOT_CANONICAL)
        seen.add(label)
        # 2.
        signed.append(verify_signature(note.text, signature, key))
    # 3.
    if not signed:
        raise VerificationError(Reason.UNKNOWN_KEY, "note: not signed by a key that we trust")
    return Verified(
        text=note.text, signed=tuple(signed), ignored=len(note.signatures) - len(signed)
    )


def verify_signature(text: bytes, signature: Signature, key: VerifierKey) -> Signed:
    """Verify one line, known to name ``key``, over ``text``.

    Raises:
        FormatError: it has not the length of its kind, or its time is out of range.
        VerificationError: ``BAD_SIGNATURE``.

    **Does not show** more than that the holder of ``key`` signed these bytes.
    """
    blob, time_s = signature.blob, None
    head = _TIME_BYTES if key.kind is Kind.COSIGNATURE else 0
    if len(blob) != head + _SIGNATURE_BYTES:
        raise FormatError(
            f"note: signature by {key.name} has {len(blob)} bytes,"
            f" expected {head + _SIGNATURE_BYTES}"
        )
    message = text
    if key.kind is Kind.COSIGNATURE:
        time_s = int.from_bytes(blob[:head], "big")
        if not 0 < time_s <= MAX_TIME_S:
            raise FormatError(f"note: cosignature by {key.name} has no valid time")
        message = _cosigned(text, time_s)
    try:
        VerifyKey(key.public).verify(message, blob[head:])
    except BadSignatureError as error:
        raise VerificationError(
            Reason.BAD_SIGNATURE, f"note: signature by {key.name} does not verify"
        ) from error
    return Signed(key=key, time_s=time_s)


def attach(note: Note, more: Iterable[Signature]) -> Note:
    """Return ``note`` with ``more`` signatures; one by the same key takes the older one's place."""
    lines = {(each.name, each.key_id): each for each in note.signatures}
    lines.update({(each.name, each.key_id): each for each in more})
    return Note(text=note.text, signatures=tuple(lines.values()))


def _cosigned(text: bytes, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + text


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise FormatError("note: a signature line must start with an em dash and a space")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not space:
        raise FormatError("note: a signature line needs a name and a signature")
    _check_name(name)
    raw = _from_base64(encoded)
    if len(raw) <= _ID_BYTES:
        raise FormatError("note: a signature line is too short to hold a signature")
    return Signature(name=name, key_id=raw[:_ID_BYTES], blob=raw[_ID_BYTES:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(letter.isspace() for letter in name):
        raise FormatError("note: a key name must be non-empty, without spaces and plus signs")
    _check_characters(name)


def _check_text(text: bytes) -> None:
    if not text.endswith(b"\n"):
        raise FormatError("note: the text must end in a newline")
    try:
        _check_characters(text.decode().replace("\n", ""))
    except UnicodeDecodeError as error:
        raise FormatError("note: not valid UTF-8") from error


def _check_characters(text: str) -> None:
    if text and min(text) < " ":
        raise FormatError("note: control characters are not allowed")


def _to_base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _from_base64(text: str) -> bytes:
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii.Error, or not ASCII
        raise FormatError(f"note: not base64: {error}") from error
    if _to_base64(raw) != text:  # bits that no encoder writes
        raise FormatError("note: base64 is not in canonical form", Reason.NOT_CANONICAL)
    return raw
