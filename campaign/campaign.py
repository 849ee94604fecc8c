"""Runs one part of a power measurement campaign on one GPU.

Takes blocks from `workloads`, runs them in a seeded random order beside the sampler, and
leaves five files. Knows how to keep time and accounts; knows nothing of what a block
computes, and never changes a setting of the GPU.
"""

import time

STARTED_NS = time.monotonic_ns()  # the wall budget counts from here

import argparse  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import sampler  # noqa: E402
import schedule  # noqa: E402
from records import Events, clock, code_hashes, digest, git_commit, versions  # noqa: E402

GAP_S, STEADY_AFTER_S, SETUP_LIMIT_S, OVERRUN_S = 3.0, 2.0, 75.0, 25.0
CLOSING_S = 15.0  # kept for writing the files
WATCHDOG_S = 12.0  # past the budget, the files are written without the workload's consent
CHECKPOINT_S = 60.0
OUTPUTS = ("power.parquet", "gpm.parquet", "slow.parquet", "events.parquet")


class OutOfTime(BaseException):
    """A limit of time ran out; a BaseException, so that no workload swallows it."""


class Stopped(BaseException):
    """Somebody asked the whole campaign to end."""


@contextmanager
def time_limit(seconds):
    """Raise OutOfTime in this thread when `seconds` have passed."""

    def ring(signum, frame):
        raise OutOfTime(f"limit of {seconds:.1f} s")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def free_gpu_memory():
    """Return what the block held; raises where the CUDA context is lost."""
    gc.collect()
    if (cupy := sys.modules.get("cupy")) is not None and hasattr(cupy, "get_default_memory_pool"):
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()
    return 0


class Campaign:
    """One command: a sampler, blocks in order, files at the end."""

    def __init__(self, arguments):
        self.arguments, self.out = arguments, Path(arguments.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.deadline_ns = STARTED_NS + int(arguments.seconds * 1e9)
        self.events, self.windows, self.sampler, self.running = Events(), [], None, None
        self.checkpointed, self.closing = time.monotonic(), threading.Lock()
        self.manifest = {
            "lease": arguments.lease,
            "part": arguments.part,
            "seed": arguments.seed,
            "dry_run": arguments.dry_run,
            "command": " ".join(["python3", Path(sys.argv[0]).name, *sys.argv[1:]]),
            "git_commit": git_commit(),
            "code_sha256": code_hashes(),
            "versions": versions(),
            "steady_after_s": STEADY_AFTER_S,
            "gap_s": gap_s(arguments),
            "clock_start": clock(),
            "blocks": [],
            "not_run": [],
            "status": "running",
        }

    def remaining_s(self):
        """Return the seconds that are left of the budget."""
        return (self.deadline_ns - time.monotonic_ns()) / 1e9

    def start_sampler(self):
        """Start the sampling process and the watchdog."""
        backend = self.arguments.backend or ("fake" if self.arguments.dry_run else "nvml")
        lease = self.arguments.lease
        self.sampler = sampler.Client(
            backend, self.arguments.seconds + 60, self.arguments.hz, self.out, lease
        )
        self.manifest["gpu"], self.manifest["sampler_core"] = (
            self.sampler.capability,
            self.sampler.core,
        )
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """End the command in time even when a kernel hangs."""
        time.sleep(max(0.0, self.remaining_s() + WATCHDOG_S))
        if self.closing.acquire(timeout=20):
            if self.running:
                name, begin, hz = self.running
                self.windows.append((name, begin, time.monotonic_ns(), hz))
                self.manifest["blocks"][-1]["status"] = "hung"
            self.finish("watchdog: the workload did not give control back")
        os._exit(4)

    def run(self, blocks):
        """Run the blocks in order, as far as time allows."""
        used = {}
        for order, block in enumerate(blocks):
            used[block.name] = used.get(block.name, 0) + 1
            name = block.name if used[block.name] == 1 else f"{block.name}#{used[block.name]}"
            needed = block.seconds + CLOSING_S + 3
            if self.remaining_s() < needed:
                self.skip(
                    name, block, f"{needed:.0f} s needed, {max(self.remaining_s(), 0):.0f} s left"
                )
                continue
            entry = {
                "block": name,
                "order": order,
                "seconds_planned": block.seconds,
                "labels": block.labels,
            }
            self.manifest["blocks"].append(entry)
            self.run_block(block, name, entry)
            self.write_manifest()
            print(f"{name}: {entry['status']}, {self.remaining_s():.0f} s left", flush=True)
            if entry["status"] == "context lost":
                for rest in blocks[order + 1 :]:
                    self.skip(rest.name, rest, "CUDA context lost in " + name)
                return

    def skip(self, name, block, reason):
        """Note a block that is not run, and why."""
        self.manifest["not_run"].append(
            {"block": name, "seconds": block.seconds, "labels": block.labels, "reason": reason}
        )

    def run_block(self, block, name, entry):
        """Set up, measure, close, free, rest; whatever happens inside is only recorded."""
        labels, work = block.labels or {}, None
        self.events.block = name
        setup_ns = time.monotonic_ns()
        begin = end = None
        try:
            with time_limit(min(SETUP_LIMIT_S, self.remaining_s() - block.seconds - CLOSING_S)):
                work = block.make()
            self.events.emit("setup", t0=setup_ns)
            off = labels.get("sampler") == "off"
            hz = int(labels.get("poll_hz") or self.sampler.hz)
            self.sampler.set(hz, paused=off, load=0.0 if "idle" in name else 1.0)
            begin = time.monotonic_ns()
            self.running = (name, begin, 0 if off else hz)
            stop_ns = begin + int(block.seconds * 1e9)
            with time_limit(min(block.seconds + OVERRUN_S, self.remaining_s() - CLOSING_S / 2)):
                steps = 0
                while time.monotonic_ns() < stop_ns:
                    work.step(self.events.emit)
                    steps += 1
            entry |= {"status": "ok", "steps": steps}
        except (Exception, OutOfTime) as error:
            entry |= {
                "status": "error",
                "error": f"{type(error).__name__}: {error}"[:500],
                "during": "steps" if begin else "set-up",
                "traceback": traceback.format_exc()[-1500:],
            }
        finally:
            end, self.running = time.monotonic_ns(), None
            if begin:
                self.sampler.set()
                self.windows.append((name, begin, end, 0 if off else hz))
                self.events.emit("block", t0=begin, t1=end)
                entry |= {
                    "t0_mono_ns": begin,
                    "t1_mono_ns": end,
                    "poll_hz": 0 if off else hz,
                    "steady_from_mono_ns": begin + int(STEADY_AFTER_S * 1e9),
                }
            entry["setup_s"] = round(((begin or end) - setup_ns) / 1e9, 3)
        try:
            with time_limit(20):
                if work is not None:
                    work.close()
                del work
                entry["gpu_bytes_left"] = free_gpu_memory()
        except (Exception, OutOfTime) as error:
            entry["close_error"] = f"{type(error).__name__}: {error}"[:500]
        if not context_alive():
            entry["status"] = "context lost"
        rest_ns = time.monotonic_ns()
        time.sleep(max(0.0, min(gap_s(self.arguments), self.remaining_s() - CLOSING_S)))
        self.events.emit("gap", t0=rest_ns)
        if (
            time.monotonic() - self.checkpointed > CHECKPOINT_S
            and self.remaining_s() > CLOSING_S + 5
        ):
            self.sampler.checkpoint(self.windows)
            self.events.write(self.out / "events.parquet", self.arguments.lease)
            self.checkpointed = time.monotonic()

    def finish(self, status):
        """Stop the sampler and write everything; each output in its own attempt."""
        self.manifest |= {
            "status": status,
            "clock_end": clock(),
            "events_dropped": self.events.dropped,
        }
        try:
            if self.sampler is not None:
                self.manifest["sampling"] = self.sampler.stop(self.windows)
        except Exception as error:  # files and manifest are written whatever failed
            self.manifest["sampling_error"] = f"{type(error).__name__}: {error}"
            self.sampler.process.kill()
        try:
            self.events.write(self.out / "events.parquet", self.arguments.lease)
        except Exception as error:  # as above
            self.manifest["events_error"] = f"{type(error).__name__}: {error}"
        for partial in self.out.glob("*.partial"):
            partial.unlink()
        present = [self.out / n for n in OUTPUTS if (self.out / n).exists()]
        self.manifest["files"] = {
            p.name: {"bytes": p.stat().st_size, "sha256": digest(p)} for p in present
        }
        self.manifest["too_large"] = [
            p.name for p in present if p.stat().st_size > sampler.SIZE_LIMIT
        ]
        self.manifest["wall_s"] = round((time.monotonic_ns() - STARTED_NS) / 1e9, 2)
        self.write_manifest()

    def write_manifest(self):
        """Write the manifest whole."""
        text = json.dumps(self.manifest, indent=1, default=str, sort_keys=False)
        partial = self.out / "manifest.partial"
        partial.write_text(text)
        partial.replace(self.out / "manifest.json")


def gap_s(arguments):
    """Return the rest between blocks: hardly any in a rehearsal."""
    return 0.1 if arguments.dry_run else GAP_S


def context_alive():
    """Return whether CUDA still answers."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return True
    except Exception:  # whatever it raises, the context does not answer
        return False


def parse(argv):
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lease", default="A", help="also the name of the session in every row, e.g. A or A-2"
    )
    parser.add_argument("--part", default="A0", help="A0 A1 A2 A4 A3, B0 ...; several as A0,A1")
    parser.add_argument(
        "--seconds", type=float, default=560, help="total wall budget, start to end"
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hz", type=int, default=100, help="polling rate of power")
    parser.add_argument("--only", help="comma-separated patterns of block names")
    parser.add_argument(
        "--resume", help="an earlier manifest.json: its finished blocks are left out"
    )
    parser.add_argument(
        "--backend",
        choices=("nvml", "fake", "fake-nogpm"),
        help="the fake unless this is a real run",
    )
    parser.add_argument("--dry-run", action="store_true", help="short blocks, fake sensor, no GPU")
    parser.add_argument(
        "--check", action="store_true", help="only test that a GEMM burst moves power"
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Run a campaign and return the exit code."""
    arguments = parse(argv)

    def stop(signum, frame):
        raise Stopped(signal.Signals(signum).name)

    signal.signal(signal.SIGTERM, stop)
    campaign, status = Campaign(arguments), "complete"
    try:
        campaign.start_sampler()
        blocks = schedule.planned(arguments)
        campaign.manifest["order"] = [b.name for b in blocks]
        campaign.run(blocks)
    except (Exception, KeyboardInterrupt, Stopped, OutOfTime) as error:
        status = f"ended early: {type(error).__name__}: {error}"
        campaign.manifest["traceback"] = traceback.format_exc()[-2000:]
    with campaign.closing:
        campaign.finish(status)
        if arguments.check:
            verdict = schedule.check_verdict(
                campaign.manifest.get("sampling", {}).get("blocks", {})
            )
            campaign.manifest["check"] = verdict
            campaign.write_manifest()
            print(
                "check",
                "passed" if verdict["power_moves"] and verdict["energy_usable"] else "FAILED",
                verdict,
            )
            return 0 if verdict["power_moves"] and verdict["energy_usable"] else 1
    print(status, json.dumps(campaign.manifest["files"]))
    return 0 if status == "complete" else 2


if __name__ == "__main__":
    sys.exit(main())
