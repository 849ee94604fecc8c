"""A real gateway before a scripted engine, and clients that verify what comes from it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from lydite.appraisal.trust import Anchor
from lydite.gateway.service import Gateway
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import ask, get


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"), uvloop.new_event_loop())
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Gateway:
    return bench.gateway()


@pytest.fixture(scope="module")
def anchor(gateway: Gateway) -> Anchor:
    return anchor_of(gateway)


def anchor_of(gateway: Gateway) -> Anchor:
    keys: dict[str, Any] = json.loads(ask(gateway.port, get(b"/v1/keys")).body)
    return Anchor(
        name="tested",
        provider_key=keys["provider"],
        gateway_key=keys["gateway"],
        vrf_key=keys["vrf"],
        log_vkey=keys["log"],
    )


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"
