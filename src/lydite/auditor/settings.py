"""What an auditor and a recomputer are told: frozen, parsed once.

Paths are relative to the working directory, times in milliseconds or seconds as their names say.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.alarm import Mode
from lydite.messages.epoch import Ppm

Positive = Annotated[int, msgspec.Meta(gt=0)]


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway to audit: where it answers, its audit token, and the provider's name in ``trust``.

    The token opens drawn receipts; it comes from the operator of the gateway. A recomputer that
    enforces its policy shuts down what stands behind it: by a signed instruction to ``control``,
    the URL of the gateway's control port, or else by the program ``shutdown``, which is given the
    provider's key id and the reason behind its own arguments.
    """

    url: str
    token: str
    provider: str
    control: str | None = None
    shutdown: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an auditor needs.

    ``trust`` is its trust file, ``key`` its signing key, ``model`` the declared model's directory,
    ``references`` its Reference Values, one for each kind of evidence, ``policy`` the policy's file
    (none: the default one), ``bundles`` where bundles are written, ``rate_ppm`` the share of
    requests that it draws, and ``period_s`` the time from one epoch to the next.
    """

    trust: str
    key: str
    model: str
    references: tuple[str, ...]
    gateways: tuple[Gateway, ...]
    policy: str | None = None
    bundles: str = "bundles"
    rate_ppm: Ppm = 10_000
    period_s: Positive = 60


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that can be recomputed: its directory, and the files of its Reference Values."""

    directory: str
    references: tuple[str, ...]


class Witness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A witness of the recomputer's own log: where it answers, and the key of its cosignatures."""

    url: str
    vkey: str


class Recomputer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a recomputer needs. Port 0 lets the system choose.

    ``trust`` is its trust file, ``key`` what it signs with, ``log_key`` and ``origin`` key and name
    of its own log, ``state`` the directory of that. A gateway whose model is none of ``models`` is
    routed to, and its verdict is *inconclusive*. ``mode`` says whether alarms are acted upon.
    ``cannot_ms`` is how long a request may look for a gateway, and ``cannot_per_s`` how many may be
    refused with a receipt. ``opening_ms`` is how long a drawn receipt may stay unopened, and
    ``silence_ms`` how long a gateway may not answer its auditor, before that is its fault.
    """

    trust: str
    key: str
    log_key: str
    origin: str
    state: str
    gateways: tuple[Gateway, ...]
    models: tuple[Model, ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8090
    mode: Mode = "shadow"
    policy: str | None = None
    bundles: str = "bundles"
    rate_ppm: Ppm = 10_000
    period_ms: Positive = 60_000
    """From one epoch to the next; nothing is drawn while nothing was logged."""
    stale_ms: Positive = 300_000
    """How much longer than a period a round over a gateway may take. After that its standing is
    ``none`` (``stale``), and that is its fault."""
    cannot_ms: Positive = 1_000
    cannot_per_s: Positive = 50
    opening_ms: Positive = 30_000
    silence_ms: Positive = 60_000
    health_ms: Positive = 1_000
    """How often each gateway is asked whether it is up; one that fails twice in a row is not."""
    health_timeout_ms: Positive = 5_000
    body_bytes: Positive = 64 * 1024 * 1024
    examinations: Positive = 8
    """How many clients may wait for the examination of a request of theirs."""
    alarm_command: tuple[str, ...] = ()
    """A program that is given each alarm on its standard input, with its arguments."""
    alarm_url: str | None = None
    """A URL on this machine to which each alarm is posted."""
    witnesses: tuple[Witness, ...] = ()
    witness_policy: str = "quorum none\n"
    """A C2SP tlog-policy without its ``log`` line, for the recomputer's own log."""
    checkpoint_ms: Positive = 1_000


class Meter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an egress meter needs.

    ``gateways`` are those to meter, each with its egress token, ``key`` the meter's signing key,
    ``model`` the declared model's directory, ``reference`` the egress Reference Value, ``dtype``
    the data type to compute in (as the reference says), ``scores`` a file that scores are added to
    (none: they are not kept), and ``poll_ms`` how often it looks for answers.
    """

    gateways: tuple[Gateway, ...]
    key: str
    model: str
    reference: str
    dtype: Literal["bf16", "fp32"] = "bf16"
    scores: str | None = None
    poll_ms: Positive = 500
