"""What a gateway is told: frozen, parsed once. Reads no environment and no clock.

Times are in milliseconds and sizes in bytes, as their names say.
"""

from typing import Annotated

import msgspec

from lydite.sampling.beacon import Chain

Positive = Annotated[int, msgspec.Meta(gt=0)]
Body = Annotated[int, msgspec.Meta(gt=0, le=80 * 1024 * 1024)]
"""Two of these, in base64, fit into the largest opening."""


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


class Limits(_Frozen, frozen=True, kw_only=True):
    """Bounds on what a peer may make the gateway hold, and on how long it may take."""

    head_bytes: Positive = 32 * 1024
    fields: Positive = 100
    target_bytes: Annotated[int, msgspec.Meta(gt=0, le=200)] = 200
    """As long as an opening can hold."""
    body_bytes: Body = 64 * 1024 * 1024
    answer_bytes: Body = 64 * 1024 * 1024
    head_timeout_ms: Positive = 10_000
    body_timeout_ms: Positive = 30_000
    idle_timeout_ms: Positive = 75_000
    connections: Positive = 4096
    connect_timeout_ms: Positive = 5_000
    upstream_idle_ms: Positive = 300_000
    pool_idle_ms: Positive = 4_000
    """How long an unused upstream connection is kept: less than the engine keeps it (5 s)."""
    drain_ms: Positive = 30_000
    sweep_ms: Positive = 250
    """How often timeouts are looked at: their resolution."""


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


class Keys(_Frozen, frozen=True, kw_only=True):
    """Paths of the four private keys, files as ``signing.keys.create`` writes them."""

    gateway: str
    provider: str
    log: str
    vrf: str


class Settings(_Frozen, frozen=True, kw_only=True):
    """Everything that a gateway needs. Port 0 lets the system choose.

    ``upstream`` is the engine's bare origin, ``state`` the directory of log and journal,
    ``declaration`` the file of the provider's signed declaration envelope, ``policy`` a C2SP
    tlog-policy without its ``log`` line that says which of the ``witnesses`` are enough,
    ``auditors`` the Ed25519 keys in hexadecimal whose entries are taken into the log,
    ``audit_token`` what an auditor presents to open epochs and openings (none: nobody may).
    """

    upstream: str
    state: str
    keys: Keys
    declaration: str
    origin: str
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8088
    witnesses: tuple[Witness, ...] = ()
    policy: str = "quorum none\n"
    auditors: tuple[str, ...] = ()
    audit_token: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    beacon: Beacon | None = None
    checkpoint_ms: Positive = 1_000
    limits: Limits = Limits()
