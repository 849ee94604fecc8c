"""Where the last appraisal of a machine ended, so that the next one costs only what is new.

Knows nothing of where checkpoints are kept.
"""

from typing import Literal, NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.claims import Bytes, List
from lydite.evidence.tpm.ima import Place
from lydite.evidence.tpm.quote import Quote
from lydite.messages.canonical import Count, Hex32, Message, Word, decode

STALE_AFTER_S = 3600
"""An hour without a fresh appraisal is worth an alarm, unless said otherwise."""


class Checkpoint(Message, frozen=True, kw_only=True):
    """What an appraisal leaves for the next one of the same machine."""

    format: Literal["lydite/tpm-checkpoint/v1"] = "lydite/tpm-checkpoint/v1"
    key_name: Bytes
    resets: Count
    restarts: Count
    clock_ms: Count
    time_s: Count
    """When it was appraised, by the verifier's clock."""
    reference: Hex32
    policy: Hex32
    """Names the runtime policies that were current."""
    boot: Hex32
    """Digest of the values of the boot's registers."""
    entries: Count
    value: Bytes
    """What the list's register held after so many entries."""
    unknown: Count
    changed: Count
    violations: Count
    seen: tuple[Word, ...] = ()
    """Demanded files that were on the list."""


class Before(NamedTuple):
    """What an appraisal starts from."""

    place: Place
    unknown: int = 0
    changed: int = 0
    violations: int = 0
    seen: frozenset[str] = frozenset()
    rebooted: bool = False


def parse(payload: bytes) -> Checkpoint:
    """Parse a checkpoint in its one spelling."""
    return decode(payload, Checkpoint, limit=1 << 20)


class Stand(NamedTuple):
    """What has to be the same for an appraisal to go on where the last one ended."""

    policy: str
    boot: str
    size: int
    """Length of the register's value."""


def start(last: Checkpoint | None, quote: Quote, files: List | None, stand: Stand) -> Before:
    """Return where an appraisal starts, having held clock and counters to the last one.

    Raises:
        Refusal: they went back (``fresh.clock-back``, ``fresh.counter-back``), a restart is hidden
            (``fresh.silent-reboot``), or the list does not start where it has to (``ima.from-n``,
            ``ima.trimmed``).
    """
    first = 0 if files is None else files.first
    fresh = Before(Place(0, bytes(stand.size)))
    if last is None:
        if first:
            raise Refusal(Reason.IMA_TRIMMED, "IMA list", "its first entry", f"entry {first + 1}")
        return fresh
    _check_counters(last, quote)
    if (quote.resets, quote.restarts) != (last.resets, last.restarts):
        if first:
            got = f"entry {first + 1} after a restart"
            raise Refusal(Reason.FRESH_SILENT_REBOOT, "IMA list", "its first entry", got)
        return fresh._replace(rebooted=True)
    if not first:
        return fresh
    same = (stand.policy, stand.boot) == (last.policy, last.boot)
    if not same or first != last.entries:
        at = last.entries if same else 0
        expected = f"entry {at + 1}" + ("" if at else ", since policy or boot changed")
        raise Refusal(Reason.IMA_FROM_N, "IMA list", expected, f"entry {first + 1}")
    place = Place(last.entries, bytes.fromhex(last.value))
    counts = (last.unknown, last.changed, last.violations)
    return Before(place, *counts, frozenset(last.seen))


def _check_counters(last: Checkpoint, quote: Quote) -> None:
    if quote.resets < last.resets:
        raise Refusal(
            Reason.FRESH_COUNTER_BACK, "resets", f"at least {last.resets}", str(quote.resets)
        )
    if quote.resets > last.resets:
        return
    if quote.restarts < last.restarts:
        expected = f"at least {last.restarts}"
        raise Refusal(Reason.FRESH_COUNTER_BACK, "restarts", expected, str(quote.restarts))
    if quote.clock_ms < last.clock_ms:
        expected = f"at least {last.clock_ms} ms"
        raise Refusal(Reason.FRESH_CLOCK_BACK, "clock", expected, f"{quote.clock_ms} ms")


def stale_s(last: Checkpoint, now_s: int, after_s: int = STALE_AFTER_S) -> int:
    """Return by how many seconds the last appraisal is too old; 0 where it is not."""
    return max(0, now_s - last.time_s - after_s)
