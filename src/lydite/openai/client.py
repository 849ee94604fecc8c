"""Makes the HTTP clients that verify, for whichever HTTP library the installed SDK takes.

openai-python 3 takes httpx2, its versions 1 and 2 take httpx; both have the same shape.
"""

import importlib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from lydite.appraisal import trust as trusts
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.messages.canonical import decode
from lydite.openai import fetching, transport
from lydite.openai.arrival import Pins
from lydite.openai.ledger import DEADLINE_S, Fetch, Receipts
from lydite.signing.dsse import PublicKey

_NEW_SDK = 3
_SETTINGS = ("verify", "cert", "proxy", "trust_env")
_FETCH_TIMEOUT_S = 10.0
_INNER = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy")
"""Settings of a client that its transport is made with, if it is given none."""
_LIMIT_BYTES = 1 << 20
_TIMEOUT_S = 600.0
"""As the SDK has it: answers of models take their time."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a verified client verifies, beyond whom it trusts.

    ``provider`` names one provider of a trust file; without, all are accepted. ``signed`` asks for
    a signature on each answer, which a gateway with batched receipts does not give. ``journal`` is
    a file to add each receipt to. ``deadline_s`` is how long a receipt may take to the log, and
    ``watch_s`` how often a thread looks whether it is there (none: only when ``settle`` is called).
    ``exempt`` are paths whose answers need no receipt.
    """

    provider: str | None = None
    signed: bool = True
    journal: str | Path | None = None
    deadline_s: float = DEADLINE_S
    watch_s: float | None = None
    exempt: tuple[str, ...] = ()


def verified_client(whom: str | Path | Anchor | Trust, **settings: Any) -> Any:
    """Return an ``httpx.Client`` or ``httpx2.Client`` that lets no unverified answer through.

    ``whom`` is a provider's anchor or a trust file (the object, or its path), or the gateway's
    Ed25519 key in hexadecimal. Among ``settings`` are those of ``Options``; the rest goes to the
    client as it is, a ``transport`` as what the verified one sends through. The client's
    ``receipts`` are ``Receipts``.

    Raises:
        ConfigurationError: nobody to trust can be read from ``whom``, or no library is installed.
    """
    return _client("Client", "HTTPTransport", transport.Sync, whom, settings)


def verified_async_client(whom: str | Path | Anchor | Trust, **settings: Any) -> Any:
    """Return the same for ``AsyncOpenAI``: an ``AsyncClient``."""
    return _client("AsyncClient", "AsyncHTTPTransport", transport.Async, whom, settings)


def _client(
    kind: str,
    inner_kind: str,
    outer: type[transport.Sync] | type[transport.Async],
    whom: str | Path | Anchor | Trust,
    settings: dict[str, Any],
) -> Any:
    library = _library()
    own = {name: settings.pop(name) for name in Options.__struct_fields__ if name in settings}
    options = Options(**own)
    pins, trust = pinned(whom, options)
    settings = {"timeout": _TIMEOUT_S, "follow_redirects": False, **settings}
    if trust is None and options.watch_s is not None:
        raise ConfigurationError("to watch a log takes an anchor or a trust file, not only a key")
    receipts = Receipts(
        trust,
        _fetch(library, settings),
        journal=None if options.journal is None else Path(options.journal),
        deadline_s=options.deadline_s,
    )
    inner = _inner(getattr(library, inner_kind), settings)
    watched = outer(inner, library, pins, receipts, options.exempt)
    client = getattr(library, kind)(transport=watched, **settings)
    client.receipts = receipts
    if options.watch_s is not None:
        receipts.watch(options.watch_s)
    return client


def _inner(kind: type[Any], settings: dict[str, Any]) -> Any:
    """Return the transport underneath, and take out of ``settings`` what belongs to it.

    Raises:
        ConfigurationError: mounts would lead answers around the checks.
    """
    if settings.pop("mounts", None):
        raise ConfigurationError("mounts would lead around the checks; give one transport instead")
    own = {name: settings.pop(name) for name in _INNER if name in settings}
    given = settings.pop("transport", None)
    if "trust_env" in own:
        settings["trust_env"] = own["trust_env"]  # the client looks for credentials there too
    return kind(**own) if given is None else given


def _library() -> ModuleType:
    """Return the HTTP library that the installed SDK takes clients of."""
    try:
        new = int(metadata.version("openai").partition(".")[0]) >= _NEW_SDK
        names: tuple[str, ...] = ("httpx2",) if new else ("httpx",)
    except metadata.PackageNotFoundError:
        names = ("httpx2", "httpx")
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ConfigurationError(
        f"none of {', '.join(names)} is installed; the SDK that verified_client is for brings it",
        Reason.NEEDS_EXTRA,
    )


def pinned(whom: str | Path | Anchor | Trust, options: Options) -> tuple[Pins, Trust | None]:
    """Return whose signatures are accepted, and what receipts are held to the log with.

    Raises:
        ConfigurationError: it is no key, anchor or trust file, or names no such provider.
    """
    if isinstance(whom, str) and len(whom) == 64 and not Path(whom).exists():
        try:
            return Pins((PublicKey(bytes.fromhex(whom)),), options.signed), None
        except ValueError as error:
            raise ConfigurationError(f"{whom} is no key in hexadecimal") from error
    if isinstance(whom, str | Path):
        whom = _read(Path(whom))
    trust = trusts.of_anchor(whom) if isinstance(whom, Anchor) else whom
    if options.provider is not None:
        chosen = tuple(each for each in trust.providers if each.name == options.provider)
        if not chosen:
            raise ConfigurationError(f"the trust file names no provider {options.provider}")
        trust = msgspec.structs.replace(trust, providers=chosen)
    keys = [anchor.gateway_public for anchor in trust.providers]
    if not keys:
        raise ConfigurationError("the trust file names no provider", Reason.NO_TRUST_ANCHORS)
    return Pins(keys, options.signed), trust


def _read(path: Path) -> Anchor | Trust:
    try:
        payload = path.read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode(payload, Anchor, limit=_LIMIT_BYTES)
    except FormatError:
        pass  # no anchor: then it has to be a trust file
    try:
        return trusts.parse(payload)
    except FormatError as error:
        raise ConfigurationError(f"{path} is neither anchor nor trust file: {error}") from error


def _fetch(library: Any, settings: dict[str, Any]) -> Fetch:
    """Return how statements are fetched: plainly, with the same TLS and proxy."""
    known = {name: settings[name] for name in _SETTINGS if name in settings}
    return fetching.fetch(library, known, _FETCH_TIMEOUT_S)
