"""What an auditor is told: frozen, parsed once. Paths are relative to the working directory."""

from typing import Annotated

import msgspec

from lydite.messages.epoch import Ppm


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway to audit: where it answers, its audit token, and the provider's name in ``trust``.

    The token opens drawn receipts; it comes from the operator of the gateway.
    """

    url: str
    token: str
    provider: str


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an auditor needs.

    ``trust`` is its trust file, ``key`` its signing key, ``model`` the declared model's directory,
    ``reference`` the Reference Value, ``policy`` the policy's file (none: the default one),
    ``bundles`` where bundles are written, ``rate_ppm`` the share of requests that it draws, and
    ``period_s`` the time from one epoch to the next.
    """

    trust: str
    key: str
    model: str
    reference: str
    gateways: tuple[Gateway, ...]
    policy: str | None = None
    bundles: str = "bundles"
    rate_ppm: Ppm = 10_000
    period_s: Annotated[int, msgspec.Meta(gt=0)] = 60
