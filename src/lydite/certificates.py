"""Chains of certificates that a vendor of hardware issues: read, and followed to a pinned root.

A chain comes in its order, the device's own first, and is not searched for. Whoever asks names the
reasons. What was followed once is remembered, for signatures do not change; time is looked at every
time. Knows nothing of what a certificate says of its device.
"""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtensionOID

from lydite.errors import Reason, Refusal

MOST_BYTES, MOST_CHAIN = 1 << 13, 8
BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a hostile certificate raises."""
_UNDERSTOOD = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
_STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_ORDER_P384 = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)

Extension = TypeVar("Extension", bound=x509.ExtensionType)


class Names(NamedTuple):
    """How what may be wrong with a chain is called."""

    form: Reason
    """A certificate cannot be read, or has what we do not understand."""
    chain: Reason
    """One did not issue the one before it, or may not."""
    root: Reason
    """The chain ends elsewhere than at the pinned root."""
    expired: Reason


class Chain(NamedTuple):
    """A chain of which every signature holds, up to a pinned root."""

    leaf: x509.Certificate
    serials: tuple[str, ...]
    """In hexadecimal, the device's own first."""
    from_s: int
    until_s: int
    """When all of it is valid."""


def follow(chain: Sequence[bytes], root: str, names: Names, now_s: int) -> Chain:
    """Follow certificates in DER, the device's own first, to the root of that SHA-256.

    Raises:
        Refusal: by one of ``names``.
    """
    followed = _follow(tuple(chain), root, names)
    if not followed.from_s <= now_s <= followed.until_s:
        window = f"{followed.from_s} to {followed.until_s}"
        raise Refusal(names.expired, "certificates", window, str(now_s))
    return followed


@lru_cache(maxsize=1024)
def _follow(chain: tuple[bytes, ...], root: str, names: Names) -> Chain:
    if not 2 <= len(chain) <= MOST_CHAIN:
        expected = f"2 to {MOST_CHAIN} certificates"
        raise Refusal(names.chain, "certificates", expected, str(len(chain)))
    read = [load(each, f"certificate {n}", names.form) for n, each in enumerate(chain)]
    found = read[-1].fingerprint(hashes.SHA256()).hex()
    if found != root:
        raise Refusal(names.root, f"certificate {len(read) - 1}", root, found)
    serials = _read_further(read, names.form)
    constraints = _extension(read[0], x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Refusal(names.chain, "certificate 0", "a device", "an authority")
    # from the root down, so that no key which a stranger made is ever computed with
    for depth, (subject, issuer) in reversed([*enumerate(itertools.pairwise(read))]):
        _check_issued(subject, issuer, depth, names)
    return Chain(
        leaf=read[0],
        serials=serials,
        from_s=max(int(each.not_valid_before_utc.timestamp()) for each in read),
        until_s=min(int(each.not_valid_after_utc.timestamp()) for each in read),
    )


def forget() -> None:
    """Forget which chains were followed, as a process does when it starts."""
    _follow.cache_clear()


def load(content: bytes, what: str, form: Reason) -> x509.Certificate:
    """Read one certificate in DER, of which nothing critical is overlooked.

    Raises:
        Refusal: it is none, or demands what we do not know (``form``).
    """
    if len(content) > MOST_BYTES:
        raise Refusal(form, what, f"at most {MOST_BYTES} bytes", str(len(content)))
    try:
        with _unwarned():
            certificate = x509.load_der_x509_certificate(content)
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            critical = {each.oid for each in certificate.extensions if each.critical}
    except BROKEN as error:
        raise Refusal(form, what, "a certificate in DER", str(error)[:200]) from error
    if not content.endswith(b"\0" + certificate.signature):  # else bits could be said to be unused
        raise Refusal(form, what, "a signature of whole bytes", "another")
    if critical - _UNDERSTOOD:
        got = ", ".join(sorted(each.dotted_string for each in critical - _UNDERSTOOD))
        raise Refusal(form, what, "critical extensions that we know", got)
    return certificate


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Read certificates that are odd without a warning, such as AMD's: their serial is zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_further(read: Sequence[x509.Certificate], form: Reason) -> tuple[str, ...]:
    """Return the serial numbers, once the device's name and key are known to be readable."""
    try:
        with _unwarned():
            _ = read[0].subject, read[0].public_key()
            return tuple(f"{each.serial_number:x}" for each in read)
    except BROKEN as error:
        raise Refusal(form, "certificate 0", "a name and a key", str(error)[:200]) from error


def _check_issued(
    subject: x509.Certificate, issuer: x509.Certificate, depth: int, names: Names
) -> None:
    where = f"certificate {depth + 1}"
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage and not usage.key_cert_sign):
        raise Refusal(names.chain, where, "an authority", "none")
    if constraints.path_length is not None and constraints.path_length < depth:
        expected = f"at most {constraints.path_length} below it"
        raise Refusal(names.chain, where, expected, str(depth))
    try:
        if not isinstance(subject.signature_hash_algorithm, _STRONG):
            raise Refusal(names.chain, f"certificate {depth}", "SHA-256 or longer", "another hash")
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, *BROKEN) as error:
        expected = "a signature by the next certificate"
        raise Refusal(
            names.chain, f"certificate {depth}", expected, str(error) or "none"
        ) from error


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def raw_extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    """Return the bytes of an extension of a vendor's own; None where there is none."""
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def check_p384(
    leaf: x509.Certificate, r: int, s: int, signed: bytes, what: str, reason: Reason
) -> None:
    """Check a signature over SHA-384 by a device's key on P-384.

    Raises:
        Refusal: it is none (``reason``).
    """
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Refusal(reason, what, "a key on P-384", "another key")
    if not (0 < r < _ORDER_P384 and 0 < s < _ORDER_P384):
        raise Refusal(reason, what, "numbers within the order of P-384", "numbers outside of it")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Refusal(reason, what, "a signature by the device's key", "none") from error
