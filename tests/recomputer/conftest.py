"""A deployment on loopback, of real processes: an honest server and one that cheats."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lydite.appraisal.policy import DEFAULT
from lydite.laboratory.deployment import Deployment, deploy
from lydite.laboratory.processes import Processes, Service
from lydite.laboratory.recomputing import prepare
from tests.recomputer.bigram_recomputer import REFERENCE

ENGINE = "tests.recomputer.bigram_engine"
RECOMPUTER = "tests.recomputer.bigram_recomputer"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Stage(NamedTuple):
    """Everything that runs, and where the recomputer answers."""

    processes: Processes
    directory: Path
    deployment: Deployment
    recomputer: Service
    port: int

    def ask(self, method: str, path: str, body: object = None, port: int | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read())
        connection.close()
        return found

    def standing(self, name: str) -> dict[str, Any]:
        gateways = self.ask("GET", "/v1/recomputer").json()["gateways"]
        found: dict[str, Any] = next(each for each in gateways if each["name"] == name)
        return found

    def until(self, holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, self.recomputer.last_words()
            time.sleep(0.1)

    def gateway_port(self, name: str) -> int:
        url = next(each.url for each in self.deployment.providers if each.name == name)
        return int(url.rpartition(":")[2])


def complete(text: str, max_tokens: int = 64, **fields: object) -> dict[str, object]:
    """A request for a completion."""
    return {"model": "bigram", "prompt": text, "max_tokens": max_tokens, **fields}


def start(directory: Path, engines: dict[str, tuple[str, ...]], **changes: Any) -> Iterator[Stage]:
    """Start engines, gateways and a recomputer; the caller closes the iterator."""
    with Processes(directory / "logs") as processes:
        services = {
            name: processes.start(f"{name}-engine", ENGINE, *words)
            for name, words in engines.items()
        }
        deployment = deploy(processes, directory, services, DEFAULT, REFERENCE)
        path = prepare(directory, deployment, (), period_ms=500, rate_ppm=600_000, **changes)
        service = processes.start("recomputer", RECOMPUTER, path)
        port = service.ready()["port"]
        stage = Stage(processes, directory, deployment, service, port)
        stage.until(lambda: all(stage.standing(name)["model"] for name in engines))
        stage.until(lambda: all(stage.standing(name)["healthy"] for name in engines))
        yield stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    engines = {"honest": (), "cheat": ("--noise", "1.5")}
    yield from start(tmp_path_factory.mktemp("recomputer"), engines)
