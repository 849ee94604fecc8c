"""Takes a machine in: its EK certificate, its EK and its AK become one record.

TCG EK Credential Profile. The subject means nothing there, and the alternative name is critical:
both are read here, as no general path builder does. Roots are pinned by fingerprint. Knows nothing
of quotes.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import keys, signature
from lydite.evidence.tpm.credential import check_endorsement_key
from lydite.evidence.tpm.keys import Public
from lydite.evidence.tpm.reference import Enrolled

EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
MANUFACTURER, MODEL = (x509.ObjectIdentifier(f"2.23.133.2.{n}") for n in (1, 2))
SOFTWARE = ("swtpm",)
"""Models that say of themselves that they are made of software."""
MOST_BYTES, MOST_CHAIN = 1 << 14, 8
_UNDERSTOOD = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
}
_BROKEN = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What ``cryptography`` raises for certificates that are none."""


Extension = TypeVar("Extension", bound=x509.ExtensionType)


class Root(NamedTuple):
    """A pinned root: what it is called, and whether it endorses TPMs of software."""

    name: str
    software: bool


class _Checked(NamedTuple):
    root: str
    not_after_s: int


def load(content: bytes, what: str) -> x509.Certificate:
    """Return a certificate in DER; NV indexes pad it with zeros or ones, which are cut off.

    Raises:
        Refusal: it is none (``key.ek-chain``).
    """
    length = int.from_bytes(content[2:4], "big") + 4
    if content[:2] != b"\x30\x82" or not length <= len(content) <= MOST_BYTES:
        raise Refusal(Reason.KEY_EK_CHAIN, what, "a certificate in DER", f"{len(content)} bytes")
    if content[length:].strip(b"\0") and content[length:].strip(b"\xff"):
        raise Refusal(Reason.KEY_EK_CHAIN, what, "a certificate alone", "bytes behind it")
    try:
        certificate = x509.load_der_x509_certificate(content[:length])
        _ = certificate.subject, certificate.issuer, certificate.extensions  # parsed when asked for
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _BROKEN as error:
        raise Refusal(Reason.KEY_EK_CHAIN, what, got=str(error)) from error
    return certificate


def enrol(
    machine: str,
    ek: Public,
    ak: Public,
    ak_name: bytes,
    certificates: Sequence[bytes],
    roots: Mapping[str, Root],
    now_s: int,
) -> Enrolled:
    """Return the record of a machine whose TPM opened a credential made for these two keys.

    ``certificates`` are in DER, that of the EK first; ``roots`` by SHA-256 in hexadecimal.

    ``ak_name`` is what the credential was made for.

    Raises:
        Refusal: one of the family ``key``.

    **Does not show** that the TPM holds both keys: ``credential.check_answer`` does, and has to
    come first.
    """
    if ak.name != ak_name:
        raise Refusal(Reason.KEY_NAME, "attestation key", ak.name.hex(), ak_name.hex())
    keys.check_attestation_key(ak)
    check_endorsement_key(ek)
    leaf, *others = [load(each, f"certificate {n}") for n, each in enumerate(certificates[:99])]
    _check_leaf(leaf, ek)
    checked = _check_chain(leaf, others, roots, now_s)
    names = _alternative(leaf)
    return Enrolled(
        machine=machine,
        key_name=ak.name.hex(),
        signers=tuple(name.hex() for name in keys.qualified_names(ak, ek.name)),
        endorsement_name=ek.name.hex(),
        certificate=_fingerprint(leaf),
        root=checked.root,
        manufacturer=names.get(MANUFACTURER, "unnamed"),
        model=names.get(MODEL, "unnamed"),
        not_after_s=checked.not_after_s,
        software=roots[checked.root].software or names.get(MODEL) in SOFTWARE,
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _check_leaf(leaf: x509.Certificate, ek: Public) -> None:
    public, wanted = _public(leaf), signature.load(ek, "endorsement key")
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or public != wanted:
        raise Refusal(Reason.KEY_EK_OTHER, "EK certificate", "the endorsement key", "another")
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    if usages is None or EK_USAGE not in usages:
        got = ", ".join(each.dotted_string for each in usages or ()) or "none"
        raise Refusal(Reason.KEY_EK_EKU, "EK certificate", EK_USAGE.dotted_string, got)
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Refusal(Reason.KEY_EK_EKU, "EK certificate", "an end", "an authority")


def _public(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except _BROKEN as error:
        raise Refusal(Reason.KEY_EK_CHAIN, "certificate, key", got=str(error)) from error


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _alternative(leaf: x509.Certificate) -> dict[x509.ObjectIdentifier, str]:
    """Return what the TCG's alternative name says of the TPM."""
    found = _extension(leaf, x509.SubjectAlternativeName)
    names = found.get_values_for_type(x509.DirectoryName) if found is not None else []
    return {
        attribute.oid: str(attribute.value)[:100] or "unnamed"
        for name in names
        for attribute in name
    }


def _check_chain(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Mapping[str, Root],
    now_s: int,
) -> _Checked:
    """Follow a chain to a pinned root, beyond which nothing is looked at."""
    now, current = datetime.fromtimestamp(now_s, UTC), leaf
    end = leaf.not_valid_after_utc
    for depth in range(MOST_CHAIN):
        what = f"certificate {depth}"
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            window = (
                f"{current.not_valid_before_utc:%Y-%m-%d} to {current.not_valid_after_utc:%Y-%m-%d}"
            )
            raise Refusal(Reason.KEY_EK_EXPIRED, what, window, f"{now:%Y-%m-%d}")
        unknown = {each.oid for each in current.extensions if each.critical} - _UNDERSTOOD
        if unknown:
            got = ", ".join(each.dotted_string for each in unknown)
            raise Refusal(Reason.KEY_EK_CHAIN, what, "critical extensions that we know", got)
        end = min(end, current.not_valid_after_utc)
        if depth and _fingerprint(current) in roots:
            return _Checked(_fingerprint(current), int(end.timestamp()))
        current = _issuer(current, others, depth)
    raise Refusal(Reason.KEY_EK_CHAIN, "EK certificate", f"at most {MOST_CHAIN} certificates")


def _issuer(
    subject: x509.Certificate, others: Sequence[x509.Certificate], depth: int
) -> x509.Certificate:
    named = [each for each in others if each.subject == subject.issuer]
    if not named or (len(named) == 1 and named[0] == subject):
        got = f"certificate {depth} is issued by {subject.issuer.rfc4514_string()[:100]}"
        raise Refusal(Reason.KEY_EK_ROOT, "EK certificate", "a pinned root", got)
    for issuer in named:
        if _may_issue(issuer, depth) and _signed(subject, issuer):
            return issuer
    raise Refusal(Reason.KEY_EK_CHAIN, f"certificate {depth}", "a signature by its issuer")


def _may_issue(issuer: x509.Certificate, depth: int) -> bool:
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage and not usage.key_cert_sign):
        return False
    return constraints.path_length is None or constraints.path_length >= depth


def _signed(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_BROKEN):
        return False
    return True
