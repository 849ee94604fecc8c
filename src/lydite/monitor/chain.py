"""Whether a directory holds the segments that a monitor sealed, all of them, each as it was.

Reads and judges, offline, by the monitor's public key alone. A directory holds, for each segment,
``N.parquet`` (samples) and ``N.json`` (the sealed statement); ``open.json`` while a run goes on, or
after one that was killed; ``sensors-DIGEST.json``, the reports of self-checks.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.power.trace import Trace
from lydite.messages import segment as segments
from lydite.messages import sensors
from lydite.messages.canonical import Count, Message, decode
from lydite.messages.segment import Predicate, RunId, SegmentPointer
from lydite.monitor import columns
from lydite.signing.dsse import PublicKey, digest, key_id, open_envelope
from lydite.tlog import disk

OPEN = "open.json"
MAX_ENVELOPE_BYTES = 1 << 17
MAX_COLUMNS_BYTES = 1 << 28
MAX_REPORT_BYTES = 1 << 20
SUBJECT = "columns"


class Opened(Message, frozen=True, kw_only=True):
    """A run has begun, and nothing says yet that it ended on purpose."""

    run: RunId
    since_us: Count
    """Unix time."""


class Link(NamedTuple):
    """A sealed segment."""

    digest: bytes
    said: Predicate


class Health(NamedTuple):
    """What a whole chain says of itself."""

    segments: int
    samples: int
    runs: int
    lost: int
    """Segments that were opened and never sealed, of runs before the last."""
    counted: dict[str, int]
    devices: tuple[str, ...]
    unsealed: Opened | None
    """The run that goes on, or was killed."""
    last: Link


def statement_path(directory: Path, index: int) -> Path:
    """Return where a segment's statement lies."""
    return directory / f"{index:08d}.json"


def columns_path(directory: Path, index: int) -> Path:
    """Return where a segment's samples lie."""
    return directory / f"{index:08d}.parquet"


def sensors_path(directory: Path, report: str) -> Path:
    """Return where the report of a self-check lies, by its digest in hexadecimal."""
    return directory / f"sensors-{report}.json"


def verify_segment(
    envelope: bytes, samples: bytes, key: PublicKey, before: Link | None
) -> tuple[Link, columns.Content]:
    """Check one segment against the one before, and return it with its samples.

    1. The monitor signed the statement.
    2. It follows ``before``: next index, and that envelope's digest.
    3. Within one run time goes on; a run that follows another says how that one ended.
    4. The samples are the file that it names, in length and digest.
    5. They are as many as it says, of the devices and within the times that it says.

    Raises:
        FormatError: the statement or the samples are not in the one form that we write.
        VerificationError: any step fails.

    **Does not show** that the samples are what the sensors said, or that these told the truth: who
    holds the monitor's key can seal anything. Nor that no later segment was taken away.
    """
    # 1.
    statement = segments.parse(open_envelope(envelope, {key_id(key): key}, [key_id(key)]))
    said = statement.predicate
    # 2. and 3.
    _check_order(said, before)
    # 4.
    named = statement.subject[0].digest.sha256
    if len(samples) != said.length or hashlib.sha256(samples).hexdigest() != named:
        raise VerificationError(Reason.BROKEN_CHAIN, f"segment {said.index}: other samples")
    # 5.
    content = columns.decode(samples)
    _check_content(said, content)
    return Link(digest(envelope), said), content


def walk(directory: Path, key: PublicKey) -> Iterator[tuple[Link, columns.Content]]:
    """Verify the segments of a directory, from the first on.

    Raises:
        UnavailableError: there is none.
        FormatError, VerificationError: one is missing, altered, cut short or out of place.
    """
    found = False
    for linked in after(directory, key, None):
        found = True
        yield linked
    if not found:
        raise UnavailableError(f"{directory} holds no sealed segment")


def after(
    directory: Path, key: PublicKey, before: Link | None
) -> Iterator[tuple[Link, columns.Content]]:
    """Verify the segments that were sealed after ``before``, a verified one; ``None``: all.

    Raises:
        FormatError, VerificationError: one is missing, altered, cut short or out of place.
    """
    start = 0 if before is None else before.said.index + 1
    for index in range(start, len(indices(directory))):
        envelope = _read(statement_path(directory, index), MAX_ENVELOPE_BYTES)
        samples = _read(columns_path(directory, index), MAX_COLUMNS_BYTES)
        try:
            before, content = verify_segment(envelope, samples, key, before)
        except FormatError as error:
            raise FormatError(f"segment {index}: {error}", error.reason) from error
        _check_report(directory, before.said)
        yield before, content


def check(directory: Path, key: PublicKey) -> Health:
    """Verify every segment of a directory, and say what the chain says.

    Raises:
        UnavailableError: there is none.
        FormatError, VerificationError: one is missing, altered, cut short or out of place.

    **Does not show** more than ``verify_segment`` does of each.
    """
    counted: Counter[str] = Counter()
    runs: set[str] = set()
    devices: set[str] = set()
    samples = lost = 0
    last: Link | None = None
    for last, _ in walk(directory, key):
        counted.update({each.reason: each.count for each in last.said.counted})
        runs.add(last.said.run)
        devices.update(last.said.devices)
        samples += last.said.samples
        lost += last.said.lost is not None
    if last is None:
        raise UnavailableError(f"{directory} holds no sealed segment")
    return Health(
        segments=last.said.index + 1,
        samples=samples,
        runs=len(runs),
        lost=lost,
        counted=dict(sorted(counted.items())),
        devices=tuple(sorted(devices)),
        unsealed=opened(directory),
        last=last,
    )


def resolve(directory: Path, key: PublicKey, pointer: SegmentPointer) -> dict[str, Trace]:
    """Return what a pointer points at, by device, after the chain up to there was verified.

    Raises:
        VerificationError: no segment of that digest, or its times are others.
        UnavailableError: it has no samples there.
        FormatError: the chain is not in order.
    """
    for link, content in walk(directory, key):
        if link.digest.hex() != pointer.segment:
            continue
        said = link.said
        if not said.from_us <= pointer.from_us < pointer.to_us <= said.to_us:
            raise VerificationError(
                Reason.BROKEN_CHAIN, f"the pointer leaves the times of segment {said.index}"
            )
        found = columns.between(content, pointer.from_us * 1000, pointer.to_us * 1000)
        if not found:
            raise UnavailableError(f"segment {said.index} has no samples there")
        return columns.traces(found)
    raise VerificationError(Reason.BROKEN_CHAIN, "no segment of the chain has that digest")


def pointers(links: Sequence[Link], from_us: int, to_us: int) -> list[SegmentPointer]:
    """Return pointers to all that was sampled in ``[from_us, to_us)`` of Unix time.

    Recorded segments have no Unix time, so nothing of them is pointed at.
    """
    found = []
    for link in links:
        said = link.said
        if said.zero_us is None:
            continue
        start = max(said.from_us, from_us - said.zero_us)
        end = min(said.to_us, to_us - said.zero_us)
        if start < end:
            pointer = SegmentPointer(segment=link.digest.hex(), from_us=start, to_us=end)
            found.append(pointer)
    return found


def whole(link: Link) -> SegmentPointer:
    """Return a pointer to all of a segment, which needs no Unix time."""
    said = link.said
    return SegmentPointer(segment=link.digest.hex(), from_us=said.from_us, to_us=said.to_us)


def indices(directory: Path) -> list[int]:
    """Return the numbers of sealed segments, which have to be 0, 1, 2 ...

    Raises:
        VerificationError: one is missing.
    """
    found = sorted(int(p.stem) for p in directory.glob("[0-9]*.json") if p.stem.isdigit())
    for expected, index in enumerate(found):
        if index != expected:
            raise VerificationError(Reason.BROKEN_CHAIN, f"segment {expected} is missing")
    return found


def opened(directory: Path) -> Opened | None:
    """Return the run that was begun and not ended on purpose, if there is one."""
    data = disk.read(directory / OPEN)
    return None if data is None else decode(data, Opened, limit=1 << 12)


def _read(path: Path, limit: int) -> bytes:
    """Return a file of at most ``limit`` bytes: what a stranger's directory may make us hold."""
    with disk.failures(f"read {path.name}"):
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise VerificationError(Reason.BROKEN_CHAIN, f"{path.name} is missing") from error
    if len(data) > limit:
        raise FormatError(f"{path.name} is longer than {limit} bytes", Reason.TOO_LARGE)
    return data


def _check_order(said: Predicate, before: Link | None) -> None:
    index = 0 if before is None else before.said.index + 1
    digest_before = None if before is None else before.digest.hex()
    if said.index != index or said.previous != digest_before:
        raise VerificationError(
            Reason.BROKEN_CHAIN, f"segment {said.index} does not follow as segment {index}"
        )
    if before is None:
        return
    if said.run == before.said.run:
        if before.said.last or said.to_us < before.said.to_us:
            raise VerificationError(
                Reason.BROKEN_CHAIN, f"segment {index}: its run had ended, or time went back"
            )
    elif not before.said.last and said.lost is None:
        raise VerificationError(
            Reason.BROKEN_CHAIN, f"segment {index} hides how the run before it ended"
        )


def _check_content(said: Predicate, content: columns.Content) -> None:
    samples = sum(len(t_ns) for t_ns, _ in content.values())
    devices = {device for device, _ in content}
    if samples != said.samples or not devices <= set(said.devices):
        raise VerificationError(
            Reason.BROKEN_CHAIN,
            f"segment {said.index}: {samples} samples of {sorted(devices)},"
            f" {said.samples} of {list(said.devices)} stated",
        )
    columns.traces(content)
    for t_ns, _ in content.values():
        if t_ns[0] < said.from_us * 1000 or t_ns[-1] >= said.to_us * 1000:
            raise VerificationError(
                Reason.BROKEN_CHAIN, f"segment {said.index}: a sample from outside its times"
            )


def _check_report(directory: Path, said: Predicate) -> None:
    """Check that the self-check's report is there, and is the one that the segment names."""
    if said.selfcheck is None:
        return
    report = _read(sensors_path(directory, said.selfcheck), MAX_REPORT_BYTES)
    if hashlib.sha256(report).hexdigest() != said.selfcheck:
        raise VerificationError(
            Reason.BROKEN_CHAIN, f"segment {said.index}: the report of its self-check is another"
        )
    sensors.parse(report)


def as_json(link: Link) -> dict[str, object]:
    """Return what a statement says, as plain values."""
    return {"digest": link.digest.hex(), **msgspec.to_builtins(link.said)}
