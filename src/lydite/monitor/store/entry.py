"""What is known of a stored trace besides its samples: labels, provenance, licence, sensors.

Frozen, and one spelling each, so that the name of a trace is the digest of what it is. Knows
nothing of files.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np

from lydite.errors import FormatError
from lydite.evidence.power.trace import Series, Trace
from lydite.messages.sensors import Report

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
MOST_MARKS = 100_000
LONGEST = 16 << 20
"""Bytes of an entry."""


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all that an entry is made of."""


class Mark(_Frozen, frozen=True, kw_only=True):
    """A span of the trace that somebody labelled."""

    start_ns: int
    end_ns: int
    name: Label


class Origin(_Frozen, frozen=True, kw_only=True):
    """Where a trace comes from, and what may be done with it."""

    source: Label
    """Who measured: a repository with its commit, a site, a monitor."""
    path: str = ""
    command: str = ""
    licence: Label
    redistribute: bool
    """Whether anything that is handed on may rest on it."""
    synthetic: bool = False
    """Whether samples were made up or transformed rather than measured."""


class Summary(_Frozen, frozen=True, kw_only=True):
    """One channel, in numbers."""

    channel: str
    samples: int
    mean: float
    low: float
    high: float
    period_s: float
    """Median step, 0 for one sample."""


class Entry(_Frozen, frozen=True, kw_only=True):
    """A stored trace."""

    version: Literal["lydite/trace/v1"] = "lydite/trace/v1"
    samples: Digest
    """SHA-256 of the file of columns."""
    device: Label
    start_ns: int
    duration_s: float
    channels: tuple[Summary, ...]
    labels: dict[Key, Label]
    marks: tuple[Mark, ...]
    origin: Origin
    sensors: Report | None
    counted: dict[str, int]
    """What intake mended, left out or noticed, by ``channel/fault``."""

    @property
    def name(self) -> str:
        """Return what the trace is stored under: equal traces have one name."""
        return hashlib.sha256(encode(self)).hexdigest()[:32]


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A trace with what is known of it, before it is stored."""

    trace: Trace
    labels: Mapping[str, str]
    origin: Origin
    marks: tuple[Mark, ...] = ()
    sensors: Report | None = None


def describe(given: Labelled, samples: str) -> Entry:
    """Return the entry of a trace whose file of columns has the digest ``samples``.

    Raises:
        FormatError: a label or mark is not one; every trace names its session.
    """
    trace = given.trace
    if not given.labels.get("session"):
        raise FormatError("a trace without the session that it belongs to cannot be split fairly")
    if len(given.marks) > MOST_MARKS:
        raise FormatError(f"{len(given.marks)} marks on a trace, {MOST_MARKS} at most")
    if any(mark.end_ns < mark.start_ns for mark in given.marks):
        raise FormatError("a mark ends before it starts")
    entry = Entry(
        samples=samples,
        device=trace.device,
        start_ns=trace.start_ns,
        duration_s=(trace.end_ns - trace.start_ns) / 1e9,
        channels=tuple(_summary(name, trace.series[name]) for name in sorted(trace.series)),
        labels={key: given.labels[key] for key in sorted(given.labels)},
        marks=given.marks,
        origin=given.origin,
        sensors=given.sensors,
        counted={key: trace.counted[key] for key in sorted(trace.counted)},
    )
    return decode(encode(entry))


def encode(entry: Entry) -> bytes:
    """Return the one spelling of an entry."""
    return msgspec.json.encode(entry)


def decode(payload: bytes) -> Entry:
    """Parse an entry.

    Raises:
        FormatError: it is not one, or not in its one spelling.
    """
    if len(payload) > LONGEST:
        raise FormatError(f"entry: {len(payload)} bytes, {LONGEST} at most")
    try:
        entry = msgspec.json.decode(payload, type=Entry)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"entry: {error}") from error
    if encode(entry) != payload:
        raise FormatError("entry: not in canonical form")
    return entry


def _summary(name: str, series: Series) -> Summary:
    steps = np.diff(series.t_ns)
    return Summary(
        channel=name,
        samples=len(series.t_ns),
        mean=float(series.values.mean()),
        low=float(series.values.min()),
        high=float(series.values.max()),
        period_s=float(np.median(steps)) / 1e9 if len(steps) else 0.0,
    )
