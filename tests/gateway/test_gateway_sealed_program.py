"""A sealed gateway runs what was measured, and what could run is measured."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import lydite
from lydite.appraisal.authority import Authority, Grant
from lydite.cli.main import main
from lydite.gateway.sealing import measured
from lydite.gateway.settings import CommandPower, Modes
from lydite.messages.canonical import encode
from lydite.signing import keys
from tests.gateway.conftest import Bench, prepare
from tests.gateway.raw_client import play
from tests.gateway.scripted_engine import chat, plain
from tests.gateway.sealed_machine import COMMAND, Machine
from tests.gateway.test_gateway_sealed import anchor_of

OUTSIDE = pytest.mark.outside
SLOW = pytest.mark.slow
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "engine", asyncio.new_event_loop())
    yield made
    made.close()


@pytest.fixture
def machine(engine: Bench) -> Iterator[Machine]:
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    made = Machine(engine.engine.url)
    made.settings = msgspec.structs.replace(made.settings, control_port=0)
    made.configure(made.settings)
    yield made
    made.close()


def with_source(place: Path) -> dict[str, str]:
    """The environment in which what lies in ``place`` comes before anything installed."""
    home = Path(lydite.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{home}"}


def test_what_is_measured_is_what_the_package_asks_for() -> None:
    home = Path(__file__).parents[2]
    project = tomllib.loads((home / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["gateway"], *extras["telemetry"], *extras["upload"]]
    names = {re.split(r"[>=<\[]", each)[0].replace("_", "-").lower() for each in asked}
    assert names - {"lydite"} == set(measured._NEEDED)


@pytest.mark.parametrize(
    "changed",
    [
        "model_signing",
        pytest.param("blake3", marks=SLOW),
        pytest.param("sigstore", marks=SLOW),
        pytest.param("opentelemetry/sdk", marks=SLOW),
    ],
)
def test_a_package_that_modes_or_telemetry_load_later_is_measured(
    tmp_path: Path, changed: str
) -> None:
    """Packages are copied, so that the one that is changed is ours."""
    config = tmp_path / "gateway.json"
    config.write_bytes(msgspec.json.encode(prepare(tmp_path / "gateway", NOWHERE)))
    site = Path(str(measured.metadata.distribution("model-signing").locate_file("")))
    copy = tmp_path / "site"
    top = changed.split("/")[0]
    shutil.copytree(site / top, copy / top)
    for found in site.glob("*.dist-info"):
        if re.match(f"{top}(_sdk)?-", found.name):
            shutil.copytree(found, copy / found.name)

    def measure() -> str:
        command = [*COMMAND, "measure", str(config), "--json"]
        done = subprocess.run(command, env=with_source(copy), capture_output=True, check=True)
        return str(json.loads(done.stdout)["measurement"])

    before = measure()
    assert measure() == before
    with (copy / changed / "__init__.py").open("a") as file:
        file.write("\nLEAK = 1\n")
    assert measure() != before


@OUTSIDE
def test_a_module_that_was_not_measured_is_not_imported(machine: Machine, tmp_path: Path) -> None:
    """Starlette takes python_multipart if it is there; the gateway imports starlette late."""
    site = tmp_path / "site"
    shutil.copytree(Path(lydite.__file__).parent, site / "lydite")
    machine.configure(machine.settings)
    assert machine.run("seal", site).returncode == 0
    machine.works(site)
    leak = tmp_path / "leak"
    text = f"open({str(leak)!r}, 'w').write('ran')\n"
    (site / "python_multipart").mkdir()
    for place in (site / "python_multipart/__init__.py", site / "multipart.py"):
        place.write_text(text)
    running = machine.start(site)
    assert running.end() == 0
    assert "python_multipart is not imported" in running.said
    assert not leak.exists()


@pytest.mark.slow
def test_whose_signatures_list_a_model_is_measured_and_what_is_listed(
    tmp_path: Path,
) -> None:
    signed = tmp_path / "signed"
    signed.mkdir()
    (signed / "model.sig").write_text("signature")
    (tmp_path / "signer.pem").write_text("key")
    modes = Modes(
        store=str(tmp_path / "store"),
        power=CommandPower(on=("true",), off=("true",)),
        whitelist=(str(signed),),
        signing_keys=(str(tmp_path / "signer.pem"),),
        upload_port=0,
    )
    settings = prepare(tmp_path / "gateway", NOWHERE, modes=modes)
    seen = {measured.measure(settings).settings}
    for path in (signed / "model.sig", tmp_path / "signer.pem", signed / "more.sig"):
        path.write_text("another")
        seen.add(measured.measure(settings).settings)
    assert len(seen) == 4


GUARDED = """
import sys
from pathlib import Path
from lydite.gateway.sealing import importing
import hashlib, lydite.errors
place = Path(sys.argv[1])
sys.path.insert(0, str(place))
files = [p for p in place.rglob("*.py") if p.name != "unknown.py"]
importing.guard({str(p.resolve()): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
(place / "later.py").write_text("LATER = 1")
import held, held.part, space.inner
assert held.part.VALUE == space.inner.VALUE == 1
for name in ("unknown", "nowhere"):
    try:
        __import__(name)
        raise SystemExit(f"{name} was imported")
    except ModuleNotFoundError:
        pass
try:
    import later
    raise SystemExit("what changed was imported")
except lydite.errors.SealError as error:
    assert error.reason == "binary-changed", error
"""


def test_what_changed_since_it_was_measured_is_refused_where_it_is_imported(tmp_path: Path) -> None:
    for name in ("held/__init__", "held/part", "space/inner", "later", "unknown"):
        path = tmp_path / "site" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("VALUE = 1")
    command = [sys.executable, "-c", GUARDED, str(tmp_path / "site")]
    env = with_source(tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@OUTSIDE
def test_an_order_is_sealed_before_it_is_answered(machine: Machine, tmp_path: Path) -> None:
    """Or whoever pulls the plug could put back the log from before it."""
    officer = tmp_path / "ada.key"
    authority = Authority(
        officers={"ada": keys.create(officer).public.hex()},
        grants=(Grant(actions=("stop-serving",), officers=("ada",), threshold=1),),
    )
    machine.settings = msgspec.structs.replace(machine.settings, admin=authority)
    machine.configure(machine.settings)
    anchor = tmp_path / "anchor.json"
    anchor.write_bytes(encode(anchor_of(machine)))
    machine.seal()
    running = machine.start()
    shutil.copytree(machine.state, tmp_path / "before")
    assert play(running.port, plain(chat()))[1].status == 200
    order = str(tmp_path / "order.json")
    told = ["--anchor", str(anchor), "--key", str(officer), "--why", "a test", "--out", order]
    assert main(["admin", "order", "stop-serving", *told]) == 0
    assert main(["admin", "send", order, *told[:2], "--to", running.control]) == 0
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    shutil.copytree(machine.state, tmp_path / "after")
    for part in ("log", "journal"):
        shutil.rmtree(machine.state / part)
        shutil.copytree(tmp_path / "before" / part, machine.state / part)
    machine.refused("state-changed")
    for part in ("log", "journal"):
        shutil.rmtree(machine.state / part)
        shutil.copytree(tmp_path / "after" / part, machine.state / part)
    running = machine.start()
    assert play(running.port, plain(chat()))[1].status == 503
    assert running.end() == 0
