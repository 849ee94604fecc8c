"""TLS on both sides: contexts from settings, and which clients may come in by their certificate.

TLS 1.3, or 1.2 with forward secrecy and authenticated ciphers. Whoever asks for client certificates
gives a list of names besides: an authority vouches for many, few of whom are meant. Knows nothing
of requests.
"""

import logging
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, cast

from lydite.errors import ConfigurationError
from lydite.gateway.settings import Tls, Upstream

_CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SPIFFE = "spiffe://"
_logger = logging.getLogger(__name__)


def server_context(settings: Tls) -> ssl.SSLContext:
    """Return what the gateway listens with.

    Raises:
        ConfigurationError: a file cannot be used, or names are listed that nobody vouches for.
    """
    if settings.client_names and settings.client_ca is None:
        raise ConfigurationError("tls: client_names without client_ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_chain(context, settings.certificate, settings.key)
    if settings.client_ca is not None:
        _load_authorities(context, settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def upstream_context(upstream: Upstream) -> ssl.SSLContext | None:
    """Return what an upstream is reached with, None for plain HTTP.

    Raises:
        ConfigurationError: a file cannot be used, or TLS is set up for a plain upstream.
    """
    files = (upstream.ca, upstream.certificate, upstream.key)
    if not upstream.url.lower().startswith("https:"):
        if any(files):
            raise ConfigurationError(f"upstream {upstream.url}: TLS files, but not https")
        return None
    if (upstream.certificate is None) != (upstream.key is None):
        raise ConfigurationError(f"upstream {upstream.url}: certificate and key go together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if upstream.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, upstream.ca)
    if upstream.certificate is not None and upstream.key is not None:
        _load_chain(context, upstream.certificate, upstream.key)
    return context


class Allowed:
    """The names that a client's certificate may carry: DNS names and SPIFFE ids, spelt exactly."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_folded(name) for name in names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Say whether one of its subject alternative names is on the list."""
        return any(_folded(name) in self._names for name in names_of(certificate))


def names_of(certificate: Mapping[str, Any] | None) -> list[str]:
    """Return the DNS names and URIs of a verified certificate; never its common name."""
    alternatives = (certificate or {}).get("subjectAltName", ())
    pairs = cast(Iterable[tuple[str, str]], alternatives)
    return [value for kind, value in pairs if kind in ("DNS", "URI")]


def _folded(name: str) -> str:
    """Return a name as it is compared: DNS names and URI hosts know no case, URI paths do."""
    if not name.lower().startswith(_SPIFFE):
        return name.lower()
    host, slash, path = name[len(_SPIFFE) :].partition("/")
    return _SPIFFE + host.lower() + slash + path


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"tls: {certificate} with {key}: {_why(error)}") from error


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"tls: {path}: {_why(error)}") from error


def _no_password() -> str:
    """Refuse encrypted keys instead of asking a terminal for the password."""
    raise ConfigurationError("tls: a key with a password cannot be used")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
