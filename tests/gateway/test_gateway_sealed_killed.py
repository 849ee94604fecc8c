"""Killed at any step of sealing, a gateway starts again, and no older copy of it ever does."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lydite.signing import keys
from tests.gateway.sealed_machine import Machine, environment

pytestmark = pytest.mark.outside
SCRIPT = Path(__file__).with_name("killed_sealing.py")
NEVER = 1 << 30


@pytest.fixture
def machine() -> Iterator[Machine]:
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    made = Machine("http://127.0.0.1:1")
    yield made
    made.close()


def go(machine: Machine, what: str, step: int) -> int | None:
    """Do it, killed at a step; return the number of steps, or None if it was killed."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(machine.config), what, str(step)],
        env=environment(None),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, f"step {step}: {done.stderr}"
    return int(done.stdout)


def survive(machine: Machine, what: str, every: int) -> None:
    """Kill it at every so many steps; each time it does all of it at the next start."""
    steps = go(machine, what, NEVER)
    assert steps is not None
    assert steps > 30
    killed = 0
    for step in range(1, steps + 1, every):
        killed += go(machine, what, step) is None
    assert go(machine, what, NEVER) is not None
    assert killed * every >= steps * 2 // 3, "a start after a crash has fewer steps"


def test_killed_while_it_runs_it_starts_again(machine: Machine) -> None:
    assert go(machine, "enrol", NEVER)
    survive(machine, "run", 17)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ["run", "reseal"])
def test_killed_at_each_third_step_it_starts_again(machine: Machine, what: str) -> None:
    assert go(machine, "enrol", NEVER)
    survive(machine, what, 3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_each_step_of_its_first_sealing_no_key_is_lost(machine: Machine) -> None:
    paths = {
        role: Path(path) for role, path in msgspec.structs.asdict(machine.settings.keys).items()
    }
    public = {role: keys.load(path).public for role, path in paths.items()}
    kept = machine.place / "kept"
    shutil.copytree(machine.place / "gateway", kept)
    steps = go(machine, "enrol", NEVER)
    assert steps is not None
    for step in range(1, steps + 1, 5):
        shutil.rmtree(machine.place / "gateway")
        shutil.copytree(kept, machine.place / "gateway")
        assert go(machine, "enrol", step) is None
        machine.seal()
        done = machine.run("seal")
        assert msgspec.json.decode(done.stdout)["keys"] == {
            role: key.hex() for role, key in public.items()
        }
        assert all(keys.is_wrapped(path) for path in paths.values())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whatever_was_copied_before_is_refused_wherever_it_was_killed(
    machine: Machine, tmp_path: Path
) -> None:
    """The copy is two sealings old at least: one of them alone may look like a crash."""
    assert go(machine, "enrol", NEVER)
    steps = go(machine, "run", NEVER)
    assert steps is not None
    for step in range(steps // 2, steps + 1, 13):
        shutil.rmtree(tmp_path / "old", ignore_errors=True)
        shutil.copytree(machine.state, tmp_path / "old")
        assert go(machine, "run", NEVER)
        go(machine, "run", step)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        machine.state.rename(tmp_path / "new")
        shutil.copytree(tmp_path / "old", machine.state)
        machine.refused("rolled-back")
        shutil.rmtree(machine.state)
        (tmp_path / "new").rename(machine.state)
        assert go(machine, "run", NEVER), "the newest starts"
