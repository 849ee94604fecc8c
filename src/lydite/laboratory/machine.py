"""A machine with a power switch, made of one process: ``python -m lydite.laboratory.machine``.

``on`` starts a command that outlives whoever switched it on, as a machine does; ``off`` kills it
and all that it started, and returns when it is gone. For tests, the demo, and machines without a
management controller. Knows nothing of what the command serves.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE_S = 10.0


def on(place: Path, command: list[str]) -> None:
    """Start ``command``, unless it runs; its words go to ``place``.log."""
    if _running(place):
        return
    with place.with_suffix(".log").open("ab") as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
            close_fds=True,
        )
    place.write_text(f"{process.pid} {_started(process.pid)}\n")


def off(place: Path) -> None:
    """Kill what ``on`` started, and wait until it is gone.

    Raises:
        TimeoutError: it is still there.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (pid := _running(place)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.005)
    place.unlink(missing_ok=True)


def is_on(place: Path) -> bool:
    """Say whether what ``on`` started runs."""
    return _running(place) is not None


def _running(place: Path) -> int | None:
    """Return the process that ``place`` names, if that one still runs."""
    try:
        pid, started = place.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if started and _started(int(pid)) == started else None


def _started(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; nothing if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Switch a process as if it were a machine.")
    parser.add_argument("switch", choices=("on", "off", "status"), help="what to do")
    parser.add_argument("place", type=Path, help="file that remembers the process")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what runs while it is on")
    options = parser.parse_args()
    if options.switch == "on":
        on(options.place, options.command)
    elif options.switch == "off":
        off(options.place)
    else:
        sys.stdout.write("on\n" if is_on(options.place) else "off\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
