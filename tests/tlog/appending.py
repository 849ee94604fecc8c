"""A process that appends until it is killed, and tells each index only once it is durable."""

import os
import sys
from pathlib import Path

from lydite.signing.keys import Signer
from lydite.tlog.store import LogStore


def main() -> None:
    """Append ``<run> <number>`` for ever; print ``<index> <entry>`` for each."""
    path, run = Path(sys.argv[1]), int(sys.argv[2])
    LogStore.ROTATE_BYTES = 4000
    log = LogStore.open(path, "log.example/one", Signer(b"log key of 32 bytes, for tests 1"))
    os.write(1, b"ready\n")
    number = 0
    while True:
        batch = [b"%d %d" % (run, number + each) for each in range(1 + number % 7)]
        indices = log.append_durable(batch)
        told = b"".join(b"%d %s\n" % pair for pair in zip(indices, batch, strict=True))
        os.write(1, told)
        number += len(batch)
        if number % 5 == 0:
            log.publish()


if __name__ == "__main__":
    main()
