"""Judges entries of the list of measured files, one by one, as they are read.

An entry that cannot be honest is refused; a file that nobody listed is counted and named. Knows
nothing of registers.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.runtime import WEAK, Runtime
from lydite.evidence.tpm.template import AGGREGATE, Entry, where

Signed = Callable[[Entry, tuple[str, ...]], None]
"""Checks a file's signature under keys in PEM, or raises ``Refusal``."""
_MOST_NAMED = 100


class Rules(NamedTuple):
    """What a reference says of the list beyond which files may run."""

    register: int = 10
    demanded: tuple[str, ...] = ()
    """Files that have to be on the list."""
    violations: bool = False
    """Whether a violation only warns."""
    kexec: bool = False
    """Whether another kernel may be started without a reboot."""


class Stranger(NamedTuple):
    """A file that the policy does not allow."""

    number: int
    name: str
    expected: tuple[str, ...]
    """Digests that the policy has for this name."""
    got: str


class Judge:
    """Judges the entries of one list; ``aggregates`` are digests that the first may have."""

    def __init__(
        self,
        runtime: Runtime,
        rules: Rules,
        aggregates: Mapping[str, bytes],
        signed: Signed,
    ) -> None:
        self._runtime, self._rules = runtime, rules
        self._aggregates, self._signed = aggregates, signed
        self.register = rules.register
        self.strangers: list[Stranger] = []
        self.unknown = self.changed = 0
        self.excluded = self.signatures = self.violations = self.booted = 0
        self.seen: set[str] = set()

    def judge(self, entry: Entry) -> None:
        """Judge one entry.

        Raises:
            Refusal: one of the family ``ima``.
        """
        if entry.register != self.register:
            expected = f"register {self.register}"
            raise Refusal(Reason.IMA_INDEX, _at(entry), expected, str(entry.register))
        if entry.violated:
            self.violations += 1
            if not self._rules.violations:
                raise Refusal(Reason.IMA_VIOLATION, _at(entry))
        elif not any(entry.digest) and not entry.buffer:
            raise Refusal(Reason.IMA_ZERO_DIGEST, _at(entry), "a digest", "zeros")
        elif entry.name == AGGREGATE:
            self._aggregate(entry)
        elif self._is_buffer(entry):
            self._buffer(entry)
        else:
            self._file(entry)

    def _is_buffer(self, entry: Entry) -> bool:
        """Say whether an entry is one of a key or of critical data, and not only called so.

        The template's name is not hashed: a signed file, too, has three fields. But a buffer is
        what its digest is of, and its name is no path.
        """
        if not entry.buffer or entry.name.startswith("/"):
            return False
        return hashlib.new(entry.hash_name, entry.buffer).digest() == entry.digest

    def _aggregate(self, entry: Entry) -> None:
        self.booted += 1
        if entry.number > 1 and not self._rules.kexec:
            raise Refusal(Reason.IMA_SECOND_AGGREGATE, _at(entry))
        expected = self._aggregates.get(entry.hash_name)
        if expected is None:
            got = f"{entry.hash_name}, whose boot registers are not quoted"
            raise Refusal(Reason.IMA_AGGREGATE, _at(entry), "a digest of quoted registers", got)
        if entry.digest != expected:
            raise Refusal(Reason.IMA_AGGREGATE, _at(entry), expected.hex(), entry.digest.hex())

    def _buffer(self, entry: Entry) -> None:
        known, name = self._runtime, entry.name
        listed = known.keyrings.get(name, frozenset()) | known.buffers.get(name, frozenset())
        if entry.digest in listed or known.ignored_keyrings & {name, "*"}:
            return
        expected = ", ".join(sorted(each.hex() for each in listed)) or "no such buffer"
        raise Refusal(Reason.IMA_KEYRING, _at(entry), expected, entry.digest.hex())

    def _file(self, entry: Entry) -> None:
        known = self._runtime
        if entry.hash_name in WEAK and not known.weak:
            raise Refusal(Reason.IMA_WEAK_HASH, _at(entry), "SHA-256 or longer", entry.hash_name)
        listed = known.files.get(entry.name, frozenset())
        if entry.digest in listed:
            self.seen.add(entry.name)
        elif known.excludes is not None and known.excludes.match(entry.name):
            self.excluded += 1
        elif entry.signature and known.keys and not listed:
            self._signed(entry, known.keys)
            self.signatures += 1
            self.seen.add(entry.name)
        else:
            self._stranger(entry, listed)

    def _stranger(self, entry: Entry, listed: frozenset[bytes]) -> None:
        if listed:
            self.changed += 1
        else:
            self.unknown += 1
        if len(self.strangers) < _MOST_NAMED:
            expected = tuple(sorted(each.hex() for each in listed))
            stranger = Stranger(entry.number, entry.name, expected, entry.digest.hex())
            self.strangers.append(stranger)


def _at(entry: Entry) -> str:
    return where(entry.number, entry.name)
