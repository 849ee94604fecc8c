"""What a campaign leaves beside the samples: its event log and where everything came from.

Knows no schedule and no sensor.
"""

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

MAX_EVENTS = 2_000_000


@dataclass
class Events:
    """Rows of the event log, on the sampler's clock."""

    block: str = ""
    rows: list = field(default_factory=list)
    dropped: int = 0

    def emit(self, kind, t0=None, t1=None, tokens=None, step=None, **extra):
        """Note an event."""
        if len(self.rows) >= MAX_EVENTS:
            self.dropped += 1
            return
        now = time.monotonic_ns()
        text = json.dumps(extra, default=str, sort_keys=True) if extra else None
        self.rows.append(
            (
                self.block,
                kind,
                now if t0 is None else int(t0),
                now if t1 is None else int(t1),
                None if tokens is None else int(tokens),
                None if step is None else int(step),
                text,
            )
        )

    def write(self, path, lease):
        """Write the log as Parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = list(self.rows)
        columns = list(zip(*rows, strict=True)) if rows else [()] * 7
        names = ("block", "kind", "t0", "t1", "tokens", "step", "extra")
        types = (pa.string(), pa.string(), *[pa.int64()] * 4, pa.string())
        table = {"lease": pa.array([lease] * len(rows), pa.string())}
        table |= {n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)}
        packed = dict.fromkeys(("t0", "t1", "tokens", "step"), "DELTA_BINARY_PACKED")
        pq.write_table(
            pa.table(table),
            path,
            compression="zstd",
            compression_level=12,
            use_dictionary=["lease", "block", "kind", "extra"],
            column_encoding=packed,
        )


def clock():
    """Return the present on both clocks."""
    return {
        "mono_ns": time.monotonic_ns(),
        "utc_ns": time.time_ns(),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def digest(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_hashes():
    """Return the digests of the campaign's own code."""
    return {p.name: digest(p) for p in sorted(Path(__file__).resolve().parent.glob("*.py"))}


def git_commit():
    """Return the commit of the checkout, if there is one."""
    try:
        call = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
        return subprocess.run(
            call, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions():
    """Return the versions of what the blocks run on."""
    found = {"python": sys.version.split()[0]}
    for name in (
        "torch",
        "triton",
        "transformers",
        "cupy",
        "cupy-cuda12x",
        "cupy-cuda13x",
        "nvidia-ml-py",
        "numpy",
        "pyarrow",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
