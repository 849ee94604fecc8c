"""Where each request goes: to the engine with a receipt, to the engine without, or to a route."""

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from lydite.errors import Reason
from lydite.gateway import heads
from lydite.gateway.ledger.index import NOISE_BYTES, new_id
from lydite.gateway.plane.answers import Answer, Errand, Route
from lydite.gateway.plane.client import ClientConnection, Handler
from lydite.gateway.plane.exchange import Exchange, Identity, Plane
from lydite.gateway.plane.reading import RefusedError, Request
from lydite.gateway.plane.relay import Relay
from lydite.messages.commitment import Salt

RECEIPTED = frozenset(
    (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses")
)
"""Paths whose answers leave a receipt; a query may follow."""
_MODELS = b"/v1/models"
_SEGMENT = rb"(?!\.{1,2}(?:/|%2[Ff]|$))[A-Za-z0-9._:@+-]+"
_MODEL = re.compile(rb"/v1/models/(%b(?:(?:/|%%2[Ff])%b)*)" % (_SEGMENT, _SEGMENT))
_DRAWN_BYTES = NOISE_BYTES + 32
_DRAWN_AT_ONCE = 128


class _Model(msgspec.Struct, frozen=True):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "upstream"


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]
    object: str = "list"


def _is_about_models(path: bytes) -> bool:
    """Say whether a path asks for the list of models, or for one of them."""
    return path == _MODELS or _MODEL.fullmatch(path) is not None


class Routes(Protocol):
    """Who answers what is not an engine's: the office, or the way to it from another process."""

    def route(self, method: bytes, target: bytes) -> Route:
        """Return who answers.

        Raises:
            RefusedError: 404 or 405.
        """


class Drawer:
    """Draws ids and salts, for many requests at once: each call of the system costs.

    To be made in the process that draws, never before a fork.
    """

    def __init__(self) -> None:
        self._noise = b""
        self._at = 0

    def draw(self, now_ms: int) -> Identity:
        """Return what no other request has or will have."""
        if self._at >= len(self._noise):
            self._noise, self._at = os.urandom(_DRAWN_AT_ONCE * _DRAWN_BYTES), 0
        start = self._at
        salt_at = start + NOISE_BYTES
        end = self._at = start + _DRAWN_BYTES
        noise = self._noise
        receipt_id = new_id(now_ms, noise[start:salt_at])
        return Identity(receipt_id, Salt(noise[salt_at:end]), now_ms)


class Carrier(Protocol):
    """Who takes requests to the engines in a way of its own."""

    def carry(
        self,
        plane: Plane,
        request: Request,
        client: ClientConnection,
        identity: Identity,
        now: float,
    ) -> Handler:
        """Return who answers, not yet started."""


class Desk:
    """Every open connection, and what it may ask for."""

    def __init__(self, plane: Plane, control: Routes, now: Callable[[], float]) -> None:
        self.limits = plane.limits
        self.clients: set[ClientConnection] = set()
        self._peers: Counter[str] = Counter()
        self.memory = plane.memory
        self._drawer = Drawer()
        self._plane = plane
        self._control = control
        self._now = now
        self.gate: Callable[[], None] = lambda: None
        """Raises a RefusedError while no model may be asked."""
        self.carrier: Carrier | None = None
        """Takes the requests that leave a receipt, if there is one."""

    def renew(self, plane: Plane) -> None:
        """Serve new requests by this; connections keep the limits that they came under."""
        self.limits = plane.limits
        self._plane = plane

    def seat(self, client: ClientConnection, peer: str) -> bool:
        """Give a connection its place among those of ``peer``, or say that all are taken."""
        if len(self.clients) >= self.limits.connections:
            return False
        if self._peers[peer] >= self.limits.connections_per_peer:
            return False
        self.clients.add(client)
        self._peers[peer] += 1
        return True

    def leave(self, client: ClientConnection, peer: str) -> None:
        """Free its place, if it has one."""
        if client not in self.clients:
            return
        self.clients.remove(client)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def admit(self, method: bytes, target: bytes) -> None:
        """Refuse what leads nowhere before a body is read.

        Raises:
            RefusedError: 404 or 405, or what the gate says.
        """
        path = target.partition(b"?")[0]
        if path in RECEIPTED:
            wanted = b"POST"
        elif _is_about_models(path):
            wanted = b"GET"
        else:
            self._control.route(method, target)
            return
        if method != wanted:
            raise RefusedError(405, "this path takes another method")
        if not self._plane.serving:
            raise RefusedError(503, "not serving, by order of its officers", Reason.NOT_SERVING)
        self.gate()

    def handle(self, request: Request, client: ClientConnection) -> Handler:
        """Return who answers an admitted request."""
        path = request.head.path
        if path in RECEIPTED:
            identity = self._drawer.draw(self._plane.recorder.clock_ms())
            if self.carrier is not None:
                return self.carrier.carry(self._plane, request, client, identity, self._now())
            return Exchange(self._plane, request, client, identity, self._now())
        if _is_about_models(path):
            if self._plane.fleet.models:
                return Errand(self._models, request, client)
            return Relay(self._plane.fleet, request, client, self._now())
        return Errand(self._control.route(request.method, request.target), request, client)

    async def _models(self, request: Request) -> Answer:
        """Answer which models there are, or that one is: no single upstream knows them all."""
        models = [_Model(each) for each in self._plane.fleet.models]
        named = _MODEL.fullmatch(request.head.path)
        if named is None:
            return Answer(msgspec.json.encode(_Models(models)))
        wanted = named[1].replace(b"%2F", b"/").replace(b"%2f", b"/").decode()
        for each in models:
            if each.id == wanted:
                return Answer(msgspec.json.encode(each))
        message = f"there is no model {wanted!r} here"
        fault = heads.fault_body(message, Reason.UNSERVED_MODEL, 404)
        return Answer(fault, status=404)

    def sweep(self) -> None:
        """Look at every timeout."""
        now = self._now()
        for client in list(self.clients):
            client.sweep(now)
        self._plane.fleet.sweep()
