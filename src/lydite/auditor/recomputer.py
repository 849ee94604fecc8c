"""Puts a recomputer together and runs it: the front, a watch over each gateway, its own log.

Prints one line of JSON when it is ready; log lines go to standard error.
"""

import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import uvicorn

from lydite.appraisal import policy, trust
from lydite.appraisal.policy import Policy
from lydite.appraisal.references import check_fit, check_set, parse
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor import alarms
from lydite.auditor.alarms import Alarms, Command, Shutdown
from lydite.auditor.bench import Bench
from lydite.auditor.examining import Examiner
from lydite.auditor.front import Front, Hall
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.ledger import Ledger
from lydite.auditor.line import Address
from lydite.auditor.ordering import Order
from lydite.auditor.outcomes import Outcomes
from lydite.auditor.refusals import Refusals
from lydite.auditor.registry import Place, Registry
from lydite.auditor.router import Router
from lydite.auditor.settings import Gateway, Model, Recomputer
from lydite.auditor.watch import Clients, Recompute, Terms, Watch
from lydite.engines.weights import check_root
from lydite.errors import ConfigurationError, FormatError, LyditeError, VerificationError
from lydite.messages.declaration import Declaration
from lydite.messages.plain import plain
from lydite.signing import keys, notes
from lydite.signing.keys import Signer
from lydite.tlog import policy as policies
from lydite.tlog.checkpointer import Checkpointer
from lydite.tlog.store import LogStore
from lydite.tlog.witness_client import WitnessClient

_logger = logging.getLogger(__name__)

_FIRST_LOOK_S: Final = 0.5
_DRAIN_S: Final = 5
_ASK_S: Final = 5.0
"""How long a gateway may take to answer for a client that waits."""
_THREADS: Final = 32


class _Shelf:
    """The models that can be recomputed."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._known = [_load(model) for model in models]

    def find(self, declared: Declaration) -> Bench | None:
        """Return what a declared model is recomputed with, None if it cannot be."""
        for bench in self._known:
            try:
                check_fit(declared, bench.references)
            except VerificationError:
                continue
            return bench
        return None


class _Parts(NamedTuple):
    """What a recomputer is made of."""

    front: Front
    registry: Registry
    watches: list[Watch]
    log: LogStore
    checkpointer: Checkpointer


class _Plain(logging.Formatter):
    """Lines in which nothing that a peer sent moves the cursor of who reads them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line of a record."""
        return plain(super().formatMessage(record))


def serve(settings: Recomputer, recompute: Recompute | None = None) -> int:
    """Run a recomputer until SIGTERM or SIGINT, and return 0.

    ``recompute`` stands in for the models that the settings name.

    Raises:
        LyditeError: trust, keys, models, state or address cannot be used.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("lydite: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with _assembled(settings, recompute or _Shelf(settings.models).find) as parts:
        try:
            listener = socket.create_server((settings.host, settings.port))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"cannot listen on {settings.host}:{settings.port}: {error}"
            ) from error
        with listener:
            asyncio.run(_serve(settings, parts, listener))
    return 0


async def _serve(settings: Recomputer, parts: _Parts, listener: socket.socket) -> None:
    beat_s, patience_s = settings.health_ms / 1000, settings.health_timeout_ms / 1000
    tasks = [
        asyncio.create_task(parts.registry.watch(beat_s, patience_s)),
        asyncio.create_task(parts.checkpointer.run()),
        asyncio.create_task(_mind(parts.watches, beat_s)),
    ]
    server = uvicorn.Server(
        uvicorn.Config(
            parts.front,
            http="httptools",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
        )
    )
    over = threading.Event()
    for watch in parts.watches:
        name = f"watch {watch.place.name}"
        threading.Thread(
            target=_watch, args=(watch, settings, over), name=name, daemon=True
        ).start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    port = listener.getsockname()[1]
    said = {"port": port, "url": f"http://{settings.host}:{port}", "log": str(parts.log.key)}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    try:
        await serving
    finally:
        over.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _watch(watch: Watch, settings: Recomputer, over: threading.Event) -> None:
    """Do round after round; the first until it is known what the gateway serves."""
    while not over.is_set():
        try:
            watch.round()
        except Exception:  # a bug met with one gateway must not leave it unwatched unnoticed
            _logger.exception("watch %s", watch.place.name)
        known = watch.place.model is not None
        over.wait(settings.period_ms / 1000 if known else _FIRST_LOOK_S)


async def _mind(watches: Sequence[Watch], beat_s: float) -> None:
    """Say at every beat of watches that do not come to an end, until cancelled."""
    while True:
        for watch in watches:
            try:
                await asyncio.to_thread(watch.mind)
            except LyditeError:  # the alarm could not be written: it is raised again
                _logger.exception("watch %s", watch.place.name)
        await asyncio.sleep(beat_s)


@contextlib.contextmanager
def _assembled(settings: Recomputer, recompute: Recompute) -> Iterator[_Parts]:
    """Yield the parts of a recomputer; its log is closed at the end."""
    anchors = trust.parse(_message(settings.trust))
    rules = policy.DEFAULT
    if settings.policy is not None:
        rules = policy.parse(_message(settings.policy))
    if not settings.gateways:
        raise ConfigurationError("the settings name no gateway")
    signer = keys.load(Path(settings.key))
    state = Path(settings.state)
    log = LogStore.open(state / "log", settings.origin, keys.load(Path(settings.log_key)))
    with log:
        checkpointer = _checkpointer(settings, log)
        try:
            ledger = Ledger(state / "statements", log, signer)
            terms = _terms(settings, (anchors, rules, signer), ledger, recompute)
            watches = [_watched(gateway, terms) for gateway in settings.gateways]
            registry = Registry([watch.place for watch in watches])
            front = _front(settings, (registry, watches), ledger, checkpointer, signer)
            yield _Parts(front, registry, watches, log, checkpointer)
        finally:
            checkpointer.close()


def _front(
    settings: Recomputer,
    known: tuple[Registry, list[Watch]],
    ledger: Ledger,
    checkpointer: Checkpointer,
    signer: Signer,
) -> Front:
    registry, watches = known
    outcomes = Outcomes(watches)
    refusals = Refusals(ledger, settings.cannot_ms, settings.cannot_per_s)
    said = {"recomputer": signer.public.hex(), "log": str(ledger.log.key)}
    return Front(
        Hall(
            router=Router(
                registry,
                refusals,
                deadline_s=settings.cannot_ms / 1000,
                body_bytes=settings.body_bytes,
            ),
            registry=registry,
            watches=watches,
            outcomes=outcomes,
            examiner=Examiner(outcomes, ledger, settings.examinations),
            ledger=ledger,
            checkpointer=checkpointer,
            keys=msgspec.json.encode(said),
            threads=ThreadPoolExecutor(_THREADS, thread_name_prefix="front"),
        )
    )


def _terms(
    settings: Recomputer,
    who: tuple[Trust, Policy, Signer],
    ledger: Ledger,
    recompute: Recompute,
) -> Terms:
    anchors, rules, signer = who
    hear: list[Callable[[bytes], None]] = []
    if settings.alarm_command:
        hear.append(alarms.command(settings.alarm_command))
    if settings.alarm_url is not None:
        hear.append(alarms.webhook(settings.alarm_url))
    return Terms(
        trust=anchors,
        policy=rules,
        signer=signer,
        alarms=Alarms(ledger, settings.mode, hear),
        recompute=recompute,
        bundles=Path(settings.bundles),
        rate_ppm=settings.rate_ppm,
        patience_s=settings.opening_ms / 1000,
        silence_s=settings.silence_ms / 1000,
        stale_s=(settings.period_ms + settings.stale_ms) / 1000,
    )


def _watched(gateway: Gateway, terms: Terms) -> Watch:
    anchor = anchor_of(terms.trust, gateway.provider)
    address = Address.parse(gateway.url)
    place = Place(name=anchor.name, provider=anchor.provider, address=address)
    clients = Clients(
        GatewayClient(gateway.url, gateway.token), GatewayClient(gateway.url, gateway.token, _ASK_S)
    )
    return Watch(place, anchor, clients, terms, _shutdown(gateway, anchor, terms.signer))


def _shutdown(gateway: Gateway, anchor: Anchor, signer: Signer) -> Shutdown | None:
    if gateway.control is not None:
        return Order(gateway.control, anchor, signer)
    return Command(gateway.shutdown) if gateway.shutdown else None


def anchor_of(anchors: Trust, name: str) -> Anchor:
    """Return the anchor of the provider that the trust file calls ``name``.

    Raises:
        ConfigurationError: it has none.
    """
    for anchor in anchors.providers:
        if anchor.name == name:
            return anchor
    raise ConfigurationError(f"the trust file has no provider called {name!r}")


def _load(model: Model) -> Bench:
    # torch takes seconds to import, and who only routes needs none of it
    from lydite.engines.transformers_engine import TransformersEngine

    place = Path(model.directory)
    known = tuple(parse(_message(path)) for path in model.references)
    check_set(known)
    check_root(place, known[0].weights_root)
    exact = TransformersEngine.load(place, "fp32")
    return Bench(exact, known, TransformersEngine.load(place, "bf16"))


def _checkpointer(settings: Recomputer, log: LogStore) -> Checkpointer:
    try:
        quorum = policies.parse(f"log {log.key}\n{settings.witness_policy}".encode())
        witnesses = tuple(
            WitnessClient(each.url, notes.parse_key(each.vkey)) for each in settings.witnesses
        )
    except FormatError as error:
        raise ConfigurationError(f"witnesses: {error}") from error
    return Checkpointer(log, quorum, witnesses, settings.checkpoint_ms / 1000, lambda: None)


def _message(path: str) -> bytes:
    try:
        return Path(path).read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
