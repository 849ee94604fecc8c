"""``lydite attest`` by hand: exit codes, what it names, and what it says of itself."""

import hashlib
import json
from pathlib import Path

import pytest

from lydite.cli.main import main
from lydite.evidence.tpm import boot, claims
from lydite.messages.canonical import encode
from tests.evidence.tpm.machine import (
    BIOS,
    ENGINE,
    FILES,
    NOW,
    Machine,
    challenge,
    encode_log,
    entry,
    event,
    good_state,
    runtime,
)


def written(place: Path, machine: Machine) -> list[str]:
    """Write what a verifier has, and return the arguments that name it."""
    issued = challenge()
    contents = (good_state(), runtime())
    documents = {hashlib.sha256(each).hexdigest(): each for each in contents}
    files = {
        "evidence": claims.write(machine.claims(issued)),
        "reference": encode(machine.reference(documents)),
        "challenge": encode(issued),
        "boot.json": contents[0],
        "runtime.json": contents[1],
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    arguments = [str(place / "evidence"), "--at", str(NOW)]
    for option in ("reference", "challenge"):
        arguments += [f"--{option}", str(place / option)]
    return [
        *arguments,
        "--policy",
        str(place / "boot.json"),
        "--policy",
        str(place / "runtime.json"),
    ]


def test_a_good_machine_is_consistent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "checkpoint"
    assert main(["attest", "check", *written(tmp_path, Machine()), "--save", str(saved)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("✔ consistent: consistent\n")
    assert "does not show:" in said
    again = ["attest", "check", *written(tmp_path, Machine()), "--checkpoint", str(saved)]
    assert main([*again, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["measures"]["trust/executables"] == 2
    assert document["stale_s"] == 0


def test_an_exchanged_engine_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine()
    other = hashlib.sha256(b"other").digest()
    machine.records.append(entry(ENGINE, other))
    assert main(["attest", "explain", *written(tmp_path, machine)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("✘ inconsistent: ima.unknown-file\n")
    for word in (ENGINE, FILES[ENGINE].hex(), other.hex()):
        assert word in said


def test_a_refusal_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine()
    machine.changed = {("sha256", 7): hashlib.sha256(b"x").digest()}
    assert main(["attest", "check", *written(tmp_path, machine), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["reason"] == "boot.replay"
    assert "register 7" in document["where"]
    assert document["expected"] == machine.changed["sha256", 7].hex()


def test_a_hostile_name_does_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine()
    machine.records.append(entry("/usr/bin/\u202egnp.exe", hashlib.sha256(b"x").digest()))
    assert main(["attest", "explain", *written(tmp_path, machine)]) == 3
    assert "\u202e" not in capsys.readouterr().out


def test_garbage_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = written(tmp_path, Machine())
    (tmp_path / "evidence").write_bytes(b"garbage")
    assert main(["attest", "check", *arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "attest.wrapper"


def test_a_policy_that_is_missing_is_a_matter_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = written(tmp_path, Machine())
    assert main(["attest", "check", *arguments[:-2]]) == 2
    assert "(policy.missing)" in capsys.readouterr().err


def test_a_boot_is_described_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(BIOS)
    at = [*boot.parse(BIOS).events]
    bad.write_bytes(encode_log([*at[:20], event(1, 4, 0x80000003, b"evil"), *at[20:]]))
    assert main(["attest", "boot", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["has_secureboot"] is True
    assert main(["attest", "boot", str(good), "--against", str(good)]) == 0
    assert capsys.readouterr().out == "the same\n"
    assert main(["attest", "boot", str(bad), "--against", str(good), "--json"]) == 1
    assert "register 4" in json.loads(capsys.readouterr().out)["got"]
