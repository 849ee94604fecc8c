"""Which files may run: Keylime's runtime policy, JSON version 1, several of them until they end.

The union of what has not expired is allowed, so that an update's old and new files are both known
while machines change over. Knows nothing of registers.
"""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.tpm import patterns, template
from lydite.evidence.tpm.template import HASHES
from lydite.messages.canonical import UNREADABLE

MOST_BYTES = 1 << 28
_MOST_EXCLUDES = 1000
_BY_SIZE = {size: name for name, size in HASHES.items()}
WEAK = ("md5", "sha1", "sha224")
_PROBES = ("/usr/bin/x", "/x", "a", "/opt/some where/lib.so.1", "/~")


class _Ima(msgspec.Struct, forbid_unknown_fields=True):
    ignored_keyrings: list[str] = []
    log_hash_alg: str = "sha256"
    dm_policy: Any = None


class _Meta(msgspec.Struct):
    version: int
    generator: int = 0
    timestamp: str = ""


class Document(
    msgspec.Struct,
    forbid_unknown_fields=True,
    rename={"buffers": "ima-buf", "keys": "verification-keys"},
):
    """One runtime policy as Keylime writes it."""

    meta: _Meta
    digests: dict[str, list[str]]
    release: int = 0
    excludes: list[str] | None = None
    keyrings: dict[str, list[str]] = {}
    ima: _Ima = msgspec.field(default_factory=_Ima)
    buffers: dict[str, list[str]] = {}
    keys: str | list[str] | None = ""


class _Envelope(msgspec.Struct):
    payload: bytes
    payload_type: Literal["application/vnd.keylime+json"] = msgspec.field(name="payloadType")


class Runtime(NamedTuple):
    """What may run, compiled: a file is looked up by the very bytes that its entry has."""

    digest: str
    """Names what it was made of, in hex."""
    files: dict[str, frozenset[bytes]]
    hashed: dict[bytes, bytes]
    """Data of an entry that is allowed, and what it extends a SHA-256 register by."""
    lines: dict[bytes, bytes]
    """The same for lines of text, from the blank before the template's name on."""
    excludes: re.Pattern[str] | None
    broad: int
    """How many excludes cover a whole tree, such as ``/tmp/.*``."""
    keyrings: dict[str, frozenset[bytes]]
    ignored_keyrings: frozenset[str]
    buffers: dict[str, frozenset[bytes]]
    keys: tuple[str, ...]
    """PEM of keys that sign files."""
    weak: bool
    """Whether digests shorter than SHA-256 are taken."""


def parse(content: bytes) -> Document:
    """Parse a runtime policy in Keylime's JSON, version 1, perhaps in its DSSE envelope.

    The envelope's signatures are not looked at: a Reference Value names the document by digest.

    Raises:
        FormatError: another version, an unknown field, or no such JSON.
    """
    if len(content) > MOST_BYTES:
        raise FormatError(f"a runtime policy of {len(content)} bytes", Reason.TOO_LARGE)
    with contextlib.suppress(*UNREADABLE):
        content = msgspec.json.decode(content, type=_Envelope).payload
    try:
        document = msgspec.json.decode(content, type=Document)
    except UNREADABLE as error:
        raise FormatError(f"runtime policy: {error}") from error
    if document.meta.version != 1:
        raise FormatError(f"runtime policy: version {document.meta.version}, not 1")
    return document


def compile_policy(
    contents: Sequence[bytes],
    *,
    weak: bool = False,
    demanded: Sequence[str] = (),
    templates: Sequence[str] = ("ima-ng",),
) -> Runtime:
    """Return the union of runtime policies, ready for lists of the given templates.

    Files that are ``demanded`` are not prepared, so that each entry of theirs is read whole.

    Raises:
        FormatError: one of them cannot be read.
        Refusal: it allows everything (``ima.exclude-all``), nothing (``policy.empty``), or has a
            pattern that may take too long (``ima.regex-cost``).
    """
    documents = [parse(content) for content in contents]
    files: dict[str, frozenset[bytes]] = {}
    for document in documents:
        for path, spelt in document.digests.items():
            digests = frozenset(_digest(each, path) for each in spelt)
            files[path] = files.get(path, frozenset()) | digests
    keys = tuple(key for document in documents for key in _keys(document))
    excludes, broad = _excludes([each for d in documents for each in d.excludes or []])
    if not files and not keys:
        raise Refusal(Reason.POLICY_EMPTY, "runtime policy", "files or keys", "neither")
    plain = {path: files[path] for path in files if _is_plain(path) and path not in demanded}
    hashed, lines = _prepared(plain, weak, templates)
    return Runtime(
        digest=_name(contents, weak),
        files=files,
        hashed=hashed,
        lines=lines,
        excludes=excludes,
        broad=broad,
        keyrings=_union([document.keyrings for document in documents]),
        ignored_keyrings=frozenset(k for d in documents for k in d.ima.ignored_keyrings),
        buffers=_union([document.buffers for document in documents]),
        keys=keys,
        weak=weak,
    )


def _name(contents: Sequence[bytes], weak: bool) -> str:
    parts = sorted(hashlib.sha256(content).digest() for content in contents)
    return hashlib.sha256(b"".join(parts) + bytes([weak])).hexdigest()


def _digest(spelt: str, path: str) -> bytes:
    """Return a digest, which may stand behind the name of its hash."""
    name, _, digits = spelt.rpartition(":")
    try:
        digest = bytes.fromhex(digits)
    except ValueError as error:
        raise FormatError(f"runtime policy: {path}: {spelt[:80]!r} is no digest") from error
    if _BY_SIZE.get(len(digest)) is None or (name and HASHES.get(name) != len(digest)):
        raise FormatError(f"runtime policy: {path}: {spelt[:80]!r} is of no known hash")
    return digest


def _union(tables: Sequence[dict[str, list[str]]]) -> dict[str, frozenset[bytes]]:
    union: dict[str, frozenset[bytes]] = {}
    for table in tables:
        for name, spelt in table.items():
            digests = frozenset(_digest(each, name) for each in spelt)
            union[name] = union.get(name, frozenset()) | digests
    return union


def _keys(document: Document) -> list[str]:
    """Return the keys that sign files; older policies hold a JSON text of a list."""
    keys = document.keys
    if isinstance(keys, str):
        if not keys:
            return []
        if keys.startswith("-----BEGIN"):
            return [keys]
        try:
            keys = msgspec.json.decode(keys, type=list[str])
        except UNREADABLE as error:
            raise FormatError(f"runtime policy: verification-keys: {error}") from error
    return keys or []


def _excludes(texts: Sequence[str]) -> tuple[re.Pattern[str] | None, int]:
    if len(texts) > _MOST_EXCLUDES:
        got = str(len(texts))
        raise Refusal(Reason.IMA_REGEX_COST, "excludes", f"at most {_MOST_EXCLUDES}", got)
    for text in texts:
        compiled = patterns.compile_pattern(text, "exclude")
        if all(compiled.match(probe) for probe in _PROBES[:2]) or compiled.match(""):
            raise Refusal(Reason.IMA_EXCLUDE_ALL, "excludes", "some files", repr(text[:80]))
    if not texts:
        return None, 0
    broad = sum(text.rstrip("$").endswith(".*") and text.count("/") <= 2 for text in texts)
    union = re.compile("|".join(f"(?:{text})" for text in texts))
    if all(union.match(probe) for probe in _PROBES):
        raise Refusal(Reason.IMA_EXCLUDE_ALL, "excludes", "some files", "together every file")
    return union, broad


def _is_plain(path: str) -> bool:
    """Say whether an entry of this name is as harmless as it looks."""
    return path.startswith("/") and path.isprintable() and len(path) <= template.MOST_PART


def _prepared(
    files: dict[str, frozenset[bytes]], weak: bool, templates: Sequence[str]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Return what entries of allowed files look like, and their digests, for every template."""
    hashed: dict[bytes, bytes] = {}
    lines: dict[bytes, bytes] = {}
    for form in templates:
        fields = len(template.TEMPLATES[form])
        for path, digests in files.items():
            name = path.encode()
            for digest in digests:
                hash_name = _BY_SIZE[len(digest)]
                if hash_name in WEAK and not weak:
                    continue
                data = template.plain_data(digest, hash_name, name, fields)
                extended = hashlib.sha256(data).digest()
                hashed[data] = extended
                tail = b" " if fields == 3 else b""
                text = f" {form} {hash_name}:{digest.hex()} ".encode()
                lines[text + name.replace(b" ", b"_") + tail] = extended
    return hashed, lines
