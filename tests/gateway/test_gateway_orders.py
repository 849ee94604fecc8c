"""Officers order a real gateway, by the command and over its control port."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from lydite.appraisal.authority import Authority, Grant
from lydite.appraisal.trust import Anchor
from lydite.cli.main import main
from lydite.errors import ConfigurationError
from lydite.gateway.office import deeds, resealing
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Egress
from lydite.messages import entry, instruction
from lydite.messages.canonical import encode
from lydite.sampling import vrf
from lydite.signing import keys
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import ask, get, play
from tests.gateway.scripted_engine import chat, plain

ACTIONS = (
    "cut-power",
    "reload-settings",
    "resume-serving",
    "set-egress-budget",
    "set-upstreams",
    "stop-serving",
)


class Governed:
    """A gateway with three officers, two of whom have to agree."""

    def __init__(self, bench: Bench, directory: Path) -> None:
        self.bench = bench
        self.directory = directory
        self.officers = {name: directory / f"{name}.key" for name in ("ada", "bo", "cy")}
        authority = Authority(
            officers={n: keys.create(path).public.hex() for n, path in self.officers.items()},
            grants=(Grant(actions=ACTIONS, officers=tuple(self.officers), threshold=2),),
        )
        self.changes: dict[str, Any] = {"admin": authority, "control_port": 0}
        self.start()

    def start(self) -> None:
        self.gateway = self.bench.gateway(self.directory.name, **self.changes)
        made = self.gateway._settings.keys
        anchor = Anchor(
            name="small",
            provider_key=keys.load(Path(made.provider)).public.hex(),
            gateway_key=keys.load(Path(made.gateway)).public.hex(),
            vrf_key=vrf.public_key(keys.load(Path(made.vrf)).seed()).hex(),
            log_vkey=str(self.gateway.log_key),
        )
        (self.directory / "anchor.json").write_bytes(encode(anchor))

    @property
    def control(self) -> str:
        operations = self.gateway.operations
        assert operations is not None
        return f"http://127.0.0.1:{operations.control_port}"

    def order(self, action: str, *officers: str, options: tuple[str, ...] = ()) -> int:
        """Order it as these officers; return the exit code of giving it."""
        first, *others = officers
        file = str(self.directory / f"{action}-{len(list(self.directory.iterdir()))}.json")
        common = ["--anchor", str(self.directory / "anchor.json"), "--why", "a test"]
        key = ["--key", str(self.officers[first])]
        assert main(["admin", "order", action, *common, *key, "--out", file, *options]) == 0
        for each in others:
            assert main(["admin", "agree", file, "--key", str(self.officers[each]), "--yes"]) == 0
        return self.send(file)

    def send(self, file: str) -> int:
        anchor = str(self.directory / "anchor.json")
        return main(["admin", "send", file, "--anchor", anchor, "--to", self.control])

    def asked(self) -> int:
        return play(self.gateway.port, plain(chat()))[1].status


@pytest.fixture
def governed(bench: Bench, tmp_path: Path) -> Any:
    made = Governed(bench, tmp_path)
    yield made
    bench.stop(made.gateway)


def test_two_officers_stop_and_resume_serving_and_it_lasts(
    governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert governed.asked() == 200
    assert governed.order("stop-serving", "ada") == 1
    assert "too-few-officers" in capsys.readouterr().err
    assert governed.asked() == 200
    assert governed.order("stop-serving", "ada", "cy", options=("--dry-run",)) == 0
    assert governed.asked() == 200
    assert governed.order("stop-serving", "ada", "cy") == 0
    assert "stop-serving: done" in capsys.readouterr().out
    assert governed.asked() == 503
    assert ask(governed.gateway.port, get(b"/v1/keys")).status == 200
    governed.bench.stop(governed.gateway)
    governed.start()
    assert governed.asked() == 503
    assert governed.order("resume-serving", "bo", "cy") == 0
    assert governed.asked() == 200
    kinds = [
        entry.parse(governed.gateway._log.entry(n)).kind for n in range(governed.gateway._log.size)
    ]
    assert kinds.count("admin") == 2 * 4


def test_upstreams_are_set_by_order_and_bad_ones_refused(
    governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ("--set", "urls=ftp://nowhere")
    assert governed.order("set-upstreams", "ada", "bo", options=bad) == 1
    dead = ("--set", "urls=http://127.0.0.1:9")
    assert governed.order("set-upstreams", "ada", "bo", options=dead) == 0
    assert governed.asked() in (502, 503)
    back = ("--set", f"urls={governed.bench.engine.url}")
    assert governed.order("set-upstreams", "ada", "bo", options=back) == 0
    assert governed.asked() == 200


def test_an_order_that_was_given_is_not_obeyed_again(
    governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert governed.order("stop-serving", "ada", "bo") == 0
    assert governed.order("resume-serving", "ada", "bo") == 0
    [first] = [p for p in governed.directory.iterdir() if p.name.startswith("stop-serving")]
    assert governed.send(str(first)) == 1
    assert "replayed" in capsys.readouterr().err
    assert main(["admin", "show", str(first), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["action"] == "stop-serving"


def test_officers_without_a_control_port_could_order_nothing(bench: Bench) -> None:
    authority = Authority(officers={"ada": "00" * 32}, grants=())
    with pytest.raises(ConfigurationError, match="control_port"):
        bench.gateway("unreachable", admin=authority)


def test_a_retired_officer_has_to_stay_known(governed: Governed) -> None:
    assert governed.order("stop-serving", "ada", "bo") == 0
    assert governed.order("resume-serving", "cy", "bo") == 0
    governed.bench.stop(governed.gateway)
    authority = governed.changes["admin"]
    known = {name: key for name, key in authority.officers.items() if name != "ada"}
    grant = Grant(actions=ACTIONS, officers=tuple(known), threshold=2)
    governed.changes["admin"] = Authority(officers=known, grants=(grant,))
    with pytest.raises(ConfigurationError, match="keep its name"):
        governed.start()
    governed.changes["admin"] = Authority(officers=authority.officers, grants=(grant,))
    governed.start()


def test_the_authority_is_public(governed: Governed) -> None:
    port = int(governed.control.rpartition(":")[2])
    said = json.loads(ask(port, get(b"/v1/admin/authority")).body)
    assert set(said["officers"]) == {"ada", "bo", "cy"}
    assert isinstance(governed.gateway, Gateway)


def test_an_action_that_nobody_knows_is_not_signed(
    governed: Governed, capsys: pytest.CaptureFixture[str]
) -> None:
    out = governed.directory / "order.json"
    given = ["--anchor", str(governed.directory / "anchor.json"), "--why", "a slip"]
    given += ["--key", str(governed.officers["ada"]), "--out", str(out)]
    assert main(["admin", "order", "stop-servign", *given]) == 2
    said = capsys.readouterr().err
    assert "stop-servign" in said
    assert all(action in said for action in instruction.ACTIONS)
    assert not out.exists()


def test_the_known_actions_are_those_that_gateways_have() -> None:
    found = set()
    for module in (deeds, resealing):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        for returned in (each.value for each in ast.walk(tree) if isinstance(each, ast.Return)):
            keys = returned.keys if isinstance(returned, ast.Dict) else []
            found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    assert sorted(found) == list(instruction.ACTIONS)


def test_a_budget_that_was_ordered_is_in_the_log_and_in_no_file(governed: Governed) -> None:
    """Whoever writes in the state directory raises no budget; what officers set outlives it."""
    governed.bench.stop(governed.gateway)
    governed.changes["egress"] = Egress(meters=("00" * 32,), token="a token of some length")
    governed.start()
    assert governed.order("set-egress-budget", "ada", "bo", options=("--set", "bits=77")) == 0
    raised = ("--set", "bits=99", "--set", "session=anonymous")
    assert governed.order("set-egress-budget", "ada", "bo", options=(*raised, "--dry-run")) == 0
    governed.bench.stop(governed.gateway)
    state = Path(governed.gateway._settings.state)
    assert b"budget" not in (state / "egress" / "accounts.jsonl").read_bytes()
    governed.start()
    assert governed.gateway.egress is not None
    allowance = governed.gateway.egress.allowance
    assert allowance.budget("day", "") == 77_000_000
    assert allowance.budget("session", "anonymous") == 65_536_000_000
