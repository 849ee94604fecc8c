"""Accounts of egress: what each session was charged on each day, on disk before it counts.

An answer is charged by its size as it leaves, and by its score when that comes. One file of JSON
lines in a ``Chain``, replayed at start: what was charged when the process ended without warning is
still charged. Knows nothing of budgets, which the log keeps, of HTTP or of scores' signatures.
"""

from pathlib import Path

import msgspec

from lydite.errors import Reason, StorageError
from lydite.gateway.egress.chain import ORIGIN, Anchor, Chain
from lydite.tlog import disk

_COMPACT_BYTES = 16 * 1024 * 1024


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="k"):
    """Base of the lines."""


class Opened(_Record, frozen=True, tag="open"):
    """An answer began to leave: charged ``micro`` in advance."""

    id: str
    session: str
    day: int
    micro: int


class More(_Record, frozen=True, tag="more"):
    """An answer grows: charged ``micro`` in advance, all in all."""

    id: str
    micro: int


class Closed(_Record, frozen=True, tag="close"):
    """An answer has left: ``micro`` by its size until its score comes, ``certain`` for good."""

    id: str
    entry: int
    micro: int
    certain: int = 0


class Scored(_Record, frozen=True, tag="score"):
    """The score of an answer came."""

    entry: int
    micro: int


class Kept(_Record, frozen=True, tag="kept"):
    """What a session was charged for good on a day; written when the file is shortened."""

    session: str
    day: int
    micro: int


class Waiting(_Record, frozen=True, tag="wait"):
    """An answer that waits for its score; written when the file is shortened."""

    entry: int
    session: str
    day: int
    micro: int


class Newest(_Record, frozen=True, tag="newest"):
    """The newest entry that was charged; written when the file is shortened."""

    entry: int


Line = Opened | More | Closed | Scored | Kept | Waiting | Newest
_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


class Pending(msgspec.Struct):
    """An answer that is charged by its size."""

    session: str
    day: int
    micro: int


class Accounts:
    """Every account, in memory and in one file.

    ``key`` is 32 bytes that only this gateway has. ``anchor`` says how far the file had come when
    the log was told last, None if it never was.

    Raises:
        StorageError: the file cannot be used; or it is not what was left (``EGRESS_ACCOUNTS``).
    """

    def __init__(self, path: Path, key: bytes, anchor: Anchor | None = None) -> None:
        self._chain = Chain(path, key)
        self._clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._replay(anchor)
        self._shorten()

    def _clear(self) -> None:
        self._running: dict[str, Pending] = {}
        self._waiting: dict[int, Pending] = {}
        self._charged: dict[tuple[int, str], int] = {}
        self._by_day: dict[int, int] = {}
        self._waiting_micro: dict[str, int] = {}
        self._all_waiting = 0
        self.newest = 0
        """The newest entry that was charged, 0 if none was."""

    @classmethod
    def nowhere(cls) -> "Accounts":
        """Return accounts that nothing can be charged to: there is no file."""
        made = cls.__new__(cls)
        made._chain = Chain(Path(), b"")
        made._clear()
        return made

    @classmethod
    def anew(cls, path: Path, key: bytes, anchor: Anchor | None) -> "Accounts":
        """Return accounts without a charge, which the log's ``anchor`` goes on with.

        What lay at ``path`` is kept beside it, for whoever wants to know what became of it.

        Raises:
            StorageError: the disk refuses.
        """
        made = cls.__new__(cls)
        made._chain = Chain(path, key)
        made._clear()
        with disk.failures("put the accounts of egress aside"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.replace(path.with_suffix(".refused"))
        made._chain.renew([], anchor or ORIGIN)
        return made

    # What happens to an answer.

    def open(self, receipt_id: str, session: str, day: int, micro: int) -> None:
        """Charge an answer in advance, before a byte of it leaves."""
        self._write(Opened(receipt_id, session, day, micro))

    def more(self, receipt_id: str, micro: int) -> None:
        """Charge ``micro`` in all for an answer that grows, before it does."""
        self._write(More(receipt_id, micro))

    def close(self, receipt_id: str, entry: int, micro: int, certain: int = 0) -> None:
        """Charge what an answer was by its size; entry 0: it has no receipt, so no score comes."""
        self._write(Closed(receipt_id, entry, micro, certain))

    def score(self, entry: int, micro: int) -> Pending | None:
        """Replace the charge by size; return what it was, None if nothing waits at ``entry``."""
        found = self._waiting.get(entry)
        if found is not None:
            self._write(Scored(entry, micro))
        return found

    def settle(self, entry: int) -> None:
        """Let the charge by size of an answer stand for good."""
        found = self._waiting.get(entry)
        if found is not None:
            self._write(Scored(entry, found.micro))

    # What the accounts say.

    def charged(self, day: int, session: str) -> int:
        """Return what a session was charged for good on a day, in micro-bits."""
        return self._charged.get((day, session), 0)

    def charged_by_all(self, day: int) -> int:
        """Return what all sessions were charged for good on a day."""
        return self._by_day.get(day, 0)

    def waiting(self, session: str | None = None) -> int:
        """Return what is charged by size until scores come, of one session or of all."""
        if session is None:
            return self._all_waiting
        return self._waiting_micro.get(session, 0)

    def unscored(self) -> list[int]:
        """Return the entries that wait for a score, in order."""
        return sorted(self._waiting)

    def session_at(self, entry: int) -> str | None:
        """Return whose answer stands at an entry that waits for its score."""
        found = self._waiting.get(entry)
        return None if found is None else found.session

    def sessions(self, day: int) -> list[str]:
        """Return the sessions that were charged on a day, or wait for a score."""
        found = {session for when, session in self._charged if when == day}
        return sorted(found | set(self._waiting_micro))

    def waiting_at(self, entry: int) -> int:
        """Return the charge by size of an entry that waits for its score."""
        return self._waiting[entry].micro

    def running_micro(self, receipt_id: str) -> int:
        """Return what an answer that is leaving was charged in advance."""
        return self._running[receipt_id].micro

    def running_session(self, receipt_id: str) -> str:
        """Return whose answer is leaving."""
        return self._running[receipt_id].session

    def running(self) -> list[str]:
        """Return the receipt ids of answers that are leaving."""
        return list(self._running)

    def forget_before(self, day: int) -> None:
        """Drop what was charged on days before ``day``."""
        self._charged = {key: micro for key, micro in self._charged.items() if key[0] >= day}
        self._by_day = {when: micro for when, micro in self._by_day.items() if when >= day}

    def at(self) -> Anchor:
        """Return how far the file has come."""
        return self._chain.at

    def sync(self) -> Anchor:
        """Make what was written survive a loss of power, and return how far that is; blocks.

        Raises:
            StorageError: the disk refuses.
        """
        return self._chain.sync()

    def close_file(self) -> None:
        """Close the file."""
        self._chain.close()

    # The file.

    def _write(self, line: Line) -> None:
        self._chain.append(_encode(line))
        self._apply(line)
        if self._chain.written > _COMPACT_BYTES:
            self._shorten()

    def _replay(self, anchor: Anchor | None) -> None:
        for line in self._chain.read(anchor) or ():
            try:
                self._apply(_decode(line))
            except (msgspec.DecodeError, KeyError) as error:
                why = f"a line of the account of egress is damaged: {error}"
                raise StorageError(why, Reason.EGRESS_ACCOUNTS) from error

    def _shorten(self) -> None:
        """Write the file anew: what is charged, what waits, what runs."""
        lines: list[Line] = [Kept(s, day, micro) for (day, s), micro in self._charged.items()]
        lines += [Waiting(n, p.session, p.day, p.micro) for n, p in self._waiting.items()]
        lines += [Opened(i, p.session, p.day, p.micro) for i, p in self._running.items()]
        lines.append(Newest(self.newest))
        self._chain.renew(map(_encode, lines))

    def _apply(self, line: Line) -> None:
        match line:
            case Opened(id, session, day, micro):
                self._running[id] = Pending(session, day, micro)
                self._wait(session, micro)
            case More(id, micro):
                found = self._running[id]
                self._wait(found.session, micro - found.micro)
                found.micro = micro
            case Closed(id, entry, micro, certain):
                self._end(self._running.pop(id), entry, micro, certain)
            case Scored(entry, micro):
                found = self._waiting.pop(entry)
                self._wait(found.session, -found.micro)
                self._charge(found, micro)
            case _:
                self._recall(line)

    def _recall(self, line: Kept | Waiting | Newest) -> None:
        match line:
            case Kept(session, day, micro):
                self._charge(Pending(session, day, 0), micro)
            case Waiting(entry, session, day, micro):
                self._waiting[entry] = Pending(session, day, micro)
                self._wait(session, micro)
            case Newest(entry):
                self.newest = entry

    def _end(self, found: Pending, entry: int, micro: int, certain: int) -> None:
        self._charge(found, certain)
        self._wait(found.session, -found.micro)
        self.newest = max(self.newest, entry)
        if not entry:
            self._charge(found, micro)
            return
        self._waiting[entry] = Pending(found.session, found.day, micro)
        self._wait(found.session, micro)

    def _wait(self, session: str, micro: int) -> None:
        self._all_waiting += micro
        left = self._waiting_micro.get(session, 0) + micro
        if left:
            self._waiting_micro[session] = left
        else:
            self._waiting_micro.pop(session, None)

    def _charge(self, found: Pending, micro: int) -> None:
        key = found.day, found.session
        self._charged[key] = self._charged.get(key, 0) + micro
        self._by_day[found.day] = self._by_day.get(found.day, 0) + micro
