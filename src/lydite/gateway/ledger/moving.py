"""Moves what is left in several segments of the vault into one, under another generation's key.

Until the old segments are removed there are two copies of each pair; a crash leaves them, and
``part`` takes one away. Decides nothing.
"""

import contextlib
import os
import threading
from collections.abc import Sequence

from lydite.errors import StorageError
from lydite.gateway.ledger import records
from lydite.gateway.ledger.generations import Generations
from lydite.gateway.ledger.segments import Segment, opened, read_record, write_all


def copy(
    old: Sequence[Segment], kept: Segment, generations: Generations, lock: threading.Lock
) -> list[int]:
    """Encipher the pairs that are left in ``old`` anew into ``kept``, durably, by entry.

    Returns the entries whose pairs were damaged and are not there. ``lock`` is held for each change
    of what ``kept`` says that it has, since others may read it meanwhile.

    Raises:
        OSError: the disk refused.
        StorageError: a generation has no key.
    """
    target = generations.cipher(kept.generation)
    left = sorted(
        (number, place) for place, each in enumerate(old) for number in each.numbers(0, each.last)
    )
    damaged = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(opened(each.path)) for each in old]
        writing = stack.enter_context(opened(kept.path))
        for number, place in left:
            segment = old[place]
            source = generations.cipher(segment.generation)
            try:
                exchange = source.open(read_record(files[place], segment.place(number) or 0))
            except StorageError:
                damaged.append(number)
                continue
            record = target.seal(exchange, os.urandom(records.SLOT_BYTES))
            write_all(writing, record, kept.end)
            with lock:
                kept.add(number, len(record))
        os.fdatasync(writing)
    return damaged


def part(earlier: Segment, later: Segment, generations: Generations) -> None:
    """Destroy the later of two copies of each pair, or the earlier if only the later can be read.

    That is one whose slot was half overwritten, which is done only after the later one is durable.

    Raises:
        OSError: the disk refused.
        StorageError: neither copy of a pair can be read.
    """
    for number in later.numbers(earlier.first, earlier.last):
        if earlier.place(number) is None:
            continue
        doomed = later
        try:
            _open(earlier, number, generations)
        except StorageError:
            _open(later, number, generations)
            doomed = earlier
        doomed.overwrite([doomed.place(number)])
        doomed.forget(number)


def _open(segment: Segment, number: int, generations: Generations) -> None:
    with opened(segment.path) as file:
        record = read_record(file, segment.place(number) or 0)
    generations.cipher(segment.generation).open(record)
