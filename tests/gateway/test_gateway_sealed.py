"""Tamper means brick: sealed keys and state open on one machine, in one condition, and no copy."""

import asyncio
import json
import marshal
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lydite.appraisal.authority import Authority, Grant
from lydite.appraisal.trust import Anchor
from lydite.cli.main import main
from lydite.errors import ConfigurationError, Reason, SealError
from lydite.gateway.sealing import enrolment, sealed, standing
from lydite.messages.canonical import encode
from lydite.sampling import vrf
from lydite.signing import keys, notes
from lydite.tpm import counter, sealing
from lydite.tpm.commands import Tpm
from lydite.tpm.objects import Blob
from lydite.tpm.transport import connect
from tests.gateway.conftest import ORIGIN, Bench
from tests.gateway.raw_client import play
from tests.gateway.scripted_engine import chat, plain
from tests.gateway.sealed_machine import Machine, copy_of_package, flip

pytestmark = pytest.mark.outside
SLOW = pytest.mark.slow
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _needs_swtpm() -> None:
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("engine"), asyncio.new_event_loop())
    yield made
    made.close()


@pytest.fixture(scope="module")
def machine(engine: Bench) -> Iterator[Machine]:
    """A sealed gateway that has served and was stopped in order; each test leaves it like that."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    made = Machine(engine.engine.url)
    made.seal()
    running = made.start()
    for _ in range(3):
        play(running.port, plain(chat()))
    assert running.end() == 0
    yield made
    made.close()


@pytest.fixture
def fresh() -> Iterator[Machine]:
    """A sealed gateway that a test may ruin."""
    made = Machine(NOWHERE)
    made.seal()
    yield made
    made.close()


def test_it_starts_again_and_again_and_after_a_reboot_and_a_crash(machine: Machine) -> None:
    machine.works()
    machine.reboot()
    running = machine.start()
    play(running.port, plain(chat()))
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    machine.works()


@pytest.mark.slow
def test_no_key_lies_in_the_open(machine: Machine) -> None:
    running = machine.start()
    assert running.end() == 0
    for role, path in msgspec.structs.asdict(machine.settings.keys).items():
        assert keys.is_wrapped(Path(path)), role
        with pytest.raises(SealError) as caught:
            keys.load(Path(path))
        assert caught.value.reason is Reason.NOT_SEALED


@pytest.mark.slow
def test_a_copy_of_the_package_elsewhere_is_the_same_package(
    machine: Machine, tmp_path: Path
) -> None:
    source = copy_of_package(tmp_path)
    machine.works(source)
    machine.works(source)  # and with the compiled copies that the first start may have left


def test_one_changed_byte_of_the_program_is_refused_and_named(
    machine: Machine, tmp_path: Path
) -> None:
    source = copy_of_package(tmp_path)
    changed = source / "lydite" / "gateway" / "heads.py"
    text = changed.read_bytes()
    changed.write_bytes(text.replace(b" ", b"_", 1))  # in its docstring
    assert changed.read_bytes() != text
    assert "changed lydite/gateway/heads.py" in machine.refused("binary-changed", source)
    changed.write_bytes(text)
    (source / "lydite" / "extra.py").write_text("")
    assert "added lydite/extra.py" in machine.refused("binary-changed", source)
    (source / "lydite" / "extra.py").unlink()
    machine.works(source)


@pytest.mark.slow
def test_a_compiled_copy_that_is_not_its_source_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    source = copy_of_package(tmp_path)
    module = source / "lydite" / "gateway" / "heads.py"
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(module)], check=True)
    (compiled,) = (module.parent / "__pycache__").glob("heads.*.pyc")
    head = compiled.read_bytes()[:16]
    program = compile(module.read_text() + "\nEVIL = 1\n", str(module), "exec")
    compiled.write_bytes(head + marshal.dumps(program))
    assert "is not what heads.py compiles to" in machine.refused("binary-changed", source)


def test_another_setting_or_declaration_is_refused(machine: Machine) -> None:
    limits = msgspec.structs.replace(machine.settings.limits, sweep_ms=51)
    machine.configure(msgspec.structs.replace(machine.settings, limits=limits))
    said = machine.refused("settings-changed")
    assert "registers" not in said
    assert "program" not in said
    machine.configure(machine.settings)
    before = flip(Path(machine.settings.declaration))
    machine.refused("settings-changed")
    Path(machine.settings.declaration).write_bytes(before)
    machine.works()


@pytest.mark.parametrize(
    "some",
    [("device.json", "sealed.json", "log/wal", "journal/*"), pytest.param(("**/*",), marks=SLOW)],
)
def test_every_file_of_the_state_is_held_to_what_it_was(
    machine: Machine, some: tuple[str, ...]
) -> None:
    found = (path for pattern in some for path in sorted(machine.state.glob(pattern)))
    files = [path for path in found if path.is_file() and path.stat().st_size]
    assert len(files) >= 4
    for path in files:
        before = flip(path)
        said = machine.refused("state-changed")
        assert path.name in said, said
        path.write_bytes(before)
    added = machine.state / "log" / "added"
    added.write_text("")
    assert "added log/added" in machine.refused("state-changed")
    added.unlink()
    machine.works()


@pytest.mark.slow
def test_a_key_file_that_was_altered_swapped_or_laid_open_is_refused(machine: Machine) -> None:
    paths = [Path(path) for path in msgspec.structs.asdict(machine.settings.keys).values()]
    before = {path: path.read_text() for path in paths}
    digits = before[paths[0]]
    paths[0].write_text(digits[:-3] + ("0" if digits[-3] != "0" else "1") + digits[-2:])
    machine.refused("state-changed")
    paths[0].write_text(before[paths[1]])
    paths[1].write_text(before[paths[0]])
    machine.refused("state-changed")
    paths[1].write_text(before[paths[1]])
    paths[0].write_text("ab" * 32)
    assert "in the open" in machine.refused("not-sealed")
    paths[0].write_text(before[paths[0]])
    machine.works()


def test_an_old_copy_of_the_state_is_refused(machine: Machine, tmp_path: Path) -> None:
    shutil.copytree(machine.state, tmp_path / "old")
    machine.works()
    shutil.copytree(machine.state, tmp_path / "new")
    shutil.rmtree(machine.state)
    shutil.copytree(tmp_path / "old", machine.state)
    assert "an older copy" in machine.refused("rolled-back")
    shutil.rmtree(machine.state)
    machine.refused("not-sealed")
    shutil.copytree(tmp_path / "new", machine.state, dirs_exist_ok=True)
    machine.works()


@pytest.mark.slow
def test_after_a_crash_the_log_may_have_grown_and_not_shrunk(
    machine: Machine, tmp_path: Path
) -> None:
    machine.works()
    shutil.copytree(machine.state, tmp_path / "old")
    running = machine.start()
    play(running.port, plain(chat()))
    assert running.end() == 0
    running = machine.start()  # sealed at the start, with the entry of the last run
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    shutil.copytree(machine.state, tmp_path / "new")
    for part in ("log", "journal"):
        shutil.rmtree(machine.state / part)
        shutil.copytree(tmp_path / "old" / part, machine.state / part)
    assert "entries and had" in machine.refused("state-changed")
    for part in ("log", "journal"):
        shutil.rmtree(machine.state / part)
        shutil.copytree(tmp_path / "new" / part, machine.state / part)
    machine.works()


def test_another_platform_and_another_tpm_are_refused(machine: Machine) -> None:
    with connect(machine.software.address) as transport:
        Tpm(transport).pcr_extend(4, b"\1" * 32)
    assert "registers 4" in machine.refused("platform-changed")
    machine.reboot()
    machine.works()
    kept = machine.place / "tpm" / "state"
    machine.software.stop()
    kept.rename(kept.with_name("kept"))
    machine.software.start()
    machine.refused("other-tpm")
    machine.software.stop()
    shutil.rmtree(kept)
    machine.refused("tpm-unavailable")
    kept.with_name("kept").rename(kept)
    machine.software.start()
    machine.works()


@pytest.mark.slow
def test_while_it_runs_nobody_else_can_unseal(machine: Machine) -> None:
    running = machine.start()
    seal = enrolment.read(machine.state).seals[0]
    blob = Blob(bytes.fromhex(seal.public), bytes.fromhex(seal.private))
    with connect(machine.software.address) as transport, pytest.raises(SealError) as caught:
        sealing.unseal(Tpm(transport), blob, (*machine.tied.pcrs, 23))
    assert caught.value.reason is Reason.PLATFORM_CHANGED
    with pytest.raises(ConfigurationError, match="in use"):
        sealed.unlock(machine.settings)
    assert running.end() == 0


def test_a_counter_that_was_removed_is_missed(fresh: Machine) -> None:
    index = enrolment.read(fresh.state).index
    with connect(fresh.software.address) as transport:
        counter.undefine_space(Tpm(transport), index)
    fresh.refused("counter-lost")


@pytest.mark.slow
def test_an_old_copy_with_an_old_copy_of_the_tpm_shows_what_a_software_tpm_is_worth(
    fresh: Machine, tmp_path: Path
) -> None:
    """A TPM in hardware has no such copy: its counter and seeds cannot be read out."""
    shutil.copytree(fresh.state, tmp_path / "old")
    fresh.software.stop()
    shutil.copytree(fresh.place / "tpm" / "state", tmp_path / "tpm")
    fresh.software.start()
    fresh.works()
    fresh.software.stop()
    for old, place in (("old", fresh.state), ("tpm", fresh.place / "tpm" / "state")):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / old, place)
    fresh.software.start()
    fresh.works()  # rolled back, and nobody the wiser


@pytest.mark.slow
def test_the_tpms_memory_alone_set_back_is_noticed(fresh: Machine, tmp_path: Path) -> None:
    fresh.software.stop()
    place = fresh.place / "tpm" / "state"
    shutil.copytree(place, tmp_path / "tpm")
    fresh.software.start()
    fresh.works()
    fresh.software.stop()
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "tpm", place)
    fresh.software.start()
    assert "set back" in fresh.refused("counter-lost")


@pytest.mark.slow
def test_on_a_register_that_only_a_boot_resets_it_starts_once_a_boot() -> None:
    made = Machine(NOWHERE, pcr=15)
    try:
        made.seal()
        assert "reboot" in made.refused("already-used")
        made.reboot()
        made.works()
        made.refused("already-used")
    finally:
        made.close()


@pytest.mark.slow
def test_settings_without_a_device_use_no_sealed_key_and_the_other_way_round() -> None:
    made = Machine(NOWHERE)
    try:
        made.refused("not-sealed")
        assert not made.state.exists()
        made.seal()
        made.configure(msgspec.structs.replace(made.settings, device=None))
        assert "sealed to a device" in made.refused("not-sealed")
    finally:
        made.close()


@pytest.mark.slow
def test_a_gateway_that_is_sealed_late_keeps_its_log(engine: Bench) -> None:
    made = Machine(engine.engine.url)
    try:
        made.configure(msgspec.structs.replace(made.settings, device=None))
        running = made.start()
        play(running.port, plain(chat()))
        assert running.end() == 0
        made.configure(made.settings)
        made.seal()
        before = made.state / "log" / "wal"
        held = flip(before)
        assert "log/wal" in made.refused("state-changed")
        before.write_bytes(held)
        assert not (made.state / "vault.secret").exists()
        running = made.start()
        play(running.port, plain(chat()))
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        made.works()
        (made.state / "vault.secret").write_bytes(b"0" * 32)
        made.refused("state-changed")
    finally:
        made.close()


@pytest.mark.slow
def test_an_update_needs_the_officers_and_ends_the_old_version(
    engine: Bench, tmp_path: Path
) -> None:
    officers = {name: tmp_path / f"{name}.key" for name in ("ada", "bo")}
    authority = Authority(
        officers={name: keys.create(path).public.hex() for name, path in officers.items()},
        grants=(Grant(actions=("reseal",), officers=tuple(officers), threshold=2),),
    )
    made = Machine(engine.engine.url)
    made.settings = msgspec.structs.replace(made.settings, admin=authority, control_port=0)
    made.configure(made.settings)
    anchor = tmp_path / "anchor.json"
    anchor.write_bytes(encode(anchor_of(made)))
    try:
        made.seal()
        source = copy_of_package(tmp_path / "new")
        (source / "lydite" / "news.py").write_text('"""What the new version brings."""\n')
        made.refused("binary-changed", source)
        measured = json.loads(made.run("measure", source).stdout)["measurement"]
        running = made.start()
        order = str(tmp_path / "update.json")
        told = ["--anchor", str(anchor), "--key", str(officers["ada"]), "--why", "a release"]
        told += ["--set", f"measurement={measured}", "--out", order]
        assert main(["admin", "order", "reseal", *told]) == 0
        assert main(["admin", "send", order, *told[:2], "--to", running.control]) == 1, (
            "one is too few"
        )
        assert running.end() == 0
        made.refused("binary-changed", source)
        running = made.start()
        assert main(["admin", "agree", order, "--key", str(officers["bo"]), "--yes"]) == 0
        assert main(["admin", "send", order, *told[:2], "--to", running.control]) == 0
        assert running.end() == 0
        made.works()  # the old one, until the new one has started
        made.works(source)
        made.works(source)
        assert "missing lydite/news.py" in made.refused("binary-changed")
    finally:
        made.close()


def anchor_of(machine: Machine) -> Anchor:
    """Return the anchor of a gateway that is not sealed yet."""
    paths = msgspec.structs.asdict(machine.settings.keys)
    signers = {role: keys.load(Path(path)) for role, path in paths.items()}
    return Anchor(
        name=ORIGIN,
        provider_key=signers["provider"].public.hex(),
        gateway_key=signers["gateway"].public.hex(),
        vrf_key=vrf.public_key(signers["vrf"].seed()).hex(),
        log_vkey=str(notes.verifier_key(ORIGIN, signers["log"])),
    )


@pytest.mark.slow
def test_a_running_gateway_follows_no_settings_that_it_could_not_start_with(
    machine: Machine,
) -> None:
    running = machine.start()
    machine.configure(msgspec.structs.replace(machine.settings, log_level="debug"))
    running.process.send_signal(signal.SIGHUP)
    running.hear("reload refused: the keys are sealed to other settings")
    machine.configure(machine.settings)
    assert running.end() == 0


@pytest.mark.slow
def test_what_is_forged_into_the_journal_after_a_crash_is_not_logged(machine: Machine) -> None:
    """The log is completed from the journal, and the gateway signs what stands there."""
    running = machine.start()
    play(running.port, plain(chat()))
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    (segment,) = (machine.state / "journal").iterdir()
    before = segment.read_bytes()
    size = len(before)
    length = int.from_bytes(before[:4], "big")
    segment.write_bytes(before + before[: 4 + 16 + length])  # an old record, at a new place
    running = machine.start()
    assert running.end() == 0
    assert segment.stat().st_size == size, "what is not whole there is a torn tail"
    flip(segment, size - 10)
    assert "journal" in machine.refused("state-changed")
    segment.write_bytes(before)
    (segment.parent / "00000001.seg").write_bytes(b"")
    assert "journal" in machine.refused("state-changed")
    (segment.parent / "00000001.seg").unlink()
    machine.works()


@pytest.mark.slow
def test_nobody_makes_pairs_old_after_a_crash(machine: Machine) -> None:
    """The gateway signs that what it lets go was old, so how old things are is sealed."""
    running = machine.start()
    play(running.port, plain(chat()))
    time.sleep(2)  # it counts its age
    assert running.end() == 0
    sealed_ms = json.loads((machine.state / "sealed.json").read_bytes())["state"]["age_ms"]
    assert sealed_ms >= 1000
    running = machine.start()
    play(running.port, plain(chat()))
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    (machine.state / "vault" / "age").write_text(str(10**12))
    running = machine.start()
    time.sleep(2)  # it lets go of what is old
    assert running.end() == 0
    assert "pairs go" not in running.said
    assert "lost" not in running.said


@pytest.mark.slow
def test_a_gateway_that_cannot_seal_any_more_ends(engine: Bench) -> None:
    made = Machine(engine.engine.url, seal_every_s=1)
    try:
        made.seal()
        running = made.start()
        play(running.port, plain(chat()))
        made.software.stop()
        assert running.wait() == 2
        assert "tpm-unavailable" in running.said.splitlines()[-1]
        made.software.start()
        made.works()
    finally:
        made.close()


def test_the_state_is_bound_to_the_key_and_to_each_of_its_fields(tmp_path: Path) -> None:
    state = standing.State(count=1, keys={"log": "ab" * 32}, accepts=("cd" * 32,), age_ms=5)
    standing.write(tmp_path, state, b"k" * 32)
    assert standing.read(tmp_path, b"k" * 32) == state
    with pytest.raises(SealError):
        standing.read(tmp_path, b"l" * 32)
    content = json.loads((tmp_path / standing.NAME).read_bytes())
    for name in content["state"]:
        changed = {**content["state"], name: {"age_ms": 6, "count": 2, "v": 2}.get(name)}
        text = json.dumps({**content, "state": changed}, sort_keys=True, separators=(",", ":"))
        if changed == content["state"]:
            continue
        (tmp_path / standing.NAME).write_text(text)
        with pytest.raises(SealError) as caught:
            standing.read(tmp_path, b"k" * 32)
        assert caught.value.reason is Reason.STATE_CHANGED


def test_derived_keys_are_those_of_rfc_5869(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    other = HKDF(hashes.SHA256(), 32, b"lydite/device/v1", b"vault")
    assert enrolment.derive(b"s" * 32, "vault") == other.derive(b"s" * 32)
    assert enrolment.derive(b"s" * 32, "vault") != enrolment.derive(b"s" * 32, "state")
