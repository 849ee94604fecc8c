"""Redfish against a server on a real port that answers as DMTF's mockups do.

Paths, bodies, status codes and headers are those of the public-rackmount1 mockup and of DSP0266:
sessions are made by POST and ended by DELETE, ``ComputerSystem.Reset`` answers 204, an unknown
token 401. The machine takes a moment to obey.
"""

import asyncio
import base64
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lydite.errors import ConfigurationError, LyditeError, Reason
from lydite.gateway.modes.redfish import Redfish
from lydite.gateway.settings import RedfishPower

SYSTEM = "/redfish/v1/Systems/437XR1138R2"
SESSIONS = "/redfish/v1/SessionService/Sessions"
PASSWORD = "a pass: wörd"


class Controller:
    """A management controller and the machine under it."""

    def __init__(self) -> None:
        self.state = "On"
        self.obeys = True
        self.refuses_when_off = False
        self.delay_s = 0.3
        self.resets: list[str] = []
        self.tokens: set[str] = set()
        self.opened = 0
        self.action = f"{SYSTEM}/Actions/ComputerSystem.Reset"

    def reset(self, kind: str) -> int:
        if self.refuses_when_off and kind == "ForceOff" and self.state == "Off":
            return 409
        self.resets.append(kind)
        if self.obeys:
            wanted = {"On": "On", "ForceOff": "Off"}[kind]
            self.state = f"Powering{wanted}" if self.delay_s else wanted
            threading.Timer(self.delay_s, lambda: setattr(self, "state", wanted)).start()
        return 204

    def system(self) -> dict[str, Any]:
        return {
            "@odata.id": SYSTEM,
            "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
            "Id": "437XR1138R2",
            "Status": {"State": "Enabled", "Health": "OK"},
            "PowerState": self.state,
            "Actions": {
                "#ComputerSystem.Reset": {
                    "target": self.action,
                    "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown"],
                }
            },
        }


class Handler(BaseHTTPRequestHandler):
    """Answers for one self.controller."""

    controller: Controller

    def do_GET(self) -> None:
        if self._known() and self.path == SYSTEM:
            self._answer(200, self.controller.system())
        else:
            self._answer(404 if self._known() else 401)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == SESSIONS:
            self._open(body)
        elif not self._known():
            self._answer(401)
        elif self.path == self.controller.action:
            self._answer(self.controller.reset(body["ResetType"]))
        else:
            self._answer(404)

    def do_DELETE(self) -> None:
        token = self.headers.get("x-auth-token", "")
        known = token in self.controller.tokens and self.path == f"{SESSIONS}/{token}"
        self.controller.tokens.discard(token)
        self._answer(204 if known else 404)

    def _open(self, body: dict[str, str]) -> None:
        if body != {"UserName": "lydite", "Password": PASSWORD}:
            self._answer(401)
            return
        self.controller.opened += 1
        token = f"token{self.controller.opened}"
        self.controller.tokens.add(token)
        self._answer(
            201,
            {"@odata.id": f"{SESSIONS}/{token}", "UserName": "lydite"},
            {"X-Auth-Token": token, "Location": f"{SESSIONS}/{token}"},
        )

    def _known(self) -> bool:
        pair = base64.b64encode(f"lydite:{PASSWORD}".encode()).decode()
        basic = self.headers.get("authorization") == f"Basic {pair}"
        return basic or self.headers.get("x-auth-token") in self.controller.tokens

    def _answer(
        self, status: int, body: object = None, fields: dict[str, str] | None = None
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("OData-Version", "4.0")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def controller() -> Controller:
    return Controller()


Listen = Callable[..., int]


@pytest.fixture
def listen(controller: Controller) -> Iterator[Listen]:
    servers = []

    def start(context: ssl.SSLContext | None = None) -> int:
        answering = type("Answering", (Handler,), {"controller": controller})
        server = ThreadingHTTPServer(("127.0.0.1", 0), answering)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def switch(url: str, **changes: Any) -> Redfish:
    settings = RedfishPower(
        **{"url": url, "user": "lydite", "password_file": "-", "timeout_ms": 4000, **changes}
    )
    return Redfish(settings, changes.pop("password", PASSWORD))


@pytest.mark.parametrize("login", ["session", "basic"])
def test_power_is_forced_off_and_waited_for(
    controller: Controller, listen: Listen, login: str
) -> None:
    power = switch(f"http://127.0.0.1:{listen()}{SYSTEM}", login=login)
    asyncio.run(power.off())
    assert (controller.state, controller.resets) == ("Off", ["ForceOff"])
    asyncio.run(power.on())
    assert (controller.state, controller.resets) == ("On", ["ForceOff", "On"])
    assert not controller.tokens, "no session is left open"
    assert (controller.opened > 0) == (login == "session")
    assert PASSWORD not in power.name


def test_the_controller_says_where_its_action_is(controller: Controller, listen: Listen) -> None:
    controller.action = f"{SYSTEM}/Oem/Reset"
    asyncio.run(switch(f"http://127.0.0.1:{listen()}{SYSTEM}").off())
    assert controller.state == "Off"


def test_a_machine_that_is_off_already_may_refuse(controller: Controller, listen: Listen) -> None:
    controller.state, controller.refuses_when_off = "Off", True
    asyncio.run(switch(f"http://127.0.0.1:{listen()}{SYSTEM}").off())
    assert controller.resets == []


def test_a_machine_that_does_not_obey_is_not_off(controller: Controller, listen: Listen) -> None:
    controller.obeys = False
    started = time.monotonic()
    with pytest.raises(LyditeError, match="took more than 900 ms") as failed:
        asyncio.run(switch(f"http://127.0.0.1:{listen()}{SYSTEM}", timeout_ms=900).off())
    assert failed.value.reason is Reason.POWER_STUCK
    assert time.monotonic() - started < 3


def test_a_wrong_password_is_a_switch_that_is_stuck(controller: Controller, listen: Listen) -> None:
    url = f"http://127.0.0.1:{listen()}{SYSTEM}"
    for login in ("session", "basic"):
        settings = RedfishPower(url=url, user="lydite", password_file="-", login=login)
        with pytest.raises(LyditeError, match="401") as failed:
            asyncio.run(Redfish(settings, "another").off())
        assert "another" not in str(failed.value)
    assert controller.state == "On"


def test_nobody_there_is_a_switch_that_is_stuck() -> None:
    with pytest.raises(LyditeError) as failed:
        asyncio.run(switch(f"http://127.0.0.1:1{SYSTEM}").off())
    assert failed.value.reason is Reason.POWER_STUCK


def test_a_password_does_not_cross_a_network_in_the_clear() -> None:
    with pytest.raises(ConfigurationError, match="https"):
        switch(f"http://bmc.example{SYSTEM}")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_the_controller_s_certificate_is_checked(
    controller: Controller, listen: Listen, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "bmc.pem", tmp_path / "bmc.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=bmc", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    url = f"https://127.0.0.1:{listen(context)}{SYSTEM}"
    with pytest.raises(LyditeError, match="SSLCertVerificationError"):
        asyncio.run(switch(url).off())
    assert controller.state == "On"
    asyncio.run(switch(url, ca_file=str(certificate)).off())
    assert controller.state == "Off"
