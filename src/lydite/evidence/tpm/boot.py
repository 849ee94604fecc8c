"""The firmware's log of what it measured (TCG PC Client), and the registers that it leads to.

TCG PC Client Platform Firmware Profile, 10. Little-endian. Which of an event's text its digest
covers is said by ``events``; without that, all text is a claim. Knows no policy.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.quote import ALGORITHMS
from lydite.messages.cursor import Cursor

NO_ACTION, SEPARATOR = 0x3, 0x4
SPEC_ID, LOCALITY = b"Spec ID Event03\0", b"StartupLocality\0"
MOST_BYTES, MOST_EVENTS, MOST_DATA = 1 << 24, 5_000, 1 << 22
REGISTERS = 24
_NOWHERE = 0xFFFFFFFF
LOCALITIES = (0, 3, 4)
DRTM = range(17, 23)
"""Registers that start as ones, until a measured launch sets them to zero."""


class Event(NamedTuple):
    """One event of the log."""

    number: int
    register: int
    kind: int
    digests: Mapping[str, bytes]
    data: bytes

    @property
    def where(self) -> str:
        """What the event is called in refusals: the first one is 1."""
        return f"boot event {self.number} (register {self.register}, type {self.kind:#x})"


class Log(NamedTuple):
    """A boot log, taken apart."""

    events: tuple[Event, ...]
    banks: tuple[str, ...]
    locality: int


def parse(content: bytes) -> Log:
    """Parse a boot log of TPM 2.0, or the older form with SHA-1 alone.

    Raises:
        Refusal: one of the family ``boot``, or ``pcr.locality``.
    """
    if len(content) > MOST_BYTES:
        raise Refusal(
            Reason.BOOT_SIZE, "boot log", f"at most {MOST_BYTES} bytes", str(len(content))
        )
    cursor = Cursor(content, "boot log", Reason.BOOT_SIZE, little=True)
    first = _legacy(cursor, 1)
    if not first.data.startswith(SPEC_ID):
        return _old(content)
    sizes = _header(first)
    events: list[Event] = []
    end = _end(content)
    while cursor.at < end:
        events.append(_event(cursor, len(events) + 2, sizes))
        if len(events) > MOST_EVENTS:
            raise Refusal(Reason.BOOT_SIZE, "boot log", f"at most {MOST_EVENTS} events")
    return Log(tuple(events), tuple(sizes), _locality(events))


def _old(content: bytes) -> Log:
    cursor = Cursor(content, "boot log", Reason.BOOT_SIZE, little=True)
    events: list[Event] = []
    end = _end(content)
    while cursor.at < end:
        events.append(_legacy(cursor, len(events) + 1))
        if len(events) > MOST_EVENTS:
            raise Refusal(Reason.BOOT_SIZE, "boot log", f"at most {MOST_EVENTS} events")
    return Log(tuple(events), ("sha1",), _locality(events))


def _end(content: bytes) -> int:
    """Return where nothing but the fill of an unused buffer is left, zeros or ones."""
    return min(len(content.rstrip(b"\0")), len(content.rstrip(b"\xff")))


def _legacy(cursor: Cursor, number: int) -> Event:
    register, kind, digest = cursor.u32(), cursor.u32(), cursor.take(20)
    data = cursor.sized(MOST_DATA, Reason.BOOT_SIZE, 4)
    event = Event(number, register, kind, {"sha1": digest}, data)
    return _placed(event)


def _placed(event: Event) -> Event:
    is_note = event.kind == NO_ACTION and event.register == _NOWHERE
    if event.register >= REGISTERS and not is_note:
        raise Refusal(Reason.BOOT_INDEX, event.where, f"0 to {REGISTERS - 1}", str(event.register))
    return event


def _header(first: Event) -> dict[str, int]:
    """Return the digests that every event has, and their lengths."""
    if first.register != 0 or first.kind != NO_ACTION or any(first.digests["sha1"]):
        raise Refusal(Reason.BOOT_NO_ACTION, first.where, "a header that extends nothing")
    cursor = Cursor(first.data, "boot log, header", Reason.BOOT_SIZE, little=True, at=24)
    count = cursor.u32()
    if not 1 <= count <= len(ALGORITHMS):
        raise Refusal(Reason.BOOT_DIGEST_COUNT, first.where, "digests that there are", str(count))
    sizes: dict[str, int] = {}
    for _ in range(count):
        number, size = cursor.u16(), cursor.u16()
        known = ALGORITHMS.get(number)
        if known is None or known[1] != size or known[0] in sizes:
            got = f"{number:04x} of {size} bytes"
            raise Refusal(Reason.BOOT_DIGEST_COUNT, first.where, "known digests, once each", got)
        sizes[known[0]] = size
    cursor.sized(255, Reason.BOOT_SIZE, 1)
    return sizes


def _event(cursor: Cursor, number: int, sizes: Mapping[str, int]) -> Event:
    register, kind, count = cursor.u32(), cursor.u32(), cursor.u32()
    where = f"boot event {number}"
    if count != len(sizes):
        raise Refusal(Reason.BOOT_DIGEST_COUNT, where, f"{len(sizes)} digests", str(count))
    digests: dict[str, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16()
        name = ALGORITHMS.get(algorithm, ("", 0))[0]
        if name not in sizes or name in digests:
            expected = ", ".join(sizes)
            raise Refusal(Reason.BOOT_DIGEST_COUNT, where, expected, f"{algorithm:04x}")
        digests[name] = cursor.take(sizes[name])
    data = cursor.sized(MOST_DATA, Reason.BOOT_SIZE, 4)
    event = _placed(Event(number, register, kind, digests, data))
    if kind == NO_ACTION and any(any(digest) for digest in digests.values()):
        raise Refusal(Reason.BOOT_NO_ACTION, event.where, "digests of zeros")
    return event


def _locality(events: Iterable[Event]) -> int:
    """Return where register 0 starts; who says so twice, or after extending it, is refused."""
    found, begun = None, False
    for event in events:
        begun = begun or (event.register == 0 and event.kind != NO_ACTION)
        if event.kind != NO_ACTION or not event.data.startswith(LOCALITY):
            continue
        if found is not None or begun:
            raise Refusal(Reason.BOOT_NO_ACTION, event.where, "a locality once, at the start")
        rest = event.data[len(LOCALITY) :]
        if len(rest) != 1 or rest[0] not in LOCALITIES:
            raise Refusal(Reason.PCR_LOCALITY, event.where, "0, 3 or 4", rest.hex() or "nothing")
        found = rest[0]
    return found or 0


def initial(register: int, size: int, locality: int = 0) -> bytes:
    """Return what a register holds when the machine starts."""
    if register in DRTM:
        return b"\xff" * size
    return bytes(size - 1) + bytes([locality if register == 0 else 0])


def replay(log: Log, bank: str) -> dict[int, bytes]:
    """Return what each register that the log names holds at its end.

    Raises:
        Refusal: the log has no digests of this bank (``boot.digest-count``).
    """
    if bank not in log.banks:
        expected = f"digests of {bank}"
        raise Refusal(Reason.BOOT_DIGEST_COUNT, "boot log", expected, ", ".join(log.banks))
    size = hashlib.new(bank).digest_size
    values: dict[int, bytes] = {}
    for event in log.events:
        if event.kind == NO_ACTION:
            continue
        old = values.get(event.register) or initial(event.register, size, log.locality)
        values[event.register] = hashlib.new(bank, old + event.digests[bank]).digest()
    return values


def diverging(log: Log, bank: str, register: int, target: bytes) -> Event | None:
    """Return the last event before which the register still was what was quoted, if any is.

    A log with events added to it, or a register that was quoted too early, diverges there.
    """
    size = hashlib.new(bank).digest_size
    value = initial(register, size, log.locality)
    for event in log.events:
        if event.register != register or event.kind == NO_ACTION:
            continue
        if value == target:
            return event
        value = hashlib.new(bank, value + event.digests[bank]).digest()
    return None


def departs(log: Log, good: Log, bank: str) -> tuple[Event | None, Event | None]:
    """Return the first event that a good boot did not have, and what it had there instead.

    Registers are followed one by one, since firmware may measure into them in another order.
    """
    wanted: dict[int, list[Event]] = {}
    for event in good.events:
        if event.kind != NO_ACTION:
            wanted.setdefault(event.register, []).append(event)
    places = dict.fromkeys(wanted, 0)
    for event in log.events:
        if event.kind == NO_ACTION:
            continue
        place = places.get(event.register, 0)
        expected = wanted.get(event.register, [])[place : place + 1]
        if not expected or expected[0].digests[bank] != event.digests[bank]:
            return event, expected[0] if expected else None
        places[event.register] = place + 1
    left = [
        wanted[register][place]
        for register, place in places.items()
        if place < len(wanted[register])
    ]
    return None, min(left, key=lambda each: each.number, default=None)
