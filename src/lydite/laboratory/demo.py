"""The demonstration: one honest provider and six that cheat, each behind a gateway, all judged.

Drives real processes with real traffic and believes no verdict that ``lydite verify`` does not
reach by itself from the bundle alone.
"""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import msgspec

from lydite.appraisal.policy import DEFAULT
from lydite.auditor.bench import Bench
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.service import Auditor
from lydite.errors import ConfigurationError, UnavailableError
from lydite.evidence.tokens import reference as references
from lydite.laboratory.cheats import SEEDLESS
from lydite.laboratory.deployment import Deployment, Provider, deploy
from lydite.laboratory.places import fresh, point, read
from lydite.laboratory.processes import Processes, Service
from lydite.laboratory.traffic import asks, send
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier

CAST = (
    ("honest", "honest"),
    ("smaller", "smaller-model"),
    ("quantised", "int4-weights"),
    ("heated", "other-temperature"),
    ("prompted", "injected-prompt"),
    ("replaying", "replayed-answers"),
    ("mixing", "mixed-20"),
)
"""Names of the providers, and what each of them does."""
HONEST = "honest"
WAITING = "waiting"
"""Stands for the reason of a verdict before there is one."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How large the demonstration is. ``rate_ppm`` is the share of requests that is drawn."""

    directory: Path
    models: Path = Path("models")
    references: Path = Path("data/reference/tokens")
    model: str = "lydite-base"
    """The declared model: a directory below ``models``, a file below ``references``."""
    cast: tuple[tuple[str, str], ...] = CAST
    requests: int = 72
    rounds: int = 2
    max_tokens: int = 64
    rate_ppm: int = 800_000


class Row(msgspec.Struct, kw_only=True):
    """What is known of one provider so far; ``refused`` is what became of the tampered bundle."""

    name: str
    cheat: str
    requests: int = 0
    audited: int = 0
    tokens: int = 0
    tier: str = Tier.NONE.value
    reason: str = WAITING
    log10_e: float = 0.0
    bundle: str = ""
    verified: str = ""
    refused: str = ""

    @property
    def right(self) -> bool:
        """Whether the verdict is right, was reached again offline, and a forgery of it refused."""
        expected = {Tier.AFFIRMING} if self.cheat == HONEST else {Tier.CONTRAINDICATED}
        if self.cheat in SEEDLESS:
            expected.add(Tier.WARNING)
        return self.tier in {tier.value for tier in expected} and self._stands

    @property
    def undecided(self) -> bool:
        """Whether nothing is wrong but that the evidence did not suffice for a verdict."""
        return self.tier == Tier.NONE.value and self._stands

    @property
    def _stands(self) -> bool:
        """Whether the verdict was reached again offline, and a forgery of it refused."""
        return self.verified == self.tier and self.refused not in {"", self.tier}


class Stage:
    """The rows and what is going on; a view redraws when it changes."""

    def __init__(self, cast: Sequence[tuple[str, str]], show: Callable[["Stage"], None]) -> None:
        self.rows = [Row(name=name, cheat=cheat) for name, cheat in cast]
        self.doing = ""
        self._show = show
        self._lock = threading.Lock()

    def tell(self, doing: str) -> None:
        """Say what is going on."""
        with self._lock:
            self.doing = doing
            self._show(self)

    def count(self, row: Row) -> None:
        """Note one more answered request."""
        with self._lock:
            row.requests += 1
            self._show(self)


def run(options: Options, show: Callable[[Stage], None]) -> list[Row]:
    """Run the demonstration and return its rows; then ``latest`` leads to what it left.

    Raises:
        ConfigurationError: models or reference are missing, no directory can be made, or there are
            fewer requests than rounds.
        UnavailableError: a process did not start or did not answer.
    """
    if options.requests < options.rounds:
        raise ConfigurationError(
            f"{options.requests} requests to each provider do not fill {options.rounds} rounds; "
            f"ask for {options.rounds} or more"
        )
    stage = Stage(options.cast, show)
    reference = references.parse(read(options.references / f"{options.model}.json"))
    directory = fresh(options.directory)
    with Processes(directory / "logs") as processes:
        stage.tell(f"starting {len(options.cast)} model servers")
        engines = {name: _engine(processes, options, name, cheat) for name, cheat in options.cast}
        bench = _bench(options, reference)
        for up, engine in enumerate(engines.values()):
            stage.tell(f"starting {len(engines)} model servers, {up} are up")
            engine.ready()
        stage.tell("starting beacon, witnesses and gateways")
        deployment = deploy(processes, directory, engines, DEFAULT, reference)
        (directory / "trust.json").write_bytes(encode(deployment.trust) + b"\n")
        auditors = [_auditor(deployment, p, bench) for p in deployment.providers]
        for number in range(options.rounds):
            _send(stage, deployment.providers, options, number)
            _audit(stage, auditors, options, f"{number + 1} of {options.rounds}")
        for row, auditor in zip(stage.rows, auditors, strict=True):
            path = directory / f"{row.name}.bundle.json"
            path.write_bytes(encode(auditor.bundle()))
            row.bundle = str(path)
    for row in stage.rows:
        stage.tell(f"checking the bundle of {row.name} offline")
        _recheck(row, directory)
    point(options.directory / "latest", directory)
    stage.tell("done")
    return stage.rows


def _engine(processes: Processes, options: Options, name: str, cheat: str) -> Service:
    return processes.start(
        f"{name}-engine",
        "lydite.laboratory.serve",
        *("--cheat", cheat, "--port", "0"),
        *("--model", options.models / options.model),
        *("--small-model", options.models / "lydite-small"),
    )


def _bench(options: Options, reference: references.Reference) -> Bench:
    # torch takes seconds to import, which pass while the servers start
    from lydite.engines.transformers_engine import TransformersEngine

    place = options.models / options.model
    exact = TransformersEngine.load(place, "fp32")
    return Bench(exact, (reference,), TransformersEngine.load(place, "bf16"))


def _auditor(deployment: Deployment, provider: Provider, bench: Bench) -> Auditor:
    client = GatewayClient(provider.url, provider.token)
    return Auditor(client, deployment.trust, provider.anchor, DEFAULT, bench, deployment.auditor)


def _send(stage: Stage, providers: Sequence[Provider], options: Options, number: int) -> None:
    stage.tell(f"sending requests with the openai SDK, round {number + 1}")
    each = options.requests // options.rounds
    wanted = list(islice(asks(number * each), each))

    def one(row: Row, provider: Provider) -> None:
        send(provider.url, options.model, wanted, options.max_tokens, lambda: stage.count(row))

    with ThreadPoolExecutor(len(providers)) as pool:
        list(pool.map(one, stage.rows, providers))


def _audit(stage: Stage, auditors: Sequence[Auditor], options: Options, turn: str) -> None:
    stage.tell(f"epoch {turn}: witnessed checkpoint, beacon, draw")
    with ThreadPoolExecutor(len(auditors)) as pool:
        list(pool.map(lambda auditor: auditor.open_epoch(options.rate_ppm), auditors))
        stage.tell(f"epoch {turn}: recomputing what was drawn")
        list(pool.map(lambda auditor: auditor.audit_pending(), auditors))
        verdicts = list(pool.map(lambda auditor: auditor.judge(), auditors))
    for row, verdict in zip(stage.rows, verdicts, strict=True):
        row.audited, row.tokens = verdict.audited, verdict.tokens
        row.tier, row.reason = verdict.tier.value, verdict.reason.value
        row.log10_e = verdict.log10_e_milli / 1000
    stage.tell(f"epoch {turn}: judged")


def _recheck(row: Row, directory: Path) -> None:
    """Have a fresh process verify the bundle, and a copy in which the verdict was turned."""
    trust = directory / "trust.json"
    report = _verify(Path(row.bundle), trust)
    row.verified = report["tier"]
    forged = directory / f"{row.name}.forged.json"
    forged.write_bytes(forge(Path(row.bundle).read_bytes()))
    row.refused = _verify(forged, trust)["reason"]


def forge(bundle: bytes) -> bytes:
    """Return a copy of a bundle whose result says the opposite, as a liar would write it."""
    fields = json.loads(bundle)
    envelope = fields["result"]["envelope"]
    said = json.loads(base64.b64decode(envelope["payload"]))
    verdict = said["predicate"]["verdict"]
    verdict["tier"] = "none" if verdict["tier"] == "affirming" else "affirming"
    envelope["payload"] = base64.b64encode(_sorted(said)).decode()
    return _sorted(fields)


def _sorted(fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _verify(bundle: Path, trust: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "lydite.cli.main", "verify", "--json"]
    done = subprocess.run(
        [*command, "--trust", str(trust), str(bundle)], capture_output=True, check=False
    )
    try:
        report: dict[str, str] = json.loads(done.stdout)
    except ValueError as error:
        raise UnavailableError(f"lydite verify said: {done.stderr.decode()}") from error
    return report
