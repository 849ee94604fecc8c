"""What traffic looks like from outside, and whether that is what inference looks like.

Training over a network moves numbers: large, incompressible, about as much in as out, and on a
beat. Chats are text: compressible, a few bytes a token, and irregular. Works on sizes and times
alone. Telemetry: it raises the rate of audits and an alarm, and accuses nobody.
"""

import itertools
import math
import re
import statistics
from collections.abc import Sequence

import msgspec

from lydite.messages.canonical import Count, Message
from lydite.messages.egress import Flow

WINDOW = 64
"""Exchanges that one profile is made of."""
LEAST = 16
"""With fewer there is no profile."""
_RUN = re.compile(rb"[^ \t\r\n\\,;]{256,}")
"""Encoded data stands in long runs without a space."""
_MILLI = 1000
_LARGE_BYTES = 4096


class Profile(Message, frozen=True, kw_only=True):
    """Five numbers about a run of exchanges, each in thousandths; large is odd."""

    entropy: Count
    """Compressed size over size of what went in and out, in all."""
    blobs: Count
    """Share of all bytes that stand in long runs without a space."""
    bulk: Count
    """Bytes in and out for each declared token of an answer, over 1024; the median exchange."""
    balance: Count
    """How alike the flows in and out are, weighted by how large they are."""
    beat: Count
    """How regular the times between exchanges are: 1000 is a clock."""


class Bounds(Message, frozen=True, kw_only=True):
    """Above which a number is odd, in thousandths, and how many odd ones make an alarm."""

    entropy: Count = 620
    blobs: Count = 350
    bulk: Count = 4000
    balance: Count = 550
    beat: Count = 850
    needed: Count = 2


def blob_bytes(body: bytes) -> int:
    """Return how many bytes of ``body`` stand in long runs without a space or a separator."""
    return sum(map(len, _RUN.findall(body)))


def profile(flows: Sequence[Flow]) -> Profile | None:
    """Return the profile of the newest exchanges, None if there are too few."""
    seen = flows[-WINDOW:]
    if len(seen) < LEAST:
        return None
    size = sum(flow.bytes_in + flow.bytes_out for flow in seen)
    packed = sum(flow.packed_in + flow.packed_out for flow in seen)
    return Profile(
        entropy=_milli(packed / max(size, 1)),
        blobs=_milli(sum(flow.blobs for flow in seen) / max(size, 1)),
        bulk=_milli(statistics.median(_bulk(flow) for flow in seen)),
        balance=_milli(statistics.median(_balance(flow) for flow in seen)),
        beat=_milli(_beat([flow.at_ms for flow in seen])),
    )


def odd(found: Profile, bounds: Bounds) -> tuple[str, ...]:
    """Return which numbers of a profile are odd, if enough of them are to be worth an alarm.

    Numbers about contents, ``entropy`` and ``blobs``, count as one: one implies the other.
    """
    above = tuple(
        name
        for name in Profile.__struct_fields__
        if getattr(found, name) > msgspec.structs.asdict(bounds)[name]
    )
    separate = len(above) - (1 if {"entropy", "blobs"} <= set(above) else 0)
    return above if separate >= bounds.needed else ()


def _bulk(flow: Flow) -> float:
    return (flow.packed_in + flow.packed_out) / max(flow.tokens, 1) / 1024


def _balance(flow: Flow) -> float:
    """Return how alike the compressed flows are, near 0 for what is small."""
    low, high = sorted((flow.packed_in, flow.packed_out))
    return low / max(high, 1) * (high / (high + _LARGE_BYTES))


def _beat(times_ms: Sequence[int]) -> float:
    """Return one less the relative spread of the times between exchanges, outliers left out."""
    ordered = sorted(times_ms)
    gaps = sorted(b - a for a, b in itertools.pairwise(ordered))
    kept = gaps[len(gaps) // 10 : len(gaps) - len(gaps) // 10]
    mean = statistics.fmean(kept)
    if mean < 1.0:
        return 0.0
    return max(0.0, 1.0 - statistics.pstdev(kept) / mean)


def _milli(value: float) -> int:
    return math.floor(_MILLI * value)
