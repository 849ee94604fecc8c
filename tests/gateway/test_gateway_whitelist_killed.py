"""What is listed follows from settings and log alone: no file beside them lists or unlists."""

import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from lydite.appraisal.authority import Authority, Grant
from lydite.appraisal.trust import Anchor
from lydite.cli.main import main
from lydite.gateway.modes.bundles import LAYOUT, SIGNATURE
from lydite.gateway.modes.sending import send
from lydite.messages.canonical import encode
from lydite.sampling import vrf
from lydite.signing import keys, notes
from tests.gateway.conftest import ORIGIN, Bench, prepare
from tests.gateway.guarded import Guarded, free_port, make_model
from tests.gateway.sealed_machine import Running

ACTIONS = ("whitelist-add", "whitelist-adopt", "whitelist-remove")


class Ruled:
    """A gateway process with modes and two officers, whose settings list nothing."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.guarded = Guarded(bench, name, whitelist=(), upload_port=free_port())
        self.place = self.guarded.place
        self.officers = {each: self.place / f"{each}.key" for each in ("ada", "bo")}
        authority = Authority(
            officers={n: keys.create(path).public.hex() for n, path in self.officers.items()},
            grants=(Grant(actions=ACTIONS, officers=tuple(self.officers), threshold=2),),
        )
        settings = prepare(self.place, **self.guarded.settings(), admin=authority, control_port=0)
        paths = msgspec.structs.asdict(settings.keys)
        signers = {role: keys.load(Path(path)) for role, path in paths.items()}
        anchor = Anchor(
            name=ORIGIN,
            provider_key=signers["provider"].public.hex(),
            gateway_key=signers["gateway"].public.hex(),
            vrf_key=vrf.public_key(signers["vrf"].seed()).hex(),
            log_vkey=str(notes.verifier_key(ORIGIN, signers["log"])),
        )
        (self.place / "anchor.json").write_bytes(encode(anchor))
        self.config = self.place / "gateway.json"
        self.config.write_bytes(msgspec.json.encode(settings))
        self.laid = Path(settings.state) / "whitelist"
        self.root = self.guarded.listed.root
        self.signed = self.place / "signed"
        self.running = Running(self.config, None)

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill it, do something to its disk, and start it again."""
        assert self.running.end(signal.SIGKILL) == -signal.SIGKILL
        meanwhile()
        self.running = Running(self.config, None)

    def order(self, action: str, **arguments: str) -> int:
        file = str(self.place / f"{secrets.token_hex(4)}.json")
        given = ["--anchor", str(self.place / "anchor.json"), "--why", "a test", "--out", file]
        for name, value in arguments.items():
            given += ["--set", f"{name}={value}"]
        ada, bo = map(str, self.officers.values())
        assert main(["admin", "order", action, "--key", ada, *given]) == 0
        assert main(["admin", "agree", file, "--key", bo, "--yes"]) == 0
        return main(["admin", "send", file, *given[:2], "--to", self.running.control])

    def add(self) -> int:
        parts = {"signature": f"@{self.signed / SIGNATURE}", "layout": f"@{self.signed / LAYOUT}"}
        return self.order("whitelist-add", **parts)

    def lay(self) -> None:
        """Lay the signed bundle where an order may adopt it."""
        shutil.copytree(self.signed, self.laid / self.root, dirs_exist_ok=True)

    def uploaded(self) -> str:
        """Upload the model, and return what came of it: the mode, or why not."""
        modes = self.guarded.modes
        deadline = time.monotonic() + 20
        while True:
            said = send(self.guarded.model, f"http://127.0.0.1:{modes.upload_port}", root=self.root)
            outcome = said.reason or said.mode
            if outcome != "conflict" or time.monotonic() > deadline:
                return str(outcome)
            time.sleep(0.1)


@pytest.fixture
def ruled(bench: Bench, tmp_path: Path) -> Iterator[Ruled]:
    made = Ruled(bench, tmp_path.name)
    yield made
    made.running.process.kill()
    made.running.wait()
    made.guarded.close()


def test_only_an_order_lists_and_a_removal_outlives_every_crash(ruled: Ruled) -> None:
    assert ruled.uploaded() == "not-listed"
    ruled.restart(ruled.lay)
    assert ruled.uploaded() == "not-listed", "a signed bundle in the state, and nobody's order"
    assert ruled.add() == 0
    ruled.restart(lambda: shutil.rmtree(ruled.laid))
    assert ruled.uploaded() == "serving", "the log has the order, and the bundle"
    assert ruled.order("whitelist-remove", root=ruled.root) == 0

    def undo() -> None:
        shutil.rmtree(ruled.laid)
        ruled.lay()

    ruled.restart(undo)
    assert ruled.uploaded() == "not-listed"
    ruled.restart()
    assert ruled.uploaded() == "not-listed"
    assert ruled.add() == 0
    ruled.restart()
    assert ruled.uploaded() == "serving"


def test_a_bundle_that_lies_there_is_adopted_by_the_root_that_officers_signed(
    ruled: Ruled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ruled.order("whitelist-adopt", root=ruled.root) == 1, "nothing lies there"
    assert ruled.order("whitelist-adopt", root="../x") == 1
    other = make_model(ruled.place / "other", seed=3, size=5000)
    ruled.guarded.sign(other, "signed-too")
    shutil.copytree(ruled.place / "signed-too", ruled.laid / ruled.root)
    capsys.readouterr()
    assert ruled.order("whitelist-adopt", root=ruled.root) == 1
    assert "holds the bundle of" in "".join(capsys.readouterr())
    ruled.lay()
    assert ruled.order("whitelist-adopt", root=ruled.root) == 0
    ruled.restart()
    assert ruled.uploaded() == "serving"

    def swap() -> None:
        shutil.copytree(ruled.place / "signed-too", ruled.laid / ruled.root, dirs_exist_ok=True)

    ruled.restart(swap)
    assert ruled.uploaded() == "not-listed", "it starts, and lists nothing else instead"
