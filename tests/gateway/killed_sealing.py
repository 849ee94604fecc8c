"""A process that seals and is killed at one step: a command of the TPM, or a write to the disk.

    python killed_sealing.py CONFIG WHAT STEP

Prints how many steps there were if it lives on. WHAT is ``enrol``, ``run`` or ``reseal``.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lydite import config
from lydite.gateway import settings
from lydite.gateway.sealing import enrolling, sealed
from lydite.tlog.store import LogStore
from lydite.tpm.transport import Socket

_count, _fatal = 0, int(sys.argv[3])


def fatal(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``step``, before which the process may be killed: after it is before the next."""

    def counted(*arguments: Any, **named: Any) -> Any:
        global _count
        _count += 1
        if _count == _fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **named)

    return counted


def main() -> None:
    """Do what was asked, and say in how many steps."""
    given = config.load(Path(sys.argv[1]), settings.Settings)
    Socket.transmit = fatal(Socket.transmit)  # type: ignore[method-assign]
    os.replace, os.fsync = fatal(os.replace), fatal(os.fsync)
    Path.replace = fatal(Path.replace)  # type: ignore[method-assign, assignment]
    if sys.argv[2] == "enrol":
        enrolling.enrol(given)
    else:
        run(given)
    sys.stdout.write(f"{_count}\n")


def run(given: settings.Settings) -> None:
    """Start, grow, seal, maybe for another version, and end in order."""
    opened = sealed.unlock(given)
    assert opened is not None
    signers = sealed.signers(given, opened)
    state = Path(given.state)
    log = LogStore.open(state / "log", given.origin, signers["log"])
    journal = sealed.open_journal(given, opened)
    opened.check(log, journal)
    log.append_durable([os.urandom(8)])
    opened.seal(log, journal)
    if sys.argv[2] == "reseal":
        opened.reseal("ab" * 32)
    log.append_durable([os.urandom(8)])
    log.publish()
    journal.close()
    log.close()
    opened.seal(log, journal, closed=True)
    opened.close()


if __name__ == "__main__":
    main()
