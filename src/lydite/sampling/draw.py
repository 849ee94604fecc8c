"""From one VRF output to the receipts that are audited, and to who audits them.

Integers and SHA-256 only, so that every outsider recounts the same set. Knows nothing of what a
receipt says.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

from lydite.errors import FormatError

MILLION = 1_000_000
BETA_BYTES = 64

_TAG = b"audit/v2"
_VALIDATOR = b"v"
_ALL = 2**64

T = TypeVar("T")


def alpha(
    origin: str,
    epoch: int,
    tree_size: int,
    pledge: bytes,
    beacon_round: int,
    randomness: bytes,
    entropy: bytes,
) -> bytes:
    """Return the input of the VRF for one epoch: 128 bytes and the log's origin.

    Only the origin has no fixed length, and what follows it has, so nothing needs a prefix.
    Nothing in it is chosen after the pledge is in the log: see decision 0015.

    Args:
        origin: the log's name, the first line of its checkpoints without the newline.
        epoch: the epoch's number.
        tree_size: how many entries it draws from up to: the entry of its pledge.
        pledge: the 32-byte SHA-256 of the pledge's statement, as the log's leaf has it.
        beacon_round: the number of the beacon round.
        randomness: the round's 32 bytes.
        entropy: the 32 bytes that the pledge committed to.

    Raises:
        FormatError: a part has the wrong size, or the origin is empty or more than one line.
    """
    if not origin or "\n" in origin:
        raise FormatError("the origin of a log is one line")
    lengths = [len(each) for each in (pledge, randomness, entropy)]
    if lengths != [32, 32, 32]:
        raise FormatError(f"pledge, randomness and entropy of {lengths} bytes: 32 each")
    return b"".join(
        (
            _TAG,
            origin.encode(),
            _u64(epoch),
            _u64(tree_size),
            pledge,
            _u64(beacon_round),
            randomness,
            entropy,
        )
    )


def threshold(epsilon_ppm: int) -> int:
    """Return floor(epsilon * 2^64) for ``epsilon_ppm`` parts per million, in integers.

    A million parts give 2^64, one more than eight bytes hold: every receipt is drawn.

    Raises:
        FormatError: the rate lies outside 0 to 1,000,000.
    """
    if not 0 <= epsilon_ppm <= MILLION:
        raise FormatError(f"an audit rate of {epsilon_ppm} parts per million")
    return (epsilon_ppm << 64) // MILLION


def selected(beta: bytes, index: int, epsilon_ppm: int) -> bool:
    """Say whether entry ``index`` is drawn.

    Args:
        beta: the epoch's 64-byte VRF output.
        index: the entry's number in the log, counted from 1 (its leaf index plus 1).
        epsilon_ppm: the audit rate in parts per million.
    """
    _check(beta, index)
    ticket = int.from_bytes(sha256(beta + _u64(index)).digest()[:8])
    return ticket < threshold(epsilon_ppm)


def draw(beta: bytes, first: int, last: int, epsilon_ppm: int) -> list[int]:
    """Return, in order, every entry from ``first`` to ``last`` that ``selected`` selects.

    Both ends are included and counted from 1; an epoch over (previous size, size] is drawn with
    ``first`` = previous size + 1 and ``last`` = size. ``last`` = ``first`` - 1 is an empty epoch.

    Raises:
        FormatError: the range is not one, or ``selected`` would refuse its entries.
    """
    _check(beta, first)
    if not first - 1 <= last < _ALL:
        raise FormatError(f"entries {first} to {last} are no range")
    limit = threshold(epsilon_ppm)
    if limit == _ALL:
        return list(range(first, last + 1))
    # Bytes compare as the big-endian numbers do, and a digest that starts with the bound is longer
    # than it, hence not below it: no digest is turned into a number.
    bound, start = _u64(limit), sha256(beta).copy
    drawn = []
    for index in range(first, last + 1):
        ticket = start()  # beta is one block of SHA-256, compressed once for all entries
        ticket.update(index.to_bytes(8))
        if ticket.digest() < bound:
            drawn.append(index)
    return drawn


def committee(beta: bytes, index: int, eligible: Sequence[T], wanted: int) -> tuple[T, ...]:
    """Return the ``wanted`` members of ``eligible`` that check entry ``index``, in order.

    The first steps of a Fisher-Yates shuffle. Each takes the first eight bytes of
    SHA-256(beta || index || "v" || j), j = 0, 1, 2 ..., skipping those that would favour somebody.

    Raises:
        FormatError: more are wanted than are eligible, or ``selected`` would refuse the entry.
    """
    _check(beta, index)
    if not 0 <= wanted <= len(eligible):
        raise FormatError(f"{wanted} validators wanted of {len(eligible)}")
    members, counter = list(eligible), 0
    for place in range(wanted):
        share = _ALL // (len(members) - place)
        while True:
            digest = sha256(beta + _u64(index) + _VALIDATOR + _u64(counter)).digest()
            counter += 1
            step = int.from_bytes(digest[:8]) // share
            if step < len(members) - place:
                break
        members[place], members[place + step] = members[place + step], members[place]
    return tuple(members[:wanted])


def _u64(number: int) -> bytes:
    if not 0 <= number < _ALL:
        raise FormatError(f"{number} does not fit into eight bytes")
    return number.to_bytes(8)


def _check(beta: bytes, index: int) -> None:
    if len(beta) != BETA_BYTES:
        raise FormatError(f"a vrf output has {BETA_BYTES} bytes, this one {len(beta)}")
    if not 1 <= index < _ALL:
        raise FormatError(f"entries are counted from 1, and there is no entry {index}")
