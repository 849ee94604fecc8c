"""Keylime's own samples, read in place where they are."""

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from lydite.errors import Refusal
from lydite.evidence.tpm import boot, events, refstate, runtime

VARIABLE = "LYDITE_THIRD_PARTY"
"""Names the folder of samples; else they are looked for beside the project."""
PLACES = [place / "shared" / "vectors" / "third-party" for place in Path(__file__).parents]
PLACES = [Path(os.environ[VARIABLE])] if VARIABLE in os.environ else PLACES
SAMPLES = next((place / "keylime" for place in PLACES if (place / "keylime").is_dir()), None)
LOGS = ("binary_bios_measurements", "binary_bios_measurements-secureboot")


@pytest.fixture(scope="module")
def samples() -> Path:
    if SAMPLES is None:
        pytest.skip(f"Keylime's samples are not beside the project ({VARIABLE})")
    return SAMPLES


@pytest.mark.parametrize("name", LOGS)
def test_a_boot_log_of_a_real_machine_holds_and_is_allowed_by_its_own_state(
    samples: Path, name: str
) -> None:
    log = boot.parse((samples / "create-mb-policy" / name).read_bytes())
    events.check(log, "sha256")
    state = refstate.parse(msgspec.json.encode(refstate.describe(log)))
    refstate.check([state], log, "sha256")


def test_neither_boot_is_allowed_by_the_others_state(samples: Path) -> None:
    logs = [boot.parse((samples / "create-mb-policy" / name).read_bytes()) for name in LOGS]
    states = [refstate.describe(log) for log in logs]
    for log, state in ((logs[0], states[1]), (logs[1], states[0])):
        with pytest.raises(Refusal):
            refstate.check([state], log, "sha256")


def test_a_runtime_policy_of_keylime_is_read(samples: Path) -> None:
    content = (samples / "runtime-policy-test.json").read_bytes()
    found = runtime.compile_policy([content], weak=True)
    assert len(found.files["boot_aggregate"]) == 1
    assert found.keyrings[".ima"]
    assert found.digest != hashlib.sha256(content).hexdigest()


def test_a_policy_in_sha1_allows_nothing_unless_it_is_said_to(samples: Path) -> None:
    content = (samples / "runtime-policy-test.json").read_bytes()
    assert not runtime.compile_policy([content]).hashed
    assert runtime.compile_policy([content], weak=True).hashed
