"""Replays the kernel's list of measured files up to the quoted register, fast.

An entry whose very bytes the policy has prepared costs one look-up and one hash; every other is
read with care (``template``) and judged (``judge``). What lies behind the first place that reaches
the register is not attested, and not looked at. Knows nothing of quotes.
"""

import functools
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import template
from lydite.evidence.tpm.judge import Judge
from lydite.evidence.tpm.template import NO_SHA1, Entry, where

Form = Literal["binary", "ascii"]
_HASHERS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha384": hashlib.sha384}
ONES = b"\xff"
"""A violation extends a register by such bytes."""


class Place(NamedTuple):
    """How far a list was followed."""

    entries: int
    value: bytes
    """What the register holds then."""


class Replayed(NamedTuple):
    """A list that leads to the quoted register."""

    place: Place
    tail: int
    """Bytes behind it, which nothing attests."""


def replay(
    log: bytes,
    form: Form,
    start: Place,
    target: bytes,
    prepared: Mapping[bytes, bytes],
    judge: Judge,
    bank: str = "sha256",
) -> Replayed:
    """Follow ``log`` from ``start`` until the register is ``target``, judging every entry.

    ``prepared`` are entries that need no judgement (``Runtime.hashed``, or ``lines`` for text).

    Raises:
        Refusal: an entry is refused, or the list does not lead there.
    """
    if start.value == target:
        return Replayed(start, len(log))
    known = prepared if bank == "sha256" else {}
    steps = _binary if form == "binary" else _ascii
    reached = steps(log, start, target, known, judge, bank)
    if reached is None:
        raise diagnose(log, form, start, target)
    return reached


_HEAD = struct.Struct("<I20sI6sI")
"""Register, mark, and the name of ``ima-ng``, which is six letters long, and the data's length."""
_SIG_HEAD = struct.Struct("<I20sI7sI")
_USUAL = (6, b"ima-ng")
_USUAL_SIG = (7, b"ima-sig")


def _binary(
    log: bytes,
    start: Place,
    target: bytes,
    known: Mapping[bytes, bytes],
    judge: Judge,
    bank: str,
) -> Replayed | None:
    """Follow a binary list; heads are unpacked in one piece, whole entries looked up."""
    head, (letters, name) = (_SIG_HEAD, _USUAL_SIG) if _starts_signed(log) else (_HEAD, _USUAL)
    unpack, size, get = head.unpack_from, head.size, known.get
    hasher, register = _HASHERS[bank], judge.register
    at, end, count, value = 0, len(log), start.entries, start.value
    last, signed = end - size, head is _SIG_HEAD and bank == "sha256"
    while at < end:
        count += 1
        if at <= last:
            index, mark, length, found, data_length = unpack(log, at)
            begin = at + size
            then = begin + data_length
            extended = get(log[begin:then])
            if signed and extended is None:
                extended = _signed(log, begin, then, known)
            if (
                extended is not None
                and found == name
                and length == letters
                and index == register
                and mark != NO_SHA1
            ):
                at = then
                value = hasher(value + extended).digest()
                if value == target:
                    return Replayed(Place(count, value), end - at)
                continue
        entry, at = next(template.binary(log, count, at))
        value = hasher(value + step(entry, judge, bank)).digest()
        if value == target:
            return Replayed(Place(count, value), end - at)
    return None


_SIZE = struct.Struct("<I").unpack_from


def _signed(log: bytes, begin: int, then: int, known: Mapping[bytes, bytes]) -> bytes | None:
    """Return what an entry with a signature extends by, if its digest and name are prepared.

    They are the whole data of an entry of ``ima-ng``; a file that is listed needs no signature.
    """
    at = begin
    for _ in range(2):
        if at + 4 > then:
            return None
        at += 4 + _SIZE(log, at)[0]
    if at + 4 > then or at + 4 + _SIZE(log, at)[0] != then or log[begin:at] not in known:
        return None
    return hashlib.sha256(log[begin:then]).digest()


def _starts_signed(log: bytes) -> bool:
    return log[24:35] == b"\x07\0\0\0ima-sig"


def _ascii(
    log: bytes,
    start: Place,
    target: bytes,
    known: Mapping[bytes, bytes],
    judge: Judge,
    bank: str,
) -> Replayed | None:
    """Follow a list as text: register, SHA-1 in hexadecimal, and the rest, looked up."""
    if not log.endswith(b"\n"):
        raise Refusal(Reason.IMA_TRUNCATED, "IMA list", "a line feed at its end")
    hasher, get = _HASHERS[bank], known.get
    prefix = f"{judge.register} ".encode()
    begin, then = len(prefix), len(prefix) + 2 * len(NO_SHA1)
    zeros = b"0" * 2 * len(NO_SHA1)
    count, value, passed = start.entries, start.value, 0
    for line in log.split(b"\n")[:-1]:
        count += 1
        extended = get(line[then:])
        passed += len(line) + 1
        if extended is None or not line.startswith(prefix) or line[begin:then] == zeros:
            extended = step(template.ascii_entry(line, count), judge, bank)
        value = hasher(value + extended).digest()
        if value == target:
            return Replayed(Place(count, value), len(log) - passed)
    return None


def step(entry: Entry, judge: Judge, bank: str) -> bytes:
    """Judge an entry and return what it extends the register by."""
    judge.judge(entry)
    return extension(entry, bank)


def extension(entry: Entry, bank: str) -> bytes:
    """Return what an entry extends a bank of the register by."""
    if entry.violated:
        return ONES * hashlib.new(bank).digest_size
    return template.template_hash(entry.data, bank)


def diagnose(log: bytes, form: Form, start: Place, target: bytes) -> Refusal:
    """Return why a list does not lead to a register, as precisely as it can be told.

    The SHA-1 column, which the fast pass does not read, names an entry that was altered without it.
    """
    odd, count = _odd_binary(log) if form == "binary" else _odd_text(log)
    for number, entry in odd:
        made = entry(start.entries + number)
        if not made.violated and made.mark != hashlib.sha1(made.data).digest():
            at = where(made.number, made.name)
            got = hashlib.sha1(made.data).hexdigest()
            return Refusal(Reason.IMA_TEXT_MISMATCH, at, made.mark.hex(), got)
    if not count and not start.entries:
        return Refusal(Reason.IMA_MISSING, "IMA list", "entries", "none")
    total = start.entries + count
    got = f"no place of {total} entries: some are missing, moved or repeated, or are not listed"
    return Refusal(Reason.IMA_REPLAY, "IMA list", target.hex(), got)


_Odd = list[tuple[int, Callable[[int], Entry]]]
"""Entries whose SHA-1 does not fit at first sight, by number, and how to read each with care."""


def _odd_binary(log: bytes) -> tuple[_Odd, int]:
    odd: _Odd = []
    at, count, size = 0, 0, len(log)
    while at + _MARK.size <= size:
        count += 1
        mark, letters = _MARK.unpack_from(log, at)
        body = at + _MARK.size + letters
        begin = body + 4
        then = begin + int.from_bytes(log[body:begin], "little")
        if then > size or hashlib.sha1(log[begin:then]).digest() != mark:
            odd.append((count, functools.partial(_entry_at, log, at)))
            if log[at + 28 : body] == b"ima":  # has no length of its data
                then = begin + 20 + int.from_bytes(log[body + 20 : begin + 20], "little")
        at = then
    return odd, count


def _entry_at(log: bytes, at: int, number: int) -> Entry:
    return next(template.binary(log, number, at))[0]


_MARK = struct.Struct("<4x20sI")


def _odd_text(log: bytes) -> tuple[_Odd, int]:
    odd: _Odd = []
    lines = log.split(b"\n")[:-1]
    for count, line in enumerate(lines, 1):
        try:
            _, mark, form, digest, path = line.split(b" ")
            name, _, digits = digest.rpartition(b":")
            spelt = bytes.fromhex(digits.decode("ascii"))
            data = template.plain_data(spelt, name.decode("ascii"), path, 2)
            fits = form == b"ima-ng" and hashlib.sha1(data).hexdigest().encode() == mark
        except ValueError:
            fits = False
        if not fits:
            odd.append((count, functools.partial(template.ascii_entry, line)))
    return odd, len(lines)


def only_one_bank(log: bytes, form: Form, start: bytes, target: bytes) -> bool:
    """Say whether the list leads to the SHA-1 bank, by its own column, where others did not."""
    value = start
    for entry in entries(log, form, 0):
        value = hashlib.sha1(value + (ONES * 20 if entry.violated else entry.mark)).digest()
        if value == target:
            return True
    return False


def entries(log: bytes, form: Form, count: int) -> list[Entry]:
    """Return all entries, of which ``count`` came before."""
    if form == "binary":
        return [entry for entry, _ in template.binary(log, count + 1)]
    lines = log.split(b"\n")[:-1]
    return [template.ascii_entry(line, count + 1 + n) for n, line in enumerate(lines)]
