"""The engines behind one gateway, and which of them takes a request.

The one with the fewest requests under way, in turn where that is equal. A request's model matters
only where upstreams say which models they serve. Knows nothing of clients or receipts.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.gateway.plane import tls
from lydite.gateway.plane.pool import Pool
from lydite.gateway.settings import Health, Limits, Settings, Upstream


class _Asked(msgspec.Struct, frozen=True):
    model: str


class Plan(tuple[tuple[Upstream, ssl.SSLContext | None], ...]):
    """Upstreams that can be used, with what their TLS needs."""

    __slots__ = ()


def plan(settings: Settings) -> Plan:
    """Check the upstreams of ``settings`` and read their files; nothing is connected.

    Raises:
        ConfigurationError: none, two of one address, a URL or a file that cannot be used.
    """
    members = upstreams_of(settings)
    if len({each.url for each in members}) < len(members):
        raise ConfigurationError("upstreams: one address is named twice")
    if len({bool(each.models) for each in members}) > 1:
        raise ConfigurationError("upstreams: either each names its models, or none does")
    return Plan((each, tls.upstream_context(each)) for each in members)


def upstreams_of(settings: Settings) -> tuple[Upstream, ...]:
    """Return the upstreams, whichever way they are spelt.

    Raises:
        ConfigurationError: both ``upstream`` and ``upstreams``, or neither.
    """
    if (settings.upstream is None) == (not settings.upstreams):
        raise ConfigurationError("name either one upstream, or several upstreams")
    if settings.upstream is not None:
        return (Upstream(url=settings.upstream),)
    return settings.upstreams


class Fleet:
    """Every upstream. Belongs to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pools: list[Pool] = []
        self._retired: list[Pool] = []
        self._gone: Counter[str] = Counter()
        self._turn = 0
        self.models: tuple[str, ...] = ()
        """Every declared model, in order; empty: upstreams do not say, and requests go anywhere."""

    @property
    def pools(self) -> Sequence[Pool]:
        """Every upstream that is in use, well or not."""
        return self._pools

    def set(self, members: Plan, limits: Limits, health: Health) -> None:
        """Use these upstreams from now on. Those that stay keep their connections and their name.

        What runs on one that leaves goes on to its end.
        """
        before = {pool.upstream: pool for pool in self._pools}
        self._pools = []
        for upstream, context in members:
            pool = before.pop(upstream, None)
            if pool is None:
                pool = Pool(upstream, limits, health, self._loop, context)
            pool.renew(limits, health, context)
            pool.spare = self._spare
            self._pools.append(pool)
        for pool in before.values():
            pool.close()
            self._retired.append(pool)
        named = {model for upstream, _ in members for model in upstream.models}
        self.models = tuple(sorted(named))

    def model_of(self, body: bytes) -> str | None:
        """Return the model that a request asks for, None where it does not matter.

        Raises:
            FormatError: it matters, and the body is no JSON object with a model.
        """
        if not self.models:
            return None
        try:
            return msgspec.json.decode(body, type=_Asked).model
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"request: {error}") from error

    def choose(self, model: str | None = None) -> Pool:
        """Return the upstream that is to take a request for ``model``; None: any model.

        Raises:
            UnavailableError: there is none.
        """
        found = self._least(model, None)
        if found is not None:
            return found
        if model is not None and model not in self.models:
            raise UnavailableError("no upstream serves this model", Reason.UNSERVED_MODEL)
        raise UnavailableError("no upstream is up; try again later", Reason.NO_UPSTREAM)

    def usable(self) -> int:
        """Return how many upstreams may be asked now."""
        now = self._loop.time()
        return sum(pool.usable(now) for pool in self._pools)

    def errors(self) -> Mapping[str, int]:
        """Return how often upstreams have failed, by kind, those that have left included."""
        total = Counter(self._gone)
        for pool in (*self._pools, *self._retired):
            total.update(pool.errors)
        return total

    def sweep(self) -> None:
        """Close connections that have been idle for too long."""
        for pool in self._pools:
            pool.sweep()
        for pool in [each for each in self._retired if not each.outstanding]:
            self._retired.remove(pool)
            self._gone.update(pool.errors)

    def close(self) -> None:
        """Close every idle connection."""
        for pool in (*self._pools, *self._retired):
            pool.close()

    def _spare(self, failed: Pool, model: str | None) -> Pool | None:
        return self._least(model, failed)

    def _least(self, model: str | None, barred: Pool | None) -> Pool | None:
        """Return the usable upstream with the fewest requests, the next in turn of several."""
        now, count = self._loop.time(), len(self._pools)
        if count == 1 and model is None and barred is None:
            only = self._pools[0]
            return only if only.usable(now) else None
        best: Pool | None = None
        at = 0
        for step in range(count):
            index = (self._turn + step) % count
            pool = self._pools[index]
            if pool is barred or not pool.usable(now):
                continue
            if model is not None and model not in pool.models:
                continue
            if best is None or pool.outstanding < best.outstanding:
                best, at = pool, index
        if best is not None:
            self._turn = at + 1
        return best
