"""A gateway under watch: what cannot be recomputed is named, what is withheld is a fault."""

import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lydite.appraisal.policy import DEFAULT
from lydite.auditor.bench import Bench
from lydite.auditor.service import Auditor
from lydite.errors import Reason, UnavailableError
from lydite.laboratory.world import World
from lydite.messages import alarm
from lydite.messages.opening import Opening
from lydite.messages.tier import Tier
from lydite.signing.dsse import open_envelope
from tests.recomputer.conftest import RECOMPUTER, Stage, complete


class Withholding(World):
    """A gateway that does not open some of what was drawn, or opens something else."""

    def __init__(self, share: int, other: bool = False) -> None:
        super().__init__()
        self.share, self.other, self.asked = share, other, 0

    def opening(self, number: int) -> Opening:
        self.asked += 1
        if number % self.share:
            return super().opening(number)
        if not self.other:
            raise UnavailableError("gone")
        found = super().opening(number)
        return type(found)(
            **{**{n: getattr(found, n) for n in found.__struct_fields__}, "response": "e30="}
        )


def patient(world: World, patience_s: float) -> Auditor:
    parts = (world, world.trust, world.trust.providers[0], world.policy)
    bench = Bench(world.model, (world.reference,))
    return Auditor(*parts, bench, world.auditor_key, patience_s=patience_s)


@pytest.mark.parametrize("other", [False, True])
def test_an_opening_that_does_not_come_is_asked_for_again(other: bool) -> None:
    world = Withholding(3, other)
    world.traffic(12)
    auditor = patient(world, 60)
    auditor.open_epoch(1_000_000)
    auditor.audit_pending()
    waiting = auditor.case.pending()
    assert len(waiting) == 4
    world.share = 10**9
    auditor.audit_pending()
    assert auditor.case.pending() == []
    assert auditor.judge().tier is Tier.AFFIRMING


@pytest.mark.parametrize("other", [False, True])
def test_one_that_never_comes_is_the_gateways_fault_and_no_pass(other: bool) -> None:
    world = Withholding(13, other)
    world.traffic(26, 64)
    auditor = patient(world, 0)
    auditor.open_epoch(1_000_000)
    auditor.audit_pending()
    verdict = auditor.judge()
    assert (verdict.tier, verdict.reason) == (Tier.WARNING, Reason.WITHHELD)
    assert [(skip.reason, skip.count) for skip in verdict.skipped] == [(Reason.WITHHELD, 2)]


def test_a_few_that_are_withheld_used_to_pass() -> None:
    """One in thirteen is less than the share that may go unscored, so only the warning stops it."""
    assert DEFAULT.scored_ppm <= 1_000_000 * 12 / 13
    assert DEFAULT.odd_ppm < 1_000_000 / 13


def test_nothing_is_drawn_while_nothing_was_logged() -> None:
    world = World()
    world.traffic(3)
    auditor = patient(world, 0)
    auditor.case.catch_up()
    assert auditor.due
    auditor.open_epoch(1_000_000)
    assert not auditor.due
    auditor.audit_pending()
    auditor.judge()
    assert not auditor.due


class Proxy:
    """Stands before a gateway and refuses what a path begins with."""

    def __init__(self, port: int) -> None:
        self.refused: tuple[str, ...] = ()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                if proxy.refused and self.path.startswith(proxy.refused):
                    self.answer(503, b"{}")
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request(self.command, self.path, body or None, dict(self.headers))
                said = connection.getresponse()
                self.answer(said.status, said.read())
                connection.close()

            def do_POST(self) -> None:
                self.do_GET()

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Watched:
    """A second recomputer, over the honest gateway of the stage, behind a proxy."""

    def __init__(self, stage: Stage, directory: Path, **changes: Any) -> None:
        self.proxy = Proxy(stage.gateway_port("honest"))
        told = json.loads((stage.directory / "recomputer" / "recomputer.json").read_text())
        gateway = next(each for each in told["gateways"] if each["provider"] == "honest")
        told["gateways"] = [{**gateway, "url": self.proxy.url}]
        told.update(state=str(directory / "state"), bundles=str(directory), **changes)
        path = directory / "recomputer.json"
        path.write_text(json.dumps(told))
        module = changes.get("module", RECOMPUTER)
        service = stage.processes.start(f"second-{directory.name}", module, path)
        port = service.ready()["port"]
        self.service = service
        self.stage = stage._replace(recomputer=service, port=port)

    def standing(self) -> dict[str, Any]:
        return self.stage.standing("honest")

    def alarms(self) -> list[alarm.Predicate]:
        found = []
        keys = self.stage.deployment.trust.auditor_keys()
        for number in range(1, 100):
            answer = self.stage.ask("GET", f"/v1/log/envelopes/{number}")
            if answer.status != 200:
                break
            found.append(alarm.parse(open_envelope(answer.body, keys, ())).predicate)
        return found


@pytest.fixture
def watched(stage: Stage, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(stage, tmp_path, mode="enforce", opening_ms=300, silence_ms=600)
    made.stage.until(lambda: made.standing()["model"] == "bigram")
    yield made
    made.service.stop()
    made.proxy.server.shutdown()


def test_a_gateway_that_falls_silent_is_at_fault_and_comes_back(watched: Watched) -> None:
    watched.stage.until(lambda: bool(watched.stage.ask("GET", "/v1/models").json()["data"]))
    watched.proxy.refused = ("/v1/log",)
    watched.stage.until(lambda: not watched.standing()["routed"])
    assert [(each.weight, each.action, each.stage) for each in watched.alarms()] == [
        ("fault", "stop-routing", "raised")
    ]
    answer = watched.stage.ask("POST", "/v1/completions", complete("x"))
    assert (answer.status, answer.json()["error"]["code"]) == (503, "cannot")
    watched.proxy.refused = ()
    watched.stage.until(lambda: bool(watched.standing()["routed"]))
    answer = watched.stage.ask("POST", "/v1/completions", complete("x"))
    assert answer.status == 200


def test_without_a_reference_a_model_is_routed_to_and_passes_for_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    told = json.loads((stage.directory / "recomputer" / "recomputer.json").read_text())
    told.update(state=str(tmp_path / "state"), bundles=str(tmp_path), models=[])
    (tmp_path / "recomputer.json").write_text(json.dumps(told))
    words = ("lydite.cli.main", "recomputer", "run", tmp_path / "recomputer.json")
    service = stage.processes.start("routing-recomputer", *map(str, words))
    other = stage._replace(recomputer=service, port=service.ready()["port"])
    other.until(lambda: other.standing("honest")["reason"] == "unknown-reference")
    assert other.standing("honest")["tier"] == "none"
    other.until(lambda: bool(other.ask("GET", "/v1/models").json()["data"]))
    answer = other.ask("POST", "/v1/completions", complete("hello", 4))
    assert answer.status == 200
    own_id = answer.headers["x-lydite-receipt-id"]
    body = {"salt": answer.headers["x-lydite-salt"]}
    other.until(lambda: other.ask("GET", f"/v1/receipts/{own_id}").json()["proof"] is not None)
    refused = other.ask("POST", f"/v1/receipts/{own_id}/examine", body)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "unknown-reference")
    service.stop()


def test_a_recomputer_that_is_killed_goes_on_where_it_stopped(stage: Stage, tmp_path: Path) -> None:
    made = Watched(stage, tmp_path, mode="shadow")
    for number in range(16):
        stage.ask("POST", "/v1/completions", complete(f"{number}"), stage.gateway_port("honest"))
    made.stage.until(lambda: made.standing()["tier"] == "affirming")
    made.service.process.kill()
    made.service.process.wait()
    again = stage.processes.start("second-again", RECOMPUTER, tmp_path / "recomputer.json")
    after = stage._replace(recomputer=again, port=again.ready()["port"])
    after.until(lambda: after.standing("honest")["tier"] == "affirming")
    again.stop()
    made.proxy.server.shutdown()
