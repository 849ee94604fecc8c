"""Which gateway serves which model, as far as was verified, and whether it is up.

A gateway serves what its provider's signed declaration says, read from the witnessed log; whether
it answers is asked every so often. Judges no answer.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from lydite.auditor import line
from lydite.auditor.line import Address
from lydite.errors import UnavailableError
from lydite.messages.cannot import Asked, Why

_logger = logging.getLogger(__name__)

_PROBE_BYTES: Final = 1 << 20
_FAILURES: Final = 2
"""In a row, before a place counts as down."""


class Place(msgspec.Struct, kw_only=True, eq=False):
    """One gateway, as the router sees it."""

    name: str
    """Of the provider, in the trust file."""
    provider: str
    """Its key id."""
    address: Address
    model: str | None = None
    """What it declares, once that was verified."""
    healthy: bool = False
    failures: int = 0
    """How many checks in a row it failed."""
    shut: bool = False
    """Whether the policy has stopped routing to it."""
    running: int = 0
    """Requests under way."""
    answered: int = 0

    def why_not(self, model: str) -> Why | None:
        """Return why this is no place for ``model``, None if it is one."""
        if self.shut:
            return "shut-down"
        if self.model is None:
            return "unverified"
        if self.model != model:
            return "other-model"
        return None if self.healthy else "unhealthy"


class Registry:
    """Every place, in the order of the settings."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self._turn = itertools.count()

    def candidates(self, model: str) -> list[Place]:
        """Return the places that serve ``model``, the least busy first."""
        serving = [place for place in self.places if place.why_not(model) is None]
        turn = next(self._turn) % max(1, len(serving))
        rotated = serving[turn:] + serving[:turn]
        return sorted(rotated, key=lambda place: place.running)

    def asked(self, model: str) -> tuple[Asked, ...]:
        """Return why each place is not the one; those that might have been were unreachable."""
        return tuple(
            Asked(provider=place.provider, why=place.why_not(model) or "unreachable")
            for place in self.places
        )

    def models(self) -> dict[str, list[str]]:
        """Return the models that some place serves, each with the names of those places."""
        found: dict[str, list[str]] = {}
        for place in self.places:
            if place.model is not None and place.healthy and not place.shut:
                found.setdefault(place.model, []).append(place.name)
        return found

    async def watch(self, beat_s: float, timeout_s: float) -> None:
        """Ask every place at every beat whether it is up, until cancelled."""
        while True:
            await asyncio.gather(*(self.probe(place, timeout_s) for place in self.places))
            await asyncio.sleep(beat_s)

    async def probe(self, place: Place, timeout_s: float) -> None:
        """Ask one place for its models, through to its engine, and note whether it answers."""
        try:
            head, _ = await line.fetch(
                place.address, "GET", "/v1/models", b"", timeout_s, _PROBE_BYTES
            )
            place.failures = 0 if head.status == 200 else place.failures + 1
        except UnavailableError:
            place.failures += 1
        healthy = place.failures == 0 or (place.healthy and place.failures < _FAILURES)
        if healthy != place.healthy:
            _logger.info("gateway %s is %s", place.name, "up" if healthy else "down")
        place.healthy = healthy
