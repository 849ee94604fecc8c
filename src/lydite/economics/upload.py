"""How long the upload of a model takes, from measured rates, and what can be done in that time.

A gateway hashes while it takes in, so the slower of link and hash decides; hashing afterwards would
add both. Knows nothing of models but their size, and of rates but what was measured.
"""

from typing import Annotated, NamedTuple

import msgspec

from lydite.errors import ConfigurationError, FormatError

TERABYTE = 1_000_000_000_000
_BITS_PER_GIGABIT = 1_000_000_000
_UNITS = {"B/s": 1.0, "MB/s": 1e6, "GB/s": 1e9, "MiB/s": 2.0**20, "GiB/s": 2.0**30}


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What is uploaded over what. ``hash_rate`` in bytes a second, as measured."""

    size: Annotated[int, msgspec.Meta(description="bytes of the model's weights")] = TERABYTE
    link: Annotated[float, msgspec.Meta(description="gigabits a second of the link")] = 100.0
    hash_rate: Annotated[float, msgspec.Meta(description="bytes a second that are hashed")]
    servers_per_link: Annotated[
        int, msgspec.Meta(description="servers that load at once over one link")
    ] = 1
    reload_hours: Annotated[
        float, msgspec.Meta(description="hours from one forced reload to the next")
    ] = 24.0


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one upload; ``lost`` is the share of time that reloading takes from serving."""

    link_s: float
    hash_s: float
    streamed_s: float
    afterwards_s: float
    bound: str
    lost: float


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A rate of hashing that somebody measured, in bytes a second."""

    name: str
    bytes_per_s: float


def times(upload: Upload) -> Times:
    """Return how long the upload takes.

    Raises:
        ConfigurationError: an input is not above zero.
    """
    for name, value in msgspec.structs.asdict(upload).items():
        if value <= 0:
            raise ConfigurationError(f"{name} is {value}, and has to be above zero")
    link = upload.size * 8 * upload.servers_per_link / (upload.link * _BITS_PER_GIGABIT)
    hashing = upload.size / upload.hash_rate
    streamed = max(link, hashing)
    return Times(
        link_s=link,
        hash_s=hashing,
        streamed_s=streamed,
        afterwards_s=link + hashing,
        bound="link" if link >= hashing else "hash",
        lost=min(1.0, streamed / (upload.reload_hours * 3600)),
    )


class _Row(msgspec.Struct):
    metric: str
    ours: float | None
    unit: str
    peer: float | None = None
    peer_name: str | None = None


class _Results(msgspec.Struct):
    rows: list[_Row]


def rates(results: bytes) -> tuple[Rate, ...]:
    """Return the rates of hashing in a benchmark's results: rows about hashing, in bytes a second.

    Raises:
        FormatError: not a benchmark's results.
    """
    try:
        rows = msgspec.json.decode(results, type=_Results).rows
    except msgspec.DecodeError as error:
        raise FormatError(f"benchmark: {error}") from error
    found = []
    for row in rows:
        if row.unit not in _UNITS or "hash" not in row.metric:
            continue
        if row.ours:
            found.append(Rate(name=row.metric, bytes_per_s=row.ours * _UNITS[row.unit]))
        if row.peer and row.peer_name:
            found.append(Rate(name=row.peer_name, bytes_per_s=row.peer * _UNITS[row.unit]))
    return tuple(found)


class Attack(NamedTuple):
    """Something that can be tried while a model is uploaded; ``remains`` is what nobody refuses."""

    name: str
    who: str
    how: str
    refused_by: str
    remains: str


ATTACKS = (
    Attack(
        "other weights",
        "whoever uploads",
        "sends an unlisted or altered model of the right size",
        "digest of every tensor against the signed whitelist; the power is cut at a mismatch",
        "the server holds the bytes until the power is gone",
    ),
    Attack(
        "an older listed model",
        "whoever uploads",
        "loads a version that was whitelisted once and withdrawn",
        "the whitelist's signed changes, in the log, are the list in force",
        "a withdrawal that has not reached the gateway yet",
    ),
    Attack(
        "all but the last byte",
        "whoever uploads",
        "stops short of S bytes, to stay where nothing is recorded",
        "no answer leaves before SERVING; the upload has a deadline, and its end is in the log",
        "the time until the deadline",
    ),
    Attack(
        "one byte too many",
        "whoever uploads",
        "hides input behind the weights",
        "the counter ends the mode at exactly S bytes, and what follows is a request",
        "nothing of it",
    ),
    Attack(
        "work in the meantime",
        "the server",
        "goes on computing for somebody else, with what it kept from before",
        "memory is wiped with the power; a server has no disk; the link takes weights only",
        "work that needs no input and hands over no output; power sensors see that it runs",
    ),
    Attack(
        "output while loading",
        "the server",
        "sends data out on the path of the upload",
        "UPLOAD passes bytes one way; acknowledgements are the gateway's own",
        "the pace at which the server takes bytes in: see the egress meter",
    ),
    Attack(
        "swap after the check",
        "the server",
        "exchanges weights once their digest was accepted",
        "recomputation of drawn answers",
        "pairs served before the first that is drawn: see coverage",
    ),
    Attack(
        "choice among equals",
        "whoever uploads",
        "encodes a message in tensor order, metadata or padding of equal weights",
        "the manifest fixes the bytes of every file, not only of the tensors",
        "which listed model is loaded, and when: a few bits an upload",
    ),
    Attack(
        "roll the counter back",
        "who holds the gateway",
        "restores a state in which fewer bytes were counted",
        "the counter is volatile: losing power loses the upload, and begins another",
        "physical access to a running device: seals and cameras",
    ),
    Attack(
        "edit the whitelist meanwhile",
        "an administrator",
        "lists the model that is under way",
        "k of n signatures, in the log before it takes effect",
        "k administrators together, seen by everybody",
    ),
    Attack(
        "listen",
        "who holds the link",
        "copies the weights in transit",
        "encryption of the link; hashing does not hide anything",
        "size and time of the upload",
    ),
    Attack(
        "never let it finish",
        "who holds the link",
        "breaks the upload near its end, again and again",
        "nothing: it costs availability, and no wrong model is served",
        "one upload's time for each attempt",
    ),
)
"""What can be done during an upload, by whom, and what refuses it."""
