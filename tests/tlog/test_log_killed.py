"""kill -9 in a loop, on a real process: no index that was told is lost, no entry is there twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import verification
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.store import LogStore

SIGNER = Signer(b"log key of 32 bytes, for tests 1")


def run_and_kill(path: Path, run: int, after_s: float) -> dict[int, bytes]:
    """Return what the process told before it was killed."""
    command = [sys.executable, str(Path(__file__).with_name("appending.py")), str(path), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        *lines, _torn = process.stdout.read().split(b"\n")
    told = {}
    for line in lines:
        index, _, entry = line.partition(b" ")
        told[int(index)] = entry
    return told


@pytest.mark.parametrize("rounds", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_no_entry_is_lost_or_doubled_by_killing_the_writer(tmp_path: Path, rounds: int) -> None:
    path, told, heads = tmp_path / "log", dict[int, bytes](), list[Checkpoint]()
    chance = random.Random(7)
    for run in range(rounds):
        now = run_and_kill(path, run, after_s=chance.uniform(0, 0.3))
        assert not told.keys() & now.keys()
        told |= now
        with LogStore.open(path, "log.example/one", SIGNER) as log:
            entries = [log.entry(index) for index in range(log.size)]
            assert {index: entries[index] for index in told} == told
            assert len(set(entries)) == len(entries)
            heads.append(checkpoints.parse(notes.parse(log.checkpoint()).text))
            for head in heads:
                proof = log.consistency_proof(head.size, log.size)
                verification.consistency(head.size, head.root, log.size, log.root(), proof)
    assert told
