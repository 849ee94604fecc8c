"""The description of the gateway's own routes is true, and holds against thousands of requests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from lydite.appraisal.authority import Authority, Grant
from lydite.gateway.office import admin_routes, control_app
from lydite.gateway.plane.desk import RECEIPTED
from lydite.gateway.service import Gateway
from lydite.signing.keys import Signer
from tests.gateway.conftest import TOKEN, Bench
from tests.gateway.raw_client import CHAT, ask, get, post

load_all_checks()
PAGE = Path(__file__).parents[2] / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
Operation = tuple[str, str]


def operations(tag: str) -> dict[Operation, str]:
    """Methods and paths under a tag, each with a path in which the examples stand."""
    found = {}
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if operation["tags"] == [tag]:
                found[method.upper(), path] = example(path, operation.get("parameters", []))
    return found


def example(path: str, parameters: list[dict[str, Any]]) -> str:
    for each in parameters:
        if "$ref" in each:
            each = DOCUMENT["components"]["parameters"][each["$ref"].rpartition("/")[2]]
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", str(each["example"]))
    assert "{" not in path
    return path


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Gateway:
    gateway = bench.gateway("described", near_signatures_s=60)
    for _ in range(3):
        ask(gateway.port, post(CHAT, b"{}", b"Authorization: Bearer k\r\n"))
    return gateway


def test_every_route_on_the_clients_port_is_described_and_the_other_way_round(
    gateway: Gateway,
) -> None:
    assert gateway._control is not None
    rows = [(m.decode(), re.compile(p)) for m, p in gateway._control.table.paths]
    rows += [("POST", re.compile(re.escape(path))) for path in RECEIPTED]
    rows.append(("GET", re.compile(rb"/v1/models")))
    described = operations("clients")
    taken = set()
    for (method, path), concrete in described.items():
        fit = [n for n, (m, p) in enumerate(rows) if m == method and p.fullmatch(concrete.encode())]
        assert len(fit) == 1, f"{method} {path} fits {len(fit)} routes"
        taken.add(fit[0])
    missing = [rows[n] for n in range(len(rows)) if n not in taken]
    assert not missing, "describe them in docs/openapi.yaml"


def test_every_route_on_the_operators_port_is_described_and_the_other_way_round() -> None:
    class Silent:
        authority = Authority(officers=(), grants=())

    app = control_app.control_app(admin_routes.routes(Silent()), dict, bytes)  # type: ignore[arg-type]
    routes = {(method, route.path) for route in app.routes for method in route.methods - {"HEAD"}}
    assert routes == set(operations("operator"))


def test_the_upload_port_is_described() -> None:
    upload = pytest.importorskip("lydite.gateway.modes.upload")
    ((method, _), concrete) = next(iter(operations("upload").items()))
    assert method == "PUT"
    assert upload._UPLOAD.fullmatch(concrete.encode())


def test_examples_of_routes_that_only_read_are_answered_as_described(gateway: Gateway) -> None:
    for (method, path), concrete in operations("clients").items():
        if method != "GET":
            continue
        got = ask(gateway.port, get(concrete.encode(), b"Authorization: Bearer x\r\n"))
        answers = DOCUMENT["paths"][path]["get"]["responses"]
        assert str(got.status) in answers or "default" in answers, (path, got.status)


def not_a_bug(_: Any, response: Any, __: Any) -> None:
    """500 is a bug of ours; 503 says that something is not to be had, and is described."""
    assert response.status_code != 500, response.text


CHECKS = (
    not_a_bug,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
PASSED_ON = {"chat", "complete", "models"}


def fuzzed(port: int, tag: str, examples: int, token: str) -> Iterator[str]:
    """Send what the description allows, and what it does not, to every route."""
    schema: OpenApiSchema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=f"http://127.0.0.1:{port}")
    for result in schema.include(tag=tag).get_all_operations():
        operation = result.ok()
        name = operation.definition.raw["operationId"]
        if name in PASSED_ON:
            continue
        yield name
        for mode in schemathesis.GenerationMode:
            try:
                _run(operation.as_strategy(generation_mode=mode), examples, token)
            except Unsatisfiable:  # a route that takes nothing cannot be asked wrongly
                assert mode is schemathesis.GenerationMode.NEGATIVE, name


def _run(strategy: Any, examples: int, token: str) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def run(case: Any) -> None:
        case.call_and_validate(
            checks=list(CHECKS), headers={"Authorization": f"Bearer {token}"}, timeout=10
        )

    run()


@pytest.mark.parametrize(
    ("token", "examples"),
    [
        pytest.param(TOKEN, 3, id="auditor"),
        pytest.param(TOKEN, 100, id="auditor-long", marks=pytest.mark.slow),
        pytest.param("wrong", 100, id="stranger-long", marks=pytest.mark.slow),
    ],
)
def test_the_routes_answer_as_described_whatever_is_asked(
    gateway: Gateway, token: str, examples: int
) -> None:
    names = set(fuzzed(gateway.port, "clients", examples, token))
    assert len(names) == len(operations("clients")) - len(PASSED_ON)
    assert ask(gateway.port, get(b"/v1/keys")).status == 200


@pytest.mark.parametrize(
    "examples", [5, pytest.param(100, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_the_operators_port_answers_as_described_whatever_is_asked(
    bench: Bench, examples: int
) -> None:
    officer = Signer(b"o" * 32)
    grant = Grant(actions=("stop-serving",), officers=("ada",), threshold=1)
    authority = Authority(officers={"ada": officer.public.hex()}, grants=(grant,))
    gateway = bench.gateway(f"ordered-{examples}", admin=authority, control_port=0)
    assert gateway.operations is not None
    assert gateway.operations.control_port is not None
    before = gateway._log.size
    names = set(fuzzed(gateway.operations.control_port, "operator", examples, TOKEN))
    assert names == {"alive", "ready", "metrics", "instruct", "authority"}
    assert gateway._log.size == before, "nobody signed anything, so nothing is in the log"
    bench.stop(gateway)
