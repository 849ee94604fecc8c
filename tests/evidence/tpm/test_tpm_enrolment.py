"""Taking a machine in: EK certificates as the TCG writes them, and credentials for two keys."""

import datetime
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import attester, credential, enrolment, keys
from lydite.evidence.tpm.enrolment import EK_USAGE, MANUFACTURER, MODEL, Root
from lydite.evidence.tpm.keys import Public
from lydite.evidence.tpm.reference import Enrolled
from lydite.tpm.codec import sized
from tests.evidence.tpm.machine import NOW, VECTORS, Machine, key_of

DAY = datetime.timedelta(days=1)
TODAY = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
EK_KEY = rsa.generate_private_key(65537, 2048)
CA_KEY, ROOT_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def ek() -> Public:
    modulus = EK_KEY.public_key().public_numbers().n.to_bytes(256, "big")
    return keys.parse(attester.ek_template("rsa")[:-258] + sized(modulus), "EK")


def ak() -> Public:
    return keys.parse(Machine().public, "AK")


def name(text: str) -> x509.Name:
    """A name, or none, as EK certificates may have."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def certificate(
    subject: str,
    issuer: str,
    public: Any,
    signer: Any,
    *extensions: tuple[x509.ExtensionType, bool],
    days: tuple[int, int] = (-1, 1),
) -> bytes:
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(7)
        .not_valid_before(TODAY + days[0] * DAY)
        .not_valid_after(TODAY + days[1] * DAY)
    )
    for extension, critical in extensions:
        made = made.add_extension(extension, critical)
    return made.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


def authority(ca: bool = True) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(ca=ca, path_length=None), True


SAN = x509.SubjectAlternativeName(
    [
        x509.DirectoryName(
            x509.Name(
                [
                    x509.NameAttribute(MANUFACTURER, "id:4E544300"),
                    x509.NameAttribute(MODEL, "NPCT75x"),
                ]
            )
        )
    ]
)
USAGE = (x509.ExtendedKeyUsage([EK_USAGE]), False)


def leaf(*more: tuple[x509.ExtensionType, bool], **changes: Any) -> bytes:
    fields: dict[str, Any] = {"public": EK_KEY.public_key(), "signer": CA_KEY, **changes}
    public, signer = fields.pop("public"), fields.pop("signer")
    usage = fields.pop("usage", (USAGE,))
    return certificate("", "CA", public, signer, *usage, (SAN, True), *more, **fields)


def intermediate(ca: bool = True, **changes: Any) -> bytes:
    return certificate("CA", "root", CA_KEY.public_key(), ROOT_KEY, authority(ca), **changes)


def root(**changes: Any) -> bytes:
    return certificate("root", "root", ROOT_KEY.public_key(), ROOT_KEY, authority(), **changes)


def pinned(der: bytes, software: bool = False) -> dict[str, Root]:
    return {hashlib.sha256(der).hexdigest(): Root("maker", software)}


def taken_in(*chain: bytes, **changes: Any) -> Enrolled:
    roots = changes.pop("roots", None) or pinned(chain[-1])
    fields: dict[str, Any] = {"ek": ek(), "ak": ak(), "ak_name": ak().name, **changes}
    return enrolment.enrol(
        "node-1", fields["ek"], fields["ak"], fields["ak_name"], chain, roots, NOW
    )


def test_a_machine_of_a_pinned_maker_is_taken_in() -> None:
    found = taken_in(leaf(), intermediate(), root())
    assert found.manufacturer == "id:4E544300"
    assert found.model == "NPCT75x"
    assert found.key_name == ak().name.hex()
    assert found.not_after_s == NOW + 86_400
    assert found.software is False


def test_a_certificate_padded_by_its_nv_index_is_read() -> None:
    assert taken_in(leaf() + b"\xff" * 100, intermediate(), root())


def test_an_intermediate_may_be_pinned_itself() -> None:
    der = intermediate()
    assert taken_in(leaf(), der, roots=pinned(der)).root == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("folder", ["swtpm-bare", "vm-sb-imasig"])
def test_a_recorded_tpm_of_software_is_taken_in_as_what_it_is(folder: str) -> None:
    place = VECTORS / folder
    pems = [(place / f"{n}.pem").read_bytes() for n in ("issuercert", "swtpm-localca-rootca-cert")]
    chain = [
        (place / "ekcert_0x1c00002.der").read_bytes(),
        *(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in pems),
    ]
    own = keys.parse((place / "ak_rsa.pub").read_bytes()[2:], "AK")
    its = keys.parse((place / "ek.pub").read_bytes()[2:], "EK")
    found = enrolment.enrol("vm", its, own, own.name, chain, pinned(chain[-1]), NOW)
    assert found.software is True, "a pinned root does not make hardware of it"
    assert found.model == "swtpm"


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
LOOSE = keys.parse(Machine(attributes=0x00040072).public, "AK")
OTHER = key_of("rsa").public_key()
ENDED, TO_COME = (-3, -1), (1, 3)


def chained(
    first: bytes | None = None,
    second: bytes | None = None,
    third: bytes | None = None,
    **changes: Any,
) -> object:
    """Take in a machine by a chain of which one certificate is another."""
    parts = (first, second, third)
    good = (leaf, intermediate, root)
    chain = [make() if part is None else part for part, make in zip(parts, good, strict=True)]
    return taken_in(*chain, **changes)


REFUSED: list[tuple[str, str, Callable[[], object]]] = [
    ("key.name", "a name of another key", lambda: chained(ak_name=bytes(34))),
    ("key.not-fixed", "an EK that is an AK", lambda: chained(ek=ak())),
    ("key.unrestricted", "a loose AK", lambda: chained(ak=LOOSE, ak_name=LOOSE.name)),
    ("key.ek-other", "a certificate of another EK", lambda: chained(leaf(public=OTHER))),
    ("key.ek-expired", "a certificate that ended", lambda: chained(leaf(days=ENDED))),
    ("key.ek-expired", "an issuer that ended", lambda: chained(None, intermediate(days=ENDED))),
    ("key.ek-expired", "a root to come", lambda: chained(None, None, root(days=TO_COME))),
    ("key.ek-eku", "a certificate for nothing", lambda: chained(leaf(usage=()))),
    ("key.ek-eku", "an authority in place of an EK", lambda: chained(leaf(authority()))),
    ("key.ek-chain", "another issuer's signature", lambda: chained(leaf(signer=OTHER_KEY))),
    ("key.ek-chain", "an issuer that is none", lambda: chained(None, intermediate(ca=False))),
    ("key.ek-chain", "an unknown critical extension", lambda: chained(leaf((UNKNOWN, True)))),
    ("key.ek-chain", "no certificate", lambda: chained(b"")),
    ("key.ek-chain", "half a certificate", lambda: chained(leaf()[:-9])),
    ("key.ek-chain", "bytes behind a certificate", lambda: chained(leaf() + b"\0\1")),
    ("key.ek-root", "a root that is not pinned", lambda: chained(roots=pinned(leaf()))),
    ("key.ek-root", "no chain at all", lambda: taken_in(leaf())),
    ("key.credential-name", "another secret", lambda: credential.check_answer(b"a", b"b")),
]


@pytest.mark.parametrize(("reason", "what", "case"), REFUSED, ids=[what for _, what, _ in REFUSED])
def test_what_is_not_taken_in(reason: str, what: str, case: Callable[[], object]) -> None:
    with pytest.raises(Refusal) as caught:
        case()
    assert caught.value.reason == reason, str(caught.value)


def opened(made: credential.Credential, ak_name: bytes) -> bytes:
    """The obvious other half: what a TPM does with a credential for an RSA key."""
    seed = EK_KEY.decrypt(
        made.seed[2:],
        padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0"),
    )
    content = made.blob[2:]
    mac, hidden = content[2:34], content[34:]
    mac_key = credential.kdfa("sha256", seed, b"INTEGRITY\0", b"", 256)
    if not hmac.compare_digest(mac, hmac.digest(mac_key, hidden + ak_name, "sha256")):
        raise ValueError("another name")
    key = credential.kdfa("sha256", seed, b"STORAGE\0", ak_name, 128)
    step = Cipher(AES(key), CFB(bytes(16))).decryptor()
    return (step.update(hidden) + step.finalize())[2:]


def test_a_credential_is_opened_for_the_name_that_it_was_made_for_alone() -> None:
    made = credential.make(ek(), ak().name, b"s" * 32, b"r" * 32)
    assert opened(made, ak().name) == b"s" * 32
    with pytest.raises(ValueError, match="another name"):
        opened(made, bytes(34))


def test_a_credential_of_a_recorded_tool_has_the_same_form() -> None:
    recorded = (VECTORS / "swtpm-bare" / "cred.bin").read_bytes()
    assert recorded[:8] == bytes.fromhex("badcc0de00000001")
    its = keys.parse((VECTORS / "swtpm-bare" / "ek.pub").read_bytes()[2:], "EK")
    secret = (VECTORS / "swtpm-bare" / "secret.bin").read_bytes()
    made = credential.make(its, ak().name, secret, bytes(32))
    assert len(made.blob + made.seed) == len(recorded) - 8


def test_the_reasons_of_enrolment_all_have_a_case() -> None:
    wanted = {each.value for each in Reason if each.value.startswith(("key.ek-", "key.cred"))}
    assert wanted <= {reason for reason, _, _ in REFUSED}
