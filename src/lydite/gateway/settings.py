"""What a gateway is told: frozen, parsed once. Reads no environment and no clock.

Times are in milliseconds and sizes in bytes, as their names say.
"""

from typing import Annotated, Literal

import msgspec

from lydite.appraisal.authority import Authority
from lydite.evidence.egress.profile import Bounds
from lydite.messages.canonical import Hex32
from lydite.sampling.beacon import Chain

Durability = Literal["group-fsync", "process"]
Promises = Literal["signed", "batched"]
WhenFull = Literal["drop", "refuse"]
AfterAudit = Literal["keep", "destroy"]
Positive = Annotated[int, msgspec.Meta(gt=0)]
LogLevel = Literal["debug", "info", "warning", "error"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Body = Annotated[int, msgspec.Meta(gt=0, le=80 * 1024 * 1024)]
"""Two of these, in base64, fit into the largest opening."""
Argv = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
"""A command and its arguments."""


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


class Limits(_Frozen, frozen=True, kw_only=True):
    """Bounds on what a peer may make the gateway hold, and on how long it may take."""

    head_bytes: Positive = 32 * 1024
    fields: Positive = 100
    target_bytes: Annotated[int, msgspec.Meta(gt=0, le=200)] = 200
    """As long as an opening can hold."""
    body_bytes: Body = 64 * 1024 * 1024
    unread_bytes: Positive = 512 * 1024 * 1024
    """What all long bodies may take in memory, in one process: until an answer is read."""
    answer_bytes: Body = 64 * 1024 * 1024
    head_timeout_ms: Positive = 10_000
    body_timeout_ms: Positive = 30_000
    idle_timeout_ms: Positive = 75_000
    connections: Positive = 4096
    connections_per_peer: Positive = 2048
    """Of one address. A load balancer in front is one peer: give it as many as it may open."""
    connect_timeout_ms: Positive = 5_000
    first_byte_ms: Positive = 600_000
    """How long an engine may take to begin its answer: all its work, if it does not stream."""
    upstream_idle_ms: Positive = 300_000
    """How long an engine may be silent within an answer."""
    pool_idle_ms: Positive = 4_000
    """How long an unused upstream connection is kept: less than the engine keeps it (5 s)."""
    drain_ms: Positive = 30_000
    sweep_ms: Positive = 250
    """How often timeouts are looked at: their resolution."""


class Upstream(_Frozen, frozen=True, kw_only=True):
    """One engine: its bare origin, and what a TLS connection to it needs.

    ``models`` are those that it serves (none: whatever is asked), ``ca`` the PEM file of the
    authorities that may vouch for it (none: the system's), ``certificate`` and ``key`` the PEM
    files by which the gateway shows who it is.
    """

    url: str
    models: tuple[str, ...] = ()
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class Tls(_Frozen, frozen=True, kw_only=True):
    """TLS towards clients: PEM files of the chain and its key, and who may come in.

    ``client_ca`` makes certificates of clients obligatory: those that these authorities vouch for
    and that carry one of ``client_names``, DNS names or SPIFFE ids (none: whomever they vouch for).
    """

    certificate: str
    key: str
    client_ca: str | None = None
    client_names: tuple[str, ...] = ()


class Telemetry(_Frozen, frozen=True, kw_only=True):
    """Spans of some requests, sent to an OpenTelemetry collector."""

    endpoint: str
    """Where it takes OTLP over HTTP, with the path: ``http://127.0.0.1:4318/v1/traces``."""
    sample_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 10_000
    """How many requests of a million get a span."""


class Health(_Frozen, frozen=True, kw_only=True):
    """How upstreams are watched: by asking after them, and by counting failed requests."""

    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*\Z")] = "/v1/models"
    """What is asked for; any answer below 500 will do."""
    interval_ms: Annotated[int, msgspec.Meta(ge=0)] = 5_000
    """How often each is asked; 0: never."""
    timeout_ms: Positive = 2_000
    failures: Positive = 3
    """How many checks in a row have to fail before an upstream is left out."""
    breaker_failures: Positive = 5
    """How many requests in a row have to fail, for want of any answer, before it is left out."""
    breaker_open_ms: Positive = 1_000
    """How long until one request may try again; doubled each time that it fails."""
    breaker_longest_ms: Positive = 30_000


class Egress(_Frozen, frozen=True, kw_only=True):
    """How many bits may leave beyond what the sampler explains, and who weighs them.

    ``meters`` are the Ed25519 keys in hexadecimal whose scores count, ``token`` is what they
    present to read answers. Budgets are bits that were scored, of one session (one Authorization)
    and of all together, on one UTC day; at ``alarm_ppm`` of one, in millionths, an alarm is logged.
    """

    meters: tuple[str, ...]
    token: Annotated[str, msgspec.Meta(min_length=16)]
    budget_bits_session: Positive = 65_536
    budget_bits_day: Positive = 1_048_576
    clients: tuple[Hex32, ...] = ()
    """SHA-256 of each Authorization that has a session of its own; all others share one session,
    ``anonymous``. Empty: each has its own."""
    budget_bits_anonymous: Positive = 131_072
    """With ``clients``: the part of the day's budget that is for ``anonymous``, and for nobody
    else; known clients have the rest."""
    alarm_ppm: Annotated[int, msgspec.Meta(gt=0, le=1_000_000)] = 500_000
    unscored_bits_session: Positive = 1 << 20
    """What one session may carry out, charged by size, before its scores come."""
    unscored_bits: Positive = 1 << 25
    """The same for all sessions together."""
    anchor_s: Positive = 60
    """How often the log is told how far the accounts have come; an older copy is refused."""
    silent_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How long answers may wait for any score before no more are given; 0: for ever."""
    pace_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    """The grid of times on which bytes leave; 0: as they come."""
    pad_bytes: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """Pieces of paced streams are lengthened to a multiple of this; 0: not."""
    charge_timing: bool = False
    """Whether what the times of paced pieces can carry is charged to the session."""
    profile: Bounds = Bounds()
    """Above which traffic does not look like inference (``entropy``, ``blobs``, ``bulk``,
    ``balance`` and ``beat`` in thousandths), and how many of them make an alarm (``needed``)."""


class Witness(_Frozen, frozen=True, kw_only=True):
    """A witness of the log: where it answers, and the key of its cosignatures."""

    url: str
    vkey: str


class Beacon(_Frozen, frozen=True, kw_only=True):
    """Public randomness: the chain, where its rounds are had, and the margin for clocks."""

    chain: Chain
    url: str
    margin_s: Annotated[int, msgspec.Meta(ge=0)] = 1
    timeout_ms: Positive = 60_000
    """How long to wait for a round beyond its due time."""
    lead_s: Annotated[int, msgspec.Meta(ge=0)] = 3
    """How far ahead of its round an epoch is pledged: as long as witnesses may take to see it.
    What they see later has to be pledged again, and then everything is drawn."""


class Retention(_Frozen, frozen=True, kw_only=True):
    """How long inputs and outputs are kept: until an epoch draws, and the drawn ones after it."""

    vault_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 4 * 1024 * 1024 * 1024
    """How much disk the vault may take, and so the largest pair that passes."""
    vault_s: Positive = 7 * 86_400
    """How long a pair waits for an epoch, and how long a drawn one is kept after that, counted
    while the gateway runs."""
    when_full: WhenFull = "drop"
    """What happens when pairs have no room, or have waited too long: the oldest that no epoch has
    drawn from are dropped, and the log says so (``drop``); or no request is taken until an epoch
    makes room (``refuse``)."""
    after_audit: AfterAudit = "keep"
    """Whether a drawn pair stays until its time is up (``keep``: another auditor may repeat the
    audit), or goes when an auditor's record of it is in the log (``destroy``)."""


class Keys(_Frozen, frozen=True, kw_only=True):
    """Paths of the four private keys, files as ``signing.keys.create`` writes them."""

    gateway: str
    provider: str
    log: str
    vrf: str


class CommandPower(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="command"):
    """Power by commands, no shell between: exit code 0 of ``off`` says that the power is off."""

    on: Argv
    off: Argv
    timeout_ms: Positive = 30_000


class IpmiPower(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="ipmi"):
    """Power over IPMI 2.0 by ``ipmitool``; the password in a file of mode 0600."""

    host: str
    user: str
    password_file: str
    tool: str = "ipmitool"
    timeout_ms: Positive = 30_000


class RedfishPower(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="redfish"):
    """Power over Redfish: ``url`` of the ComputerSystem, https unless it is on this machine.

    ``login`` says whether to open a session or to send the password each time, ``ca_file`` whose
    certificates count (the system's if none); the password is in a file of mode 0600.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]+/redfish/v1/Systems/[^\s/?#]+\Z")]
    user: str
    password_file: str
    login: Literal["session", "basic"] = "session"
    ca_file: str | None = None
    timeout_ms: Positive = 30_000


class Modes(_Frozen, frozen=True, kw_only=True):
    """Which weights the machine behind the gateway may be given, and how (``docs/modes.md``).

    ``store`` is a directory in memory, whose ``model`` folder the machine loads from; ``whitelist``
    are directories that ``lydite gateway sign`` made; ``signing_keys`` and ``certificates`` the PEM
    files that say whose model signatures count. ``wipe`` is run each time the power is off, and
    ``upload_token`` is what an uploader presents (none: who reaches the port may try).
    ``reload_every_s`` bounds how long a machine serves before its memory is wiped.
    """

    store: str
    power: CommandPower | IpmiPower | RedfishPower
    whitelist: tuple[str, ...] = ()
    signing_keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    wipe: Argv | None = None
    upload_host: str = "127.0.0.1"
    upload_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8089
    upload_token: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    stall_ms: Positive = 30_000
    load_timeout_ms: Positive = 600_000
    retry_ms: Positive = 5_000
    """How long after a power switch or a wipe failed it is tried again."""
    reload_every_s: Positive | None = None


class Device(_Frozen, frozen=True, kw_only=True):
    """The TPM that the gateway's keys are sealed to. See docs/sealed-state.md.

    ``address`` is a device, ``unix:PATH`` or ``tcp:HOST:PORT``. ``pcr`` is the register into which
    the gateway measures itself: 16 and 23 can be reset, with any other it starts once a boot.
    ``pcrs`` are the further registers, of firmware and boot chain, that must not change.
    ``seal_every_s`` is how often the state is sealed again while there is something new: what a
    roll-back after a crash can undo, and how fast the TPM's counter is worn.
    """

    kind: Literal["tpm"]
    address: str = "/dev/tpmrm0"
    pcr: Literal[8, 9, 10, 11, 12, 13, 14, 15, 16, 23] = 23
    pcrs: tuple[Annotated[int, msgspec.Meta(ge=0, le=23)], ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    seal_every_s: Positive = 300
    timeout_s: Positive = 60
    """How long the TPM may take for one command."""


class Settings(_Frozen, frozen=True, kw_only=True):
    """Everything that a gateway needs. Port 0 lets the system choose.

    ``upstream`` is the engine's bare origin, or ``upstreams`` names several; ``health`` says how
    they are watched; ``tls`` is what clients are received with (none: plain HTTP), ``state`` the
    directory of log and journal, ``declaration`` the file of the provider's signed declaration
    envelope, ``policy`` a C2SP tlog-policy without its ``log`` line that says which of the
    ``witnesses`` are enough, ``auditors`` the Ed25519 keys in hexadecimal whose entries are taken
    into the log, ``audit_token`` what an auditor presents to open epochs and openings (none: nobody
    may), ``device`` the TPM that keys and state are sealed to (none: keys lie in the open).
    """

    serving: bool = True
    """Whether requests to a model are answered; receipts and the log are, in any case."""
    upstream: str | None = None
    upstreams: tuple[Upstream, ...] = ()
    health: Health = Health()
    state: str
    keys: Keys
    declaration: str
    origin: str
    host: str = "127.0.0.1"
    port: Port = 8088
    tls: Tls | None = None
    witnesses: tuple[Witness, ...] = ()
    policy: str = "quorum none\n"
    auditors: tuple[str, ...] = ()
    audit_token: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    beacon: Beacon | None = None
    checkpoint_ms: Positive = 1_000
    workers: Annotated[int, msgspec.Meta(gt=0, le=256)] = 1
    """Processes that serve clients; with more than one, another keeps the log."""
    control_host: str = "127.0.0.1"
    control_port: Port | None = None
    """Where health, metrics and instructions are; none: nowhere."""
    log_level: LogLevel = "info"
    telemetry: Telemetry | None = None
    """Spans of some requests; none: no spans."""
    durability: Durability = "group-fsync"
    """When a receipt is released: once it survives a loss of power (``group-fsync``), or once it
    survives the end of this process (``process``; a loss of power may then cost the receipts since
    the last checkpoint)."""
    receipts: Promises = "signed"
    """Whether each answer carries the gateway's signature (``signed``), or the next checkpoint's
    covers it (``batched``)."""
    near_signatures_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How long ``/v1/signature/ID`` answers for a request, in seconds; 0: never. Its digests have
    no salt, see ``notary``."""
    retention: Retention = Retention()
    limits: Limits = Limits()
    egress: Egress | None = None
    """Meters what leaves; none: nothing is metered."""
    admin: Authority | None = None
    """Who may order what; without it nobody may order anything."""
    modes: Modes | None = None
    """None: the gateway serves whatever answers behind it, as it is."""
    device: Device | None = None
