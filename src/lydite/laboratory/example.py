"""A provider's deployment with everything that lydite adds, from client to verdict.

    client -> nginx -> gateway 1 -> model server 1
                    -> gateway 2 -> model server 2      recomputer, witnesses, beacon beside them

Balancer and model servers are what they would be without us, but for the addresses that the
balancer is given. Drives real processes; the client believes nothing about its requests that it has
not checked with its own trust file.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from lydite.appraisal.policy import DEFAULT
from lydite.auditor.settings import Model
from lydite.evidence.tokens import reference as references
from lydite.laboratory import balancer, recomputing
from lydite.laboratory.asking import Client, Question
from lydite.laboratory.cheats import SEEDLESS
from lydite.laboratory.deployment import Deployment, deploy
from lydite.laboratory.places import fresh, point, read
from lydite.laboratory.processes import Processes, Service
from lydite.laboratory.traffic import asks, send
from lydite.messages.tier import Tier

SERVERS: Final = ("server-1", "server-2")
HONEST: Final = "honest"
NOBODY_HAS: Final = "lydite-enormous"
"""A model that no gateway declares."""

_RATE_PPM: Final = 600_000
_PERIOD_MS: Final = 1_000
_BATCHES: Final = 4
_SETTLE_S: Final = 60.0
_POLL_S: Final = 0.25


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How large the example is, and whether a server cheats. ``requests`` are those of a batch."""

    directory: Path
    models: Path = Path("models")
    references: Path = Path("data/reference/tokens")
    model: str = "lydite-base"
    cheat: str = HONEST
    """What the second server does: one of ``laboratory.cheats``."""
    enforce: bool = False
    requests: int = 32
    max_tokens: int = 64


class Server(msgspec.Struct, kw_only=True):
    """What is known of one model server so far."""

    name: str
    does: str
    tier: str = Tier.NONE.value
    reason: str = "waiting"
    drawn: int = 0
    tokens: int = 0
    log10_e: float = 0.0
    alarm: str = ""
    routed: bool = True
    bundle: str = ""

    @property
    def decided(self) -> bool:
        """Whether there is a verdict."""
        return self.tier != Tier.NONE.value

    @property
    def right(self) -> bool:
        """Whether the verdict is what it should be, and an alarm stands where one should."""
        if self.does == HONEST:
            return self.tier == Tier.AFFIRMING.value and not self.alarm
        if self.does in SEEDLESS and self.tier == Tier.WARNING.value:
            return True
        return self.tier == Tier.CONTRAINDICATED.value and bool(self.alarm)


class Example(msgspec.Struct, kw_only=True):
    """Everything that a view shows."""

    servers: list[Server]
    sent: int = 0
    questions: list[Question] = []
    cannot: str = ""
    """What a client was told that asked for a model that nobody serves."""
    urls: dict[str, str] = {}
    directory: str = ""
    seconds: float = 0.0
    doing: str = ""

    @property
    def right(self) -> bool:
        """Whether every verdict is right and every question was answered by evidence."""
        asked = bool(self.questions) and all(each.right(self._honest()) for each in self.questions)
        return asked and bool(self.cannot) and all(each.right for each in self.servers)

    @property
    def undecided(self) -> bool:
        """Whether nothing is wrong but that a verdict is missing."""
        return any(not each.decided for each in self.servers)

    def _honest(self) -> set[str]:
        return {each.name for each in self.servers if each.does == HONEST}


Show = Callable[[Example], None]


class _Up(NamedTuple):
    """Everything that runs."""

    deployment: Deployment
    balancer: str
    recomputer: str


@contextmanager
def running(options: Options, show: Show) -> Iterator[Example]:
    """Run the example and yield what came of it; everything still runs inside the block.

    Raises:
        ConfigurationError: nginx, models or reference are missing, or no directory can be made.
        UnavailableError: a process did not start or did not answer.
    """
    balancer.program()
    started = time.monotonic()
    does = (HONEST, options.cheat)
    state = Example(servers=[Server(name=n, does=d) for n, d in zip(SERVERS, does, strict=True)])
    directory = fresh(options.directory)
    state.directory = str(directory)
    with Processes(directory / "logs") as processes:
        up = _start(processes, options, directory, _teller(state, show))
        state.urls = {"balancer": up.balancer, "recomputer": up.recomputer}
        _play(options, up, state, _teller(state, show))
        state.seconds = round(time.monotonic() - started, 1)
        point(options.directory / "latest", directory)
        state.doing = "done"
        show(state)
        yield state


def _teller(state: Example, show: Show) -> Callable[[str], None]:
    def tell(doing: str) -> None:
        state.doing = doing
        show(state)

    return tell


def _start(
    processes: Processes, options: Options, directory: Path, tell: Callable[[str], None]
) -> _Up:
    reference = references.parse(read(options.references / f"{options.model}.json"))
    tell("starting two model servers")
    engines = {
        name: _engine(processes, options, name, does)
        for name, does in zip(SERVERS, (HONEST, options.cheat), strict=True)
    }
    for engine in engines.values():
        engine.ready()
    tell("starting a beacon, two witnesses, and a gateway before each server")
    deployment = deploy(processes, directory, engines, DEFAULT, reference)
    tell("starting the recomputer, which loads the declared model, and nginx")
    settings = _settings(options, directory, deployment)
    recomputer = processes.start("recomputer", "lydite.cli.main", "recomputer", "run", settings)
    origins = [provider.url for provider in deployment.providers]
    _, front = balancer.start(processes, directory, origins)
    return _Up(deployment, front, str(recomputer.ready()["url"]))


def _engine(processes: Processes, options: Options, name: str, does: str) -> Service:
    model = options.models / options.model
    if does == HONEST:
        words = ("lydite.cli.main", "engine", "--port", "0", "--model", model)
        return processes.start(f"{name}-engine", *map(str, words))
    return processes.start(
        f"{name}-engine",
        "lydite.laboratory.serve",
        *("--cheat", does, "--port", "0"),
        *("--model", model),
        *("--small-model", options.models / "lydite-small"),
    )


def _settings(options: Options, directory: Path, deployment: Deployment) -> Path:
    model = Model(
        directory=str(options.models / options.model),
        references=(str(options.references / f"{options.model}.json"),),
    )
    return recomputing.prepare(
        directory,
        deployment,
        (model,),
        rate_ppm=_RATE_PPM,
        period_ms=_PERIOD_MS,
        mode="enforce" if options.enforce else "shadow",
    )


def _play(options: Options, up: _Up, state: Example, tell: Callable[[str], None]) -> None:
    """Send requests until there is a verdict on each server, then let the client ask."""
    client = Client(up.balancer, up.recomputer, options.model, up.deployment)
    _await(lambda: len(client.standings()) == len(SERVERS) and client.models() == {options.model})
    for batch in range(_BATCHES):
        tell(f"sending requests through nginx with the openai SDK, {state.sent} so far")
        if batch == 0:
            client.ask_own(options.max_tokens)
            state.sent += len(client.own)
            client.examine_own()
        wanted = list(islice(asks(batch * options.requests), options.requests))
        state.sent += send(
            up.balancer,
            options.model,
            wanted,
            options.max_tokens,
            lambda: None,
            patient=options.enforce,
        )
        tell("drawing, recomputing, judging")
        _await(lambda: _settled(client, state), _SETTLE_S)
        if all(server.decided for server in state.servers):
            break
    tell("the client asks what became of its own requests")
    state.questions = client.questions()
    state.cannot = client.ask_for(NOBODY_HAS)


def _settled(client: Client, state: Example) -> bool:
    """Bring the rows up to date, and say whether everything sent so far was drawn from."""
    alarms = client.alarms()
    for server, said in zip(state.servers, client.standings(), strict=True):
        server.tier, server.reason = said["tier"], said["reason"]
        server.drawn, server.tokens = said["audited"], said["tokens"]
        server.log10_e = said["log10EMilli"] / 1000
        server.alarm = alarms.get(said["provider"], "")
        server.bundle = f"{state.directory}/{server.name}.bundle.json" if said["audited"] else ""
        server.routed = said["routed"]
    return client.settled(state.sent)


def _await(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def public(state: Example) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(state)
    fields["right"] = state.right
    del fields["doing"]
    return fields
