"""Entries of the kernel's list of measured files: their fields, names and digests, read whole.

What ``ima`` reads fast this reads with care, and says what is wrong with an entry. Linux,
security/integrity/ima. Knows no policy.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.messages.cursor import Cursor

NO_SHA1 = bytes(20)
"""A template hash of zeros marks a violation."""
AGGREGATE = "boot_aggregate"
LEGACY = "ima"
TEMPLATES = {
    "ima-ng": ("d-ng", "n-ng"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    "evm-sig": (
        "d-ng",
        "n-ng",
        "evmsig",
        "xattrnames",
        "xattrlengths",
        "xattrvalues",
        "iuid",
        "igid",
        "imode",
    ),
}
_FIELDS = {field for fields in TEMPLATES.values() for field in fields}
HASHES = {
    "md5": 16,
    "sha1": 20,
    "sha224": 28,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
}
_CONTROL = {*range(32), 127}
MOST_NAME, MOST_PART = 4096, 255
MOST_DATA = 1 << 20
_MOST_TEMPLATE = 64
_LEGACY_NAME = 256


class Entry(NamedTuple):
    """One entry, whole."""

    number: int
    register: int
    mark: bytes
    """The template hash in SHA-1 that the list gives, which nothing has checked."""
    template: str
    data: bytes
    """What is hashed and extended."""
    hash_name: str
    digest: bytes
    name: str
    signature: bytes = b""
    buffer: bytes = b""
    kind: str = "ima"
    """``ima``, or ``verity`` where the digest is one of fs-verity."""

    @property
    def violated(self) -> bool:
        """Whether the kernel says that the file was written while it was measured."""
        return self.mark == NO_SHA1


def where(number: int, name: str = "") -> str:
    """Return what an entry is called in refusals: the first one is 1."""
    return f"IMA entry {number}" + (f" ({name})" if name else "")


def binary(log: bytes, number: int = 1, at: int = 0) -> Iterator[tuple[Entry, int]]:
    """Yield the entries of a binary list, and where each ends, from ``at`` on.

    Raises:
        Refusal: one of the family ``ima``.
    """
    cursor = Cursor(log, "IMA list", Reason.IMA_TRUNCATED, little=True, at=at)
    while cursor.left:
        register, mark = cursor.u32(), cursor.take(20)
        name = cursor.sized(_MOST_TEMPLATE, Reason.IMA_TEMPLATE, 4)
        template = name.decode("ascii", "replace")
        if template == LEGACY:
            digest = cursor.take(20)
            path = cursor.sized(MOST_PART, Reason.IMA_NAME, 4)
            data = digest + path.ljust(_LEGACY_NAME, b"\0")
        else:
            data = cursor.sized(MOST_DATA, Reason.IMA_LENGTH, 4)
        yield entry(number, register, mark, template, data), cursor.at
        number += 1


def entry(number: int, register: int, mark: bytes, template: str, data: bytes) -> Entry:
    """Return an entry, its fields taken apart.

    Raises:
        Refusal: the template is not known, or the data is not in its form.
    """
    if template == LEGACY:
        name = _name(data[20:].rstrip(b"\0") + b"\0", number)
        return Entry(
            number, register, mark, template, data, "sha1", data[:20], name, b"", b"", "ima"
        )
    fields = _split(template, data, number)
    digest_field = fields.get("d-ng") or fields.get("d-ngv2") or b""
    kind, hash_name, digest = _digest(digest_field, "d-ngv2" in fields, number)
    name = _name(fields.get("n-ng", b""), number)
    signature = fields.get("sig") or fields.get("evmsig") or b""
    buffer = fields.get("buf", b"")
    return Entry(
        number, register, mark, template, data, hash_name, digest, name, signature, buffer, kind
    )


def _split(template: str, data: bytes, number: int) -> dict[str, bytes]:
    """Return an entry's fields; digest and name come first in all templates.

    The template's name is not hashed, so whoever writes the list may change it: no choice of it may
    make another field the digest or the name.
    """
    names = TEMPLATES.get(template) or tuple(template.split("|"))
    first = names[0] in ("d-ng", "d-ngv2") and names[1:2] == ("n-ng",)
    if not first or not set(names) <= _FIELDS or len(set(names)) != len(names):
        raise Refusal(Reason.IMA_TEMPLATE, where(number), "a known template", repr(template))
    cursor = Cursor(data, where(number), Reason.IMA_TEMPLATE, little=True)
    fields = {name: cursor.sized(len(data), Reason.IMA_TEMPLATE, 4) for name in names}
    cursor.end(Reason.IMA_TEMPLATE)
    return fields


def _digest(field: bytes, prefixed: bool, number: int) -> tuple[str, str, bytes]:
    """Return kind, hash and digest: ``sha256:``, NUL, digest, perhaps after ``verity:``."""
    head, mark, digest = field.partition(b":\0")
    kind, colon, hash_name = head.decode("ascii", "replace").rpartition(":")
    if not mark or bool(colon) != prefixed or (prefixed and kind not in ("ima", "verity")):
        raise Refusal(Reason.IMA_TEMPLATE, where(number), "hash, colon, NUL and digest")
    if hash_name not in HASHES:
        raise Refusal(Reason.IMA_WEAK_HASH, where(number), ", ".join(HASHES), repr(hash_name))
    if len(digest) != HASHES[hash_name]:
        expected = f"{HASHES[hash_name]} bytes of {hash_name}"
        raise Refusal(Reason.IMA_TEMPLATE, where(number), expected, str(len(digest)))
    return kind or "ima", hash_name, digest


def _name(field: bytes, number: int) -> str:
    """Return a path, as a kernel writes it: UTF-8, a NUL at its end, no control characters."""
    text, nul, rest = field.partition(b"\0")
    try:
        name = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(Reason.IMA_NAME, where(number), "UTF-8", text[:80].hex()) from error
    if not nul or rest or not name or _CONTROL & set(text):
        raise Refusal(Reason.IMA_NAME, where(number), "one line, then NUL", repr(name[:80]))
    if len(text) > MOST_NAME or max(map(len, text.split(b"/"))) > MOST_PART:
        raise Refusal(Reason.IMA_NAME, where(number), "a path that Linux has", f"{len(text)} bytes")
    return name


def ascii_entry(line: bytes, number: int) -> Entry:
    """Return the entry that a line of the list as text stands for.

    Digests are of so many letters, and names are written with ``_`` for a blank; a signature or a
    buffer follows in hexadecimal. What is hashed is put together again from that.

    Raises:
        Refusal: the line is no such entry (``ima.text-mismatch``, ``ima.template``).
    """
    words = line.split(b" ")
    try:
        register, mark = _decimal(words[0]), _hex(words[1])
        template = words[2].decode("ascii")
        values = _ascii_fields(template, words[3:], number)
    except (ValueError, IndexError) as error:
        raise Refusal(Reason.IMA_TEXT_MISMATCH, where(number), got=repr(line[:120])) from error
    if len(mark) != len(NO_SHA1):
        raise Refusal(Reason.IMA_TEXT_MISMATCH, where(number), "a SHA-1", f"{len(mark)} bytes")
    if template == LEGACY:
        data = values[0] + values[1].ljust(_LEGACY_NAME, b"\0")
    else:
        data = b"".join(len(value).to_bytes(4, "little") + value for value in values)
    return entry(number, register, mark, template, data)


def _ascii_fields(template: str, words: list[bytes], number: int) -> list[bytes]:
    if template == LEGACY:
        digest, name = words
        return [_hex(digest), name]
    names = TEMPLATES.get(template) or tuple(template.split("|"))
    words = words + [b""] * (len(names) - len(words))
    if len(words) > len(names):  # an empty last field leaves a blank at the end
        if any(words[len(names) :]):
            raise Refusal(Reason.IMA_TEXT_MISMATCH, where(number), f"{len(names)} fields")
        words = words[: len(names)]
    return [_ascii_field(name, word) for name, word in zip(names, words, strict=True)]


def _ascii_field(name: str, word: bytes) -> bytes:
    if name in ("d-ng", "d-ngv2"):
        head, _, digest = word.rpartition(b":")
        return head + b":\0" + _hex(digest)
    return word + b"\0" if name == "n-ng" else _hex(word)


def _hex(word: bytes) -> bytes:
    """Return bytes from hexadecimal as the kernel writes it: no capitals, no blanks."""
    made = bytes.fromhex(word.decode("ascii"))
    if made.hex().encode() != word:
        raise ValueError("other hexadecimal than the kernel writes")
    return made


def _decimal(word: bytes) -> int:
    number = int(word)
    if b"%d" % number != word:
        raise ValueError("another number than the kernel writes")
    return number


def template_hash(data: bytes, hash_name: str) -> bytes:
    """Return what a register's bank is extended by for ``data``."""
    return hashlib.new(hash_name, data).digest()


def plain_data(digest: bytes, hash_name: str, path: bytes, fields: int) -> bytes:
    """Return the data of an entry of ``ima-ng`` (2 fields) or of ``ima-sig`` unsigned (3)."""
    head = hash_name.encode() + b":\0" + digest
    name = path + b"\0"
    data = len(head).to_bytes(4, "little") + head + len(name).to_bytes(4, "little") + name
    return data + bytes(4 * (fields - 2))
