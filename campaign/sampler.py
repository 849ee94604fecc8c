"""The power sampler: one process, one pinned core, one clock.

Reads NVML (or a fake of it) at fixed rates into preallocated arrays and writes three
Parquet files. Knows nothing of workloads: blocks are names with a start and an end.
It only reads; no call in this file changes a setting of the GPU.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
from backends import GPM_COLUMNS, SLOW_COLUMNS, make_backend

POWER_COLUMNS = (
    "t_nvml_us",
    "instant_mw",
    "average_mw",
    "energy_mj",
    "pcie_tx",
    "pcie_rx",
    "energy_us",
    "ring_mw",
)
VALUES = slice(1, 6)  # the columns whose change makes a row worth keeping
GPM_PERIOD_NS, SLOW_PERIOD_NS, RING_PERIOD_NS = 100_000_000, 500_000_000, 1_000_000_000
SIZE_LIMIT = 15 * 2**20
MAX_HZ = 1000


class Table:
    """A preallocated table of rows stamped in monotonic ns; what does not fit is counted."""

    def __init__(self, capacity, columns, dtype):
        self.time = np.zeros(capacity, np.int64)
        self.rows = np.full((capacity, len(columns)), -1, dtype)
        self.columns, self.count, self.dropped = columns, 0, 0

    def append(self, when, row):
        """Add a row, or count it as dropped."""
        if self.count == len(self.time):
            self.dropped += 1
            return
        self.time[self.count] = when
        self.rows[self.count, : len(row)] = row
        self.count += 1


class Sampler:
    """Polls a backend until told to stop."""

    def __init__(self, backend, seconds, default_hz):
        self.backend, self.hz, self.paused = backend, default_hz, False
        self.power = Table(int(seconds * MAX_HZ), POWER_COLUMNS, np.int64)
        self.call_us = np.zeros(len(self.power.time), np.float32)
        self.gpm = Table(int(seconds * 12), GPM_COLUMNS, np.float32)
        self.slow = Table(int(seconds * 3), SLOW_COLUMNS, np.int64)
        self.ring = Table(int(seconds * 250), ("t_nvml_us", "ring_mw"), np.int64)
        self.counts, self.gpm_failures = Counter(), 0

    def run(self, connection, handle):
        """Poll at the set rates; `handle` answers each command and returns False to end."""
        now = time.monotonic_ns()
        due, next_slow, next_ring, gpm_at = now, now, now, None
        while True:
            if self.paused or connection.poll():
                if not handle(connection):
                    return
                due, gpm_at = time.monotonic_ns(), None  # no GPM interval may span a pause
                continue
            before = time.monotonic_ns()
            row = self.guard("fields", self.backend.fields)
            after = time.monotonic_ns()
            if row is not None:
                self.call_us[min(self.power.count, len(self.call_us) - 1)] = (after - before) / 1e3
                self.power.append((before + after) // 2, row)
            if self.backend.has_gpm and (gpm_at is None or after - gpm_at >= GPM_PERIOD_NS):
                gpm_at = self.poll_gpm(gpm_at)
            if after >= next_slow:
                self.append_now(self.slow, self.guard("slow", self.backend.slow))
                next_slow = max(next_slow + SLOW_PERIOD_NS, after)
            if after >= next_ring:
                self.drain_ring()
                next_ring = max(next_ring + RING_PERIOD_NS, after)
            now = time.monotonic_ns()
            due = max(due + int(1e9 / self.hz), now)
            time.sleep((due - now) / 1e9)

    def poll_gpm(self, previous):
        """Close one GPM interval and open the next; returns the time of the new edge."""
        edge = self.guard("gpm sample", self.backend.gpm_sample)
        if edge is None:
            self.gpm_failures += 1
            self.backend.has_gpm = self.gpm_failures < 50
        elif previous is not None:
            metrics = self.guard("gpm metrics", self.backend.gpm_metrics)
            if metrics is not None:
                self.gpm.append(edge, ((edge - previous) / 1e6, *metrics))
        return edge

    def drain_ring(self):
        """Empty the driver's ring buffer."""
        to_monotonic = time.monotonic_ns() - time.time_ns()  # NVML stamps are wall-clock us
        for stamp_us, value_mw in self.guard("ring", self.backend.ring) or ():
            self.ring.append(stamp_us * 1000 + to_monotonic, (stamp_us, value_mw))

    def append_now(self, table, row):
        """Add a row stamped with the present."""
        if row is not None:
            table.append(time.monotonic_ns(), row)

    def guard(self, name, call):
        """Run one backend call; a failure is counted by kind, never raised."""
        try:
            return call()
        except Exception as error:  # NVML raises one class per code
            self.counts[f"{name}: {type(error).__name__} {error}"[:120]] += 1
            return None

    def statistics(self, blocks):
        """Account for every poll: per block made, missed, latest, updates, means."""
        return {
            "rows": {n: getattr(self, n).count for n in ("power", "gpm", "slow", "ring")},
            "dropped_full_buffer": {
                n: getattr(self, n).dropped for n in ("power", "gpm", "slow", "ring")
            },
            "errors": dict(self.counts) | dict(self.backend.errors),
            "cpu_seconds": round(time.process_time(), 3),
            "blocks": {name: self.block_statistics(t0, t1, hz) for name, t0, t1, hz in blocks},
        }

    def block_statistics(self, t0, t1, hz):
        """Account for the polls of one block."""
        first, last = np.searchsorted(self.power.time[: self.power.count], (t0, t1))
        if last - first < 3:
            return {
                "polls": int(last - first),
                "expected": 0 if hz == 0 else int((t1 - t0) * hz / 1e9),
            }
        when, rows = self.power.time[first:last], self.power.rows[first:last]
        gaps = np.diff(when) * (hz or 1) / 1e9
        call_us = self.call_us[first:last]
        found = {
            "polls": int(last - first),
            "expected": int((t1 - t0) * hz / 1e9),
            "missed": int(np.maximum(np.rint(gaps) - 1, 0).sum()),
            "late": int((gaps > 1.5).sum()),
            "max_gap_ms": round(float(np.diff(when).max() / 1e6), 2),
            "call_us_median": round(float(np.median(call_us)), 1),
            "call_us_p99": round(float(np.percentile(call_us, 99)), 1),
        }
        for column, name in ((1, "instant"), (2, "average"), (3, "energy")):
            changes = when[1:][np.diff(rows[:, column]) != 0]
            found[f"{name}_updates"] = len(changes)
            if len(changes) > 2:
                found[f"{name}_period_ms"] = round(float(np.median(np.diff(changes)) / 1e6), 2)
        if rows[:, 1].min() >= 0:
            found["instant_w"] = round(float(rows[:, 1].mean() / 1e3), 2)
        stepped = np.flatnonzero(np.diff(rows[:, 3])) + 1
        if rows[:, 3].min() >= 0 and len(stepped) > 2:
            a, b = stepped[0], stepped[-1]
            span_s = (when[b] - when[a]) / 1e9
            found["energy_w"] = round(float((rows[b, 3] - rows[a, 3]) / 1e3 / span_s), 2)
            if "instant_w" in found:
                held_w = float(
                    (rows[a:b, 1] * np.diff(when[a : b + 1])).sum() / (when[b] - when[a]) / 1e3
                )
                found["energy_over_power"] = (
                    round(found["energy_w"] / held_w, 4) if held_w else None
                )
        return found

    def write(self, out, lease, blocks, final):
        """Write power, gpm and slow; only rows whose values did not change may be left out."""
        power, ring, sizes = self.power, self.ring, {}
        block = block_index(power.time[: power.count], blocks)
        wide = np.full((ring.count, len(POWER_COLUMNS)), -1, np.int64)
        wide[:, (0, 7)] = ring.rows[: ring.count]
        for edges in (True, False):  # the row before a change goes only when space is short
            kept = changed_rows(power.rows[: power.count, VALUES], block, edges)
            when = np.concatenate([power.time[: power.count][kept], ring.time[: ring.count]])
            rows = np.concatenate([power.rows[: power.count][kept], wide])
            order = np.argsort(when, kind="stable")
            sizes["power"] = write_table(
                out / "power.parquet", lease, blocks, when[order], rows[order], POWER_COLUMNS, final
            )
            if sizes["power"] < SIZE_LIMIT:
                break
        for name in ("gpm", "slow"):
            table = getattr(self, name)
            n = table.count
            sizes[name] = write_table(
                out / f"{name}.parquet",
                lease,
                blocks,
                table.time[:n],
                table.rows[:n],
                table.columns,
                final,
            )
        return {"bytes": sizes, "power_rows_unchanged_left_out": int(power.count - kept.sum())}


def block_index(when, blocks):
    """Return the index of the block that holds each time, or -1 between blocks."""
    if not blocks:
        return np.full(len(when), -1)
    starts, ends = np.array([b[1] for b in blocks]), np.array([b[2] for b in blocks])
    index = np.searchsorted(starts, when, side="right") - 1
    return np.where((index >= 0) & (when <= ends[index]), index, -1)


def changed_rows(values, block, edges):
    """Return where a value changed or a block began or ended; with `edges`, the row before too."""
    if len(values) == 0:
        return np.zeros(0, bool)
    step, border = (np.diff(values, axis=0) != 0).any(axis=1), np.diff(block) != 0
    kept = np.ones(len(values), bool)
    kept[1:] = step | border
    kept[:-1] |= (step | border) if edges else border
    kept[-1] = True
    return kept


def write_table(path, lease, blocks, when, rows, columns, final):
    """Write rows as a Parquet file and return its size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.array([b[0] for b in blocks] + [""])
    index = np.where((i := block_index(when, blocks)) < 0, len(blocks), i).astype(np.int32)
    arrays = {
        "lease": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(when), np.int32)), pa.array([lease])
        ),
        "block": pa.DictionaryArray.from_arrays(pa.array(index), names),
        "t_mono_ns": pa.array(when),
    }
    floats = rows.dtype.kind == "f"
    for i, column in enumerate(columns):
        missing = np.isnan(rows[:, i]) if floats else rows[:, i] < 0
        arrays[column] = pa.array(np.ascontiguousarray(rows[:, i]), mask=missing)
    encoding = dict.fromkeys(columns, "BYTE_STREAM_SPLIT" if floats else "DELTA_BINARY_PACKED") | {
        "t_mono_ns": "DELTA_BINARY_PACKED"
    }
    level = 3 if not final else 19 if len(when) < 300_000 else 9
    partial = path.with_suffix(".partial")
    pq.write_table(
        pa.table(arrays),
        partial,
        compression="zstd",
        compression_level=level,
        use_dictionary=["lease", "block"],
        column_encoding=encoding,
    )
    partial.replace(path)
    return path.stat().st_size


def serve(connection, backend_name, seconds, hz, out, lease, core):
    """Pin, probe, poll; on a lost parent, write what is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if core is not None:
        os.sched_setaffinity(0, {core})
    backend = make_backend(backend_name)
    sampler, blocks = Sampler(backend, seconds, hz), []
    import pyarrow.parquet  # noqa: F401  loaded before the first poll, not in the middle of one

    connection.send(backend.capability())

    def handle(connection):
        nonlocal blocks
        try:
            command, *arguments = connection.recv()
        except EOFError:
            sampler.write(Path(out), lease, blocks, final=False)
            return False
        if command == "set":
            hz, sampler.paused, backend.load = arguments
            sampler.hz = min(hz, MAX_HZ)
            connection.send(time.monotonic_ns())
            return True
        blocks = arguments[0]
        final = command == "stop"
        if final and not sampler.paused:
            sampler.drain_ring()
        statistics = sampler.statistics(blocks)
        connection.send(statistics | sampler.write(Path(out), lease, blocks, final))
        return not final

    sampler.run(connection, handle)


class Client:
    """The runner's handle on the sampler process."""

    def __init__(self, backend, seconds, hz, out, lease):
        cores = sorted(os.sched_getaffinity(0))
        core = cores[0] if len(cores) > 1 else None
        self.connection, child = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(child, backend, seconds, hz, str(out), lease, core), daemon=True
        )
        self.process.start()
        child.close()
        if core is not None:  # the workload stays off the sampler's core
            os.sched_setaffinity(0, set(cores[1:]))
        self.core, self.hz = core, hz
        self.capability = self.answer(60)

    def answer(self, limit_s):
        """Wait for the sampler's answer."""
        if not self.connection.poll(limit_s):
            raise TimeoutError("the sampler does not answer")
        return self.connection.recv()

    def set(self, hz=None, paused=False, load=0.0):
        """Set rate, pause and load."""
        self.connection.send(("set", hz or self.hz, paused, load))
        return self.answer(20)

    def checkpoint(self, blocks):
        """Have the tables written."""
        self.connection.send(("checkpoint", blocks))
        return self.answer(30)

    def stop(self, blocks):
        """End the sampler and return its accounts."""
        self.connection.send(("stop", blocks))
        statistics = self.answer(60)
        self.process.join(10)
        return statistics
