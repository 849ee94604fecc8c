"""How long the upload of a model takes, from measured rates, and what can be done in that time.

A gateway that keeps modes hashes while it takes in, so the slower of link and hash decides; hashing
afterwards would add both. The machine has no power until the last byte is right, and loads from the
gateway's store then, which takes its own time. Knows nothing of models but their size, and of rates
but what was measured.
"""

from typing import Annotated, NamedTuple

import msgspec

from lydite.errors import ConfigurationError, FormatError
from lydite.messages.canonical import UNREADABLE

TERABYTE = 1_000_000_000_000
_BITS_PER_GIGABIT = 1_000_000_000
_UNITS = {"B/s": 1.0, "MB/s": 1e6, "GB/s": 1e9, "MiB/s": 2.0**20, "GiB/s": 2.0**30}


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What is uploaded over what. ``hash_rate`` in bytes a second, as measured."""

    size: Annotated[int, msgspec.Meta(description="bytes of the model's weights")] = TERABYTE
    link: Annotated[float, msgspec.Meta(description="gigabits a second of the link")] = 100.0
    hash_rate: Annotated[float, msgspec.Meta(description="bytes a second that are hashed")]
    load_link: Annotated[
        float, msgspec.Meta(description="gigabits a second from the gateway's store to the machine")
    ] = 100.0
    servers_per_link: Annotated[
        int, msgspec.Meta(description="servers that load at once over one link")
    ] = 1
    reload_hours: Annotated[
        float, msgspec.Meta(description="hours from one forced reload to the next")
    ] = 24.0


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one upload: by link, by hash, both at once, in turn, and of the loading after.

    ``lost`` is the share of time that reloading takes from serving, loading included.
    """

    link_s: float
    hash_s: float
    streamed_s: float
    afterwards_s: float
    load_s: float
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
    streamed, load = max(link, hashing), upload.size * 8 / (upload.load_link * _BITS_PER_GIGABIT)
    return Times(
        link_s=link,
        hash_s=hashing,
        streamed_s=streamed,
        afterwards_s=link + hashing,
        load_s=load,
        bound="link" if link >= hashing else "hash",
        lost=min(1.0, (streamed + load) / (upload.reload_hours * 3600)),
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
    """Return the rates in a benchmark's results, each name once: rows in bytes a second.

    Raises:
        FormatError: not a benchmark's results.
    """
    try:
        rows = msgspec.json.decode(results, type=_Results).rows
    except UNREADABLE as error:
        raise FormatError(f"benchmark: {error}") from error
    found: dict[str, Rate] = {}
    for row in rows:
        for name, value in ((row.metric, row.ours), (row.peer_name, row.peer)):
            if row.unit in _UNITS and name and value and name not in found:
                found[name] = Rate(name=name, bytes_per_s=value * _UNITS[row.unit])
    return tuple(found.values())


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
        "a digest of every piece, and of every file against the signed whitelist: wrong-weights",
        "up to a piece of them (8 MiB) in the gateway's memory, which is emptied",
    ),
    Attack(
        "an older listed model",
        "whoever uploads",
        "loads a version that was whitelisted once and withdrawn",
        "the whitelist in force is what the log's signed instructions make it: not-listed",
        "a withdrawal that has not reached the gateway yet",
    ),
    Attack(
        "all but the last byte",
        "whoever uploads",
        "stops short of S bytes, to stay where nothing is recorded",
        "no answer leaves before SERVING; silence ends the upload: stalled, broken-off",
        "a trickle that never stalls keeps a machine that is off from being on",
    ),
    Attack(
        "one byte too many",
        "whoever uploads",
        "hides input behind the weights",
        "the length is fixed before the first byte; one more ends it: too-long",
        "nothing of it",
    ),
    Attack(
        "work in the meantime",
        "the machine",
        "goes on computing for somebody else, with what it kept from before",
        "it has no power while bytes come in, and its memory is wiped with the cut",
        "a cut that does not cut: analog power sensors see that it runs",
    ),
    Attack(
        "work while loading",
        "the machine",
        "computes between being switched on and serving",
        "its only data path is the gateway's, which passes the store's bytes only; a deadline",
        "work without input or output, for as long as loading may take",
    ),
    Attack(
        "swap after the check",
        "the machine",
        "exchanges weights once their digest was accepted",
        "it loads from the gateway's store; drawn answers are recomputed",
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
        "the counter is volatile: every start begins dark, with an upload from the first byte",
        "physical access to a running device: seals and cameras",
    ),
    Attack(
        "edit the whitelist meanwhile",
        "an officer",
        "lists the model that is under way",
        "k of n signatures, in the log before it takes effect",
        "k officers together, seen by everybody",
    ),
    Attack(
        "listen",
        "who holds the link",
        "copies the weights in transit",
        "TLS on the upload port, if the settings ask for it; hashing hides nothing",
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
"""What can be done during an upload, by whom, and what refuses it (words of ``/v1/mode``)."""
