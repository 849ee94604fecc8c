"""The recomputer orders a gateway to cut the power, and believes only what the gateway signs."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette

from lydite.appraisal.authority import Grant
from lydite.appraisal.trust import Anchor
from lydite.auditor.ordering import Order
from lydite.errors import LyditeError, Reason, UnavailableError
from lydite.gateway.office import admin_routes
from lydite.laboratory.world import key
from lydite.messages import instruction
from lydite.signing import notes
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer
from tests.gateway.test_gateway_admin import AUTHORITY, GATEWAY, ORIGIN, Site


class Told:
    """A gateway's admin on a port, in a loop of its own."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.site = Site(directory)
        self.site.now_s = time.time()
        app = Starlette(routes=admin_routes.routes(self.site.admin))
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical"))
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.run, args=(listener,), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def run(self, listener: socket.socket) -> None:
        async def serve() -> None:
            self.site.recorder.start(asyncio.get_running_loop())
            await self.site.admin.recall()
            await self.server.serve(sockets=[listener])

        self.loop.run_until_complete(serve())


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.server.should_exit = True
    made.thread.join()
    made.loop.close()


def order(url: str, by: Signer | None = None, gateway: Signer = GATEWAY) -> Order:
    anchor = Anchor(
        name="mill",
        provider_key=key("provider").public.hex(),
        gateway_key=gateway.public.hex(),
        vrf_key="0" * 64,
        log_vkey=str(notes.verifier_key(ORIGIN, key("log"))),
    )
    return Order(url, anchor, by or key("recomputer"))


def test_the_power_is_cut_and_the_log_has_the_order_first(told: Told) -> None:
    said = order(told.url).shut_down("ed25519:mill", "inconsistent-tokens")
    assert told.site.done == ["cut"]
    assert "dark" in said
    numbers = list(told.site.journal.of_kind("admin"))
    assert len(numbers) == 2
    envelope = msgspec.json.decode(told.site.journal.read(numbers[0]).body, type=Envelope)
    ordered = instruction.parse(payload_of(envelope)).predicate
    assert (ordered.action, ordered.dry_run) == ("cut-power", False)
    assert ordered.why == "ed25519:mill: inconsistent-tokens"


def test_who_is_no_officer_cuts_nothing(told: Told) -> None:
    with pytest.raises(UnavailableError) as refused:
        order(told.url, by=key("stranger")).shut_down("ed25519:mill", "x")
    assert refused.value.reason is Reason.UNKNOWN_KEY
    with pytest.raises(UnavailableError) as refused:
        order(told.url, by=key("ada")).shut_down("ed25519:mill", "x")
    assert refused.value.reason is Reason.TOO_FEW_OFFICERS
    assert told.site.done == []


def test_the_recomputer_is_granted_nothing_else() -> None:
    granted = [grant for grant in AUTHORITY.grants if "recomputer" in grant.officers]
    assert granted == [Grant(actions=("cut-power",), officers=("recomputer",), threshold=1)]


def test_an_outcome_that_another_key_signed_is_not_believed(told: Told) -> None:
    with pytest.raises(LyditeError):
        order(told.url, gateway=key("another gateway")).shut_down("ed25519:mill", "x")


def test_a_gateway_that_is_gone_has_cut_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError):
        order(f"http://127.0.0.1:{port}").shut_down("ed25519:mill", "x")
