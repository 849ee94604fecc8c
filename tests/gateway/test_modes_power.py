"""The power goes when it must: switches that refuse, crashes, reloads, instructions, streams."""

import asyncio
import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lydite.errors import ConfigurationError, LyditeError, Reason
from lydite.gateway.modes.power import Commands, Ipmi, run, secret_file
from lydite.gateway.modes.reloads import draw_s
from lydite.gateway.modes.sending import send
from lydite.gateway.settings import CommandPower, Health, IpmiPower, Tls
from lydite.laboratory import machine
from lydite.laboratory.guarding import tamper
from tests.gateway.conftest import Bench
from tests.gateway.guarded import Guarded
from tests.gateway.raw_client import Wire, post

QUICK_S = 2.0
"""How soon a cut is done, also on a machine that is busy with other tests."""


@pytest.fixture
def guarded(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    made = Guarded(bench, f"powered-{abs(hash(request.node.nodeid))}")
    yield made
    made.close()


def serving(guarded: Guarded, **settings: Any) -> Guarded:
    guarded.start(**settings)
    guarded.until_mode("upload")
    assert guarded.send().serving
    return guarded


def cut(guarded: Guarded, why: str = "an officer said so") -> str:
    assert guarded.up.modal is not None
    return guarded.bench.run(guarded.up.modal.keeper.cut_power(why))


def test_an_instruction_cuts_the_power_and_says_why(guarded: Guarded) -> None:
    serving(guarded)
    assert guarded.is_on()
    started = time.monotonic()
    assert cut(guarded) == "upload"
    assert time.monotonic() - started < QUICK_S
    assert not guarded.is_on()
    assert not (guarded.store / "model").exists()
    assert guarded.chat().status == 503
    last = guarded.changes()[-2]
    assert (last.mode, last.cause, last.detail) == ("dark", "instruction", "an officer said so")
    assert last.weights_root == guarded.listed.root
    assert guarded.send().serving


def test_a_cut_ends_the_answers_under_way(guarded: Guarded) -> None:
    guarded.modes = guarded._modes(power=slow_engine(guarded))
    serving(guarded)
    with Wire(guarded.up.port) as wire:
        wire.send(post(b"/v1/chat/completions", b'{"slow": true}'))
        time.sleep(0.2)
        cut(guarded)
        assert wire.closed()


def slow_engine(guarded: Guarded) -> CommandPower:
    """The same machine, whose engine takes ten seconds for an answer."""
    power = guarded.modes.power
    assert isinstance(power, CommandPower)
    source = Path(__file__).parent / "loading_engine.py"
    slow = guarded.place / "slow_engine.py"
    patched = source.read_text().replace(
        "    def do_POST(self) -> None:\n",
        "    def do_POST(self) -> None:\n        time.sleep(10)\n",
    )
    slow.write_text(patched)
    on = tuple(str(slow) if each.endswith("loading_engine.py") else each for each in power.on)
    return msgspec.structs.replace(power, on=on)


def test_a_switch_that_refuses_leaves_the_gateway_dark_and_alarmed(guarded: Guarded) -> None:
    broken = guarded.place / "broken"
    power = guarded.modes.power
    assert isinstance(power, CommandPower)
    off = ("sh", "-c", f'test ! -e {broken} && exec "$@"', "sh", *power.off)
    guarded.modes = guarded._modes(power=msgspec.structs.replace(power, off=off))
    serving(guarded)
    broken.touch()
    assert cut(guarded) == "dark"
    assert guarded.is_on(), "the machine may run on, but nobody hears of it"
    assert guarded.chat().status == 503
    assert "sh" in guarded.report()["alarm"]
    assert guarded.send().reason == "conflict"
    broken.unlink()
    guarded.until_mode("upload")
    assert guarded.report()["alarm"] is None
    assert not guarded.is_on()
    assert guarded.send().serving


def test_a_wipe_that_fails_leaves_the_gateway_dark(guarded: Guarded) -> None:
    done = guarded.place / "wiped"
    guarded.modes = guarded._modes(wipe=("sh", "-c", f"echo wiped >> {done}; test -e {done}.ok"))
    guarded.start()
    guarded.until(lambda: guarded.report()["alarm"] is not None)
    assert guarded.mode == "dark"
    Path(f"{done}.ok").touch()
    guarded.until_mode("upload")
    before = len(done.read_text().splitlines())
    assert before >= 2
    assert guarded.send().serving
    cut(guarded)
    assert len(done.read_text().splitlines()) == before + 1


def test_a_machine_that_does_not_come_up_is_switched_off_again(guarded: Guarded) -> None:
    power = guarded.modes.power
    assert isinstance(power, CommandPower)
    on = (*power.on[:5], sys.executable, "-c", "import time; time.sleep(60)")
    guarded.modes = guarded._modes(power=msgspec.structs.replace(power, on=on), load_timeout_ms=400)
    guarded.start()
    guarded.until_mode("upload")
    outcome = guarded.send()
    assert (outcome.status, outcome.reason) == (503, "unavailable")
    assert "load-failed" in outcome.message
    guarded.until_mode("upload")
    assert not guarded.is_on()
    assert guarded.changes()[-2].cause == "load-failed"


def test_a_machine_that_goes_down_by_itself_is_not_trusted_when_it_returns(
    guarded: Guarded,
) -> None:
    serving(guarded, health=Health(interval_ms=50, failures=2, timeout_ms=500))
    machine.off(guarded.machine)
    guarded.until_mode("dark", "upload")
    guarded.until_mode("upload")
    assert guarded.changes()[-2].cause == "lost"
    assert guarded.send().serving


def test_no_machine_keeps_its_memory_longer_than_the_schedule_allows(guarded: Guarded) -> None:
    guarded.modes = guarded._modes(reload_every_s=1)
    serving(guarded)
    since = time.monotonic()
    guarded.until_mode("dark", "upload")
    assert time.monotonic() - since < 1 + QUICK_S
    guarded.until_mode("upload")
    assert guarded.changes()[-2].cause == "reload-due"
    assert not guarded.is_on()


def test_nobody_can_tell_when_a_reload_is_due() -> None:
    drawn = [draw_s(100) for _ in range(2000)]
    assert all(50 <= each <= 100 for each in drawn)
    for tenth in range(10):
        inside = sum(50 + 5 * tenth <= each <= 55 + 5 * tenth for each in drawn)
        assert 120 < inside < 290


def test_a_model_that_is_struck_off_goes_dark(guarded: Guarded) -> None:
    serving(guarded)
    assert guarded.up.modal is not None
    guarded.bench.run(guarded.up.modal.whitelist.remove(guarded.listed.root))
    guarded.until_mode("upload")
    assert not guarded.is_on()
    assert guarded.changes()[-2].cause == "unlisted"
    assert guarded.send().reason == "not-listed"


def test_stopping_the_gateway_cuts_the_power(guarded: Guarded) -> None:
    serving(guarded)
    guarded.stop()
    assert not guarded.is_on()
    guarded.start()
    guarded.until_mode("upload")
    causes = [each.cause for each in guarded.changes()]
    assert causes[4:] == ["stopped", "started", "power-off"]
    assert len({each.boot for each in guarded.changes()}) == 2


def test_a_killed_gateway_comes_back_dark_with_its_counter_at_zero(guarded: Guarded) -> None:
    """The machine outlives the gateway, as machines do; nothing that it holds is served."""
    settings = guarded.prepare()
    path = guarded.place / "gateway.json"
    path.write_bytes(msgspec.json.encode(settings))
    process, port, upload = start(path)
    try:
        send_all(guarded, upload)
        assert ask_json(port, "/v1/mode")["mode"] == "serving"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert guarded.is_on()
    process, port, upload = start(path)
    try:
        assert wait_for(upload, "upload")["received"] == 0
        assert not guarded.is_on(), "the first that a gateway does is to cut the power"
        with socket.create_connection(("127.0.0.1", upload)) as half:
            half.sendall(
                b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n{"
                % (guarded.listed.root.encode(), guarded.listed.size)
            )
            while ask_json(upload, "/v1/mode")["received"] != 1:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
    finally:
        process.kill()
        process.wait()
    process, port, upload = start(path)
    try:
        assert wait_for(upload, "upload")["received"] == 0
        assert not guarded.is_on()
    finally:
        process.terminate()
        process.wait()


def start(path: Path) -> tuple["subprocess.Popen[bytes]", int, int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lydite.cli.main", "gateway", "run", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    return process, said["port"], said["upload_port"]


def ask_json(port: int, path: str) -> dict[str, Any]:
    with Wire(port) as wire:
        return dict(json.loads(wire.ask(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()).body))


def wait_for(port: int, mode: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while (report := ask_json(port, "/v1/mode"))["mode"] != mode:
        assert time.monotonic() < deadline, report
        time.sleep(0.01)
    return report


def send_all(guarded: Guarded, port: int) -> None:
    assert send(guarded.model, f"http://127.0.0.1:{port}").serving


def test_a_running_gateway_turns_to_no_other_machine(guarded: Guarded) -> None:
    serving(guarded)
    assert guarded.up.operations is not None
    other = msgspec.structs.replace(guarded.prepare(), upstream="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="one machine"):
        guarded.bench.run(guarded.up.operations.follow(other))
    assert guarded.chat().status == 200


def test_weights_come_over_tls_where_clients_do(guarded: Guarded) -> None:
    certificate, key = guarded.place / "tls.pem", guarded.place / "tls.key"
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    guarded.start(tls=Tls(certificate=str(certificate), key=str(key)))
    assert guarded.up.modal is not None
    to = f"https://127.0.0.1:{guarded.up.modal.port}"
    with pytest.raises(LyditeError, match="CERTIFICATE_VERIFY_FAILED"):
        send(guarded.model, to)
    tampered = tamper(guarded.model, guarded.place / "tampered")
    refused = send(tampered, to, ca_file=certificate, root=guarded.listed.root)
    assert refused.reason == "wrong-weights"
    guarded.bench.run(guarded.up.modal.keeper.settled())
    assert send(guarded.model, to, ca_file=certificate).serving


# Switches


def command(text: str, **changes: Any) -> CommandPower:
    argv = (sys.executable, "-c", text)
    return CommandPower(**{"on": argv, "off": argv, **changes})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (command("raise SystemExit(3)"), "ended with 3"),
        (command("import time; time.sleep(9)", timeout_ms=200), "took more than 200 ms"),
        (CommandPower(on=("/no/such/switch",), off=("/no/such/switch",)), "No such file"),
    ],
)
def test_a_command_that_fails_is_a_switch_that_is_stuck(settings: CommandPower, says: str) -> None:
    for switch in (Commands(settings).on, Commands(settings).off):
        with pytest.raises(LyditeError, match=says) as failed:
            asyncio.run(switch())
        assert failed.value.reason is Reason.POWER_STUCK


def test_no_shell_reads_a_command() -> None:
    said = asyncio.run(run((sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id)"), 5000))
    assert said.strip() == "$(id)"


IPMITOOL = """#!{python}
import pathlib, sys
place = pathlib.Path(__file__).with_name("power")
assert sys.argv[1:9] == ["-I", "lanplus", "-H", "bmc", "-U", "root", "-f", {secret!r}], sys.argv
assert pathlib.Path({secret!r}).read_text() == "pa$$word"
verb = sys.argv[11]
if verb == "status":
    left = int(place.read_text())
    place.write_text(str(max(left - 1, 0)))
    print("Chassis Power is " + ("on" if left else "off"))
else:
    place.write_text({{"on": "99", "off": "2"}}[verb])
    print("Chassis Power Control: Down/Off")
"""


def test_ipmi_is_off_when_the_chassis_says_so(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("pa$$word")
    tool = tmp_path / "ipmitool"
    tool.write_text(IPMITOOL.format(python=sys.executable, secret=str(secret)))
    tool.chmod(0o755)
    settings = IpmiPower(host="bmc", user="root", password_file=str(secret), tool=str(tool))
    switch = Ipmi(settings)
    asyncio.run(switch.on())
    assert (tmp_path / "power").read_text() == "99"
    asyncio.run(switch.off())
    assert (tmp_path / "power").read_text() == "0"
    (tmp_path / "power").write_text("99")
    tool.write_text(tool.read_text().replace('"off": "2"', '"off": "99"'))
    short = msgspec.structs.replace(settings, timeout_ms=1500)
    with pytest.raises(LyditeError, match="took more than"):
        asyncio.run(Ipmi(short).off())


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("word")
    secret.chmod(0o644)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644
    with pytest.raises(ConfigurationError, match="chmod 600"):
        secret_file(str(secret))


def test_threads_end_with_the_gateway(guarded: Guarded) -> None:
    before = set(threading.enumerate())
    serving(guarded)
    guarded.stop()
    left = set(threading.enumerate()) - before
    names = {thread.name.rpartition("_")[0] for thread in left}
    assert not names & {"pieces", "files"}
