"""Power over Redfish (DMTF DSP0266): ComputerSystem.Reset, then ask until the power is off.

One short connection a request, in a thread, with the standard library; TLS is verified, and the
password never crosses a network in the clear. Knows nothing of why the power is cut.
"""

import asyncio
import base64
import http.client
import ipaddress
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from lydite.errors import ConfigurationError
from lydite.gateway.modes.power import stuck, within
from lydite.gateway.settings import RedfishPower

_POLL_S = 0.2
_ANSWER_BYTES = 1 << 20
_SESSIONS = "/redfish/v1/SessionService/Sessions"


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Target(msgspec.Struct):
    target: str


class _Actions(msgspec.Struct):
    reset: _Target | None = msgspec.field(name="#ComputerSystem.Reset", default=None)


class _System(msgspec.Struct, rename="pascal"):
    power_state: str
    actions: _Actions = msgspec.field(default_factory=_Actions)


class Redfish:
    """One ComputerSystem of one management controller."""

    def __init__(self, settings: RedfishPower, password: str) -> None:
        """Prepare; nothing is asked before the first switch.

        Raises:
            ConfigurationError: the address or the certificates cannot be used.
        """
        self._settings = settings
        self._password = password
        self._url = urlsplit(settings.url)
        self._tls = _tls(self._url, settings.ca_file)
        self.name = f"redfish {self._url.hostname}{self._url.path}"

    async def on(self) -> None:
        """Power up."""
        await self._switch("On", "On")

    async def off(self) -> None:
        """Force the power off, whatever runs."""
        await self._switch("ForceOff", "Off")

    async def _switch(self, reset: str, wanted: str) -> None:
        async with within(self._settings.timeout_ms, self.name):
            await asyncio.to_thread(self._reset, reset, wanted)
            while (await asyncio.to_thread(self._state)).power_state != wanted:
                await asyncio.sleep(_POLL_S)

    def _reset(self, reset: str, wanted: str) -> None:
        """Ask for a reset; a refusal is no failure where there is nothing to do."""
        system = self._state()
        action = system.actions.reset
        path = f"{self._url.path}/Actions/ComputerSystem.Reset" if action is None else action.target
        body = msgspec.json.encode({"ResetType": reset})
        answer = self._ask("POST", path, body)
        if answer.status >= 300 and system.power_state != wanted:
            raise stuck(f"{self.name}: {reset} answered with {answer.status}")

    def _state(self) -> _System:
        answer = self._ask("GET", self._url.path)
        if answer.status != 200:
            raise stuck(f"{self.name}: answered with {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=_System)
        except msgspec.DecodeError as error:
            raise stuck(f"{self.name}: {error}") from error

    def _ask(self, method: str, path: str, body: bytes | None = None) -> _Answer:
        if self._settings.login == "basic":
            pair = f"{self._settings.user}:{self._password}".encode()
            return self._send(
                method, path, body, {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
            )
        session = self._log_in()
        token = {"x-auth-token": session.headers.get("x-auth-token", "")}
        try:
            return self._send(method, path, body, token)
        finally:
            where = urlsplit(session.headers.get("location", "")).path
            if where.startswith(_SESSIONS + "/"):
                self._send("DELETE", where, None, token)

    def _log_in(self) -> _Answer:
        who = {"UserName": self._settings.user, "Password": self._password}
        answer = self._send("POST", _SESSIONS, msgspec.json.encode(who), {})
        if answer.status not in {200, 201} or not answer.headers.get("x-auth-token"):
            raise stuck(f"{self.name}: no session, answered with {answer.status}")
        return answer

    def _send(self, method: str, path: str, body: bytes | None, fields: dict[str, str]) -> _Answer:
        timeout_s = self._settings.timeout_ms / 1000
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout_s, context=self._tls
            )
        if body is not None:
            fields = {**fields, "content-type": "application/json"}
        try:
            connection.request(method, path, body, {**fields, "accept": "application/json"})
            answer = connection.getresponse()
            return _Answer(answer.status, answer.headers, answer.read(_ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise stuck(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def _tls(url: SplitResult, ca_file: str | None) -> ssl.SSLContext | None:
    if url.scheme == "https":
        try:
            return ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ConfigurationError(f"certificates {ca_file}: {error}") from error
    if not _is_loopback(url.hostname or ""):
        raise ConfigurationError(f"redfish at {url.hostname}: a password needs https")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
