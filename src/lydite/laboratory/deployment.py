"""A whole deployment on one machine: beacon, witnesses, and a gateway before each provider.

Everything is a real process on loopback with keys of its own; the relying party's trust file is
written apart from what the providers can touch. Knows nothing of how anybody cheats.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from lydite.appraisal.authority import Authority, Grant
from lydite.appraisal.policy import Policy
from lydite.appraisal.policy import digest as policy_digest
from lydite.appraisal.trust import Anchor, Trust
from lydite.evidence.tokens.reference import Reference
from lydite.evidence.tokens.reference import digest as reference_digest
from lydite.gateway import settings
from lydite.laboratory.processes import Processes, Service
from lydite.messages.canonical import encode
from lydite.messages.declaration import Declaration, Predicate
from lydite.messages.statement import Sha256, Subject
from lydite.sampling import vrf
from lydite.sampling.beacon import Chain, Scheme
from lydite.signing import keys, notes
from lydite.signing.keys import Signer, sign_envelope

WITNESSES = ("witness-1", "witness-2")
ROLES = ("provider", "gateway", "log", "vrf")


class Provider(NamedTuple):
    """A provider that is up: its name, where its gateway answers, its anchor, its audit token.

    ``control`` is where the gateway takes orders.
    """

    name: str
    url: str
    anchor: Anchor
    token: str
    control: str


class Execution(NamedTuple):
    """How providers declare that they run the model; what they run is for the audit to find out."""

    engine: str = "lydite transformers"
    dtype: str = "bfloat16"
    token_ids: bool = True


OURS = Execution()


class Deployment(NamedTuple):
    """Everything that is up, and whom a relying party of it trusts."""

    providers: tuple[Provider, ...]
    trust: Trust
    auditor: Signer


def deploy(
    processes: Processes,
    directory: Path,
    engines: Mapping[str, Service],
    policy: Policy,
    reference: Reference,
    execution: Execution = OURS,
) -> Deployment:
    """Put a gateway with a log of its own before each engine, and return what came up.

    ``engines`` are services that serve, or claim to serve, the weights that ``reference`` is for,
    the way that ``execution`` says. The auditor is also the one officer, granted to cut the power.

    Raises:
        UnavailableError: a process did not start.
    """
    auditor = keys.create(_place(directory / "auditor") / "auditor.key")
    chain, beacon_url = start_beacon(processes, directory)
    sites = [_Site.prepare(directory / name, name) for name in engines]
    witnesses = start_witnesses(processes, directory, [site.log_vkey for site in sites])
    quorum = all_of(witnesses)
    common = _Common(
        witnesses=witnesses,
        policy=quorum,
        auditors=(auditor.public.hex(),),
        beacon=settings.Beacon(
            chain=chain, url=beacon_url, margin_s=policy.beacon_margin_s, lead_s=2
        ),
    )
    gateways = []
    for site in sites:
        declaration = site.declare(reference, execution)
        path = site.configure(_origin_of(engines[site.name].ready()), declaration, common)
        gateways.append(
            processes.start(f"{site.name}-gateway", "lydite.cli.main", "gateway", "run", path)
        )
    providers = tuple(map(_up, sites, gateways))
    trust = Trust(
        policy=policy_digest(policy),
        references=(reference_digest(reference),),
        auditors=(auditor.public.hex(),),
        beacon=chain,
        witnesses=quorum,
        providers=tuple(provider.anchor for provider in providers),
    )
    return Deployment(providers, trust, auditor)


def _up(site: "_Site", gateway: Service) -> Provider:
    said = gateway.ready()
    return Provider(site.name, _origin_of(said), site.anchor(), site.token, str(said["control"]))


class _Common(NamedTuple):
    """What the settings of all gateways of one deployment share."""

    witnesses: tuple[settings.Witness, ...]
    policy: str
    auditors: tuple[str, ...]
    beacon: settings.Beacon


class _Site(NamedTuple):
    """The keys and files of one provider and the gateway before it."""

    name: str
    directory: Path
    provider: Signer
    gateway: Signer
    log: Signer
    vrf: Signer
    token: str

    @classmethod
    def prepare(cls, directory: Path, name: str) -> Self:
        _place(directory)
        made = {role: keys.create(directory / f"{role}.key") for role in ROLES}
        return cls(name, directory, token=secrets.token_urlsafe(24), **made)

    @property
    def origin(self) -> str:
        return f"lydite.demo/{self.name}"

    @property
    def log_vkey(self) -> str:
        return str(notes.verifier_key(self.origin, self.log))

    def configure(self, upstream: str, declaration: Path, common: _Common) -> Path:
        config = settings.Settings(
            upstream=upstream,
            state=str(self.directory / "state"),
            keys=settings.Keys(**{role: str(self.directory / f"{role}.key") for role in ROLES}),
            declaration=str(declaration),
            origin=self.origin,
            port=0,
            audit_token=self.token,
            checkpoint_ms=500,
            control_port=0,
            admin=Authority(
                officers={"recomputer": common.auditors[0]},
                grants=(Grant(actions=("cut-power",), officers=("recomputer",), threshold=1),),
            ),
            **common._asdict(),
        )
        return self.write("gateway.json", msgspec.json.format(msgspec.json.encode(config)))

    def anchor(self) -> Anchor:
        return Anchor(
            name=self.name,
            provider_key=self.provider.public.hex(),
            gateway_key=self.gateway.public.hex(),
            vrf_key=vrf.public_key(self.vrf.seed()).hex(),
            log_vkey=self.log_vkey,
        )

    def declare(self, reference: Reference, execution: Execution) -> Path:
        root = reference.weights_root
        statement = Declaration(
            subject=(Subject(name=reference.name, digest=Sha256(sha256=root)),),
            predicate=Predicate(
                model=reference.name,
                weights_root=root,
                sampler=reference.sampler,
                **execution._asdict(),
                provider=self.provider.keyid,
            ),
        )
        return self.write("declaration.json", sign_envelope(encode(statement), self.provider))

    def write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path


def _origin_of(said: dict[str, Any]) -> str:
    return str(said["url"]).removesuffix("/v1")


def _place(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def start_beacon(processes: Processes, directory: Path) -> tuple[Chain, str]:
    """Start a beacon of a second's period; return its chain and where it answers."""
    key = _place(directory / "beacon") / "beacon.key"
    signer = keys.create(key)
    service = processes.start(
        "beacon", "lydite.laboratory.beacon_server", "--port", "0", "--key", key, "--period", "1"
    )
    said = service.ready()
    chain = Chain(
        name="local-development",
        scheme=Scheme.LOCAL_DEV,
        public_key=signer.public.hex(),
        genesis_time_s=said["genesis_time_s"],
        period_s=1,
    )
    return chain, _origin_of(said)


def start_witnesses(
    processes: Processes, directory: Path, logs: Sequence[str]
) -> tuple[settings.Witness, ...]:
    """Start two witnesses of these logs."""
    services = []
    for name in WITNESSES:
        place = _place(directory / name)
        keys.create(place / "witness.key")
        arguments: list[str | Path] = ["--port", "0", "--key", place / "witness.key"]
        arguments += ["--name", name, "--state", place / "state"]
        for log in logs:
            arguments += ["--log", log]
        services.append(processes.start(name, "lydite.tlog.witness_server", *arguments))
    said = [service.ready() for service in services]
    return tuple(settings.Witness(url=each["url"], vkey=each["vkey"]) for each in said)


def all_of(witnesses: Sequence[settings.Witness]) -> str:
    """Return a tlog-policy that asks for every witness."""
    names = [witness.vkey.partition("+")[0] for witness in witnesses]
    lines = [f"witness {name} {each.vkey}" for name, each in zip(names, witnesses, strict=True)]
    return "\n".join([*lines, f"group everyone all {' '.join(names)}", "quorum everyone", ""])
