"""A processor in memory, with a vendor of its own: for evidence of guests, good and forged."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lydite.evidence.snp.claims import LABEL, Claims, report_data
from lydite.evidence.snp.reference import ACTIVE, Image, Reference, Tcb
from lydite.messages.nonce import Binding, Issued, nonce

NOW = 1_800_000_000
LATER = NOW + 86_400
TODAY = datetime.fromtimestamp(NOW, UTC)
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
MEASUREMENT = bytes(range(48))
CHIP = bytes(range(1, 65))
AMD = "1.3.6.1.4.1.3704.1"


def challenge(number: int = 1, **parts: str) -> Issued:
    binding = Binding(challenge=f"{number:064x}", **parts)
    return Issued(binding=binding, issued_s=NOW - 10)


@cache
def key_of(name: str) -> Any:
    """One key of a name for all tests: making them takes long."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1() if "256" in name else ec.SECP384R1())


def signed(
    subject: str,
    issuer: str,
    key: Any,
    by: Any,
    extensions: tuple[tuple[Any, bool], ...] = (),
    *,
    days: int = 3650,
    hash_name: Any = None,
) -> bytes:
    """A certificate in DER."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(TODAY - timedelta(days=30))
    builder = builder.not_valid_after(TODAY + timedelta(days=days))
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    chosen = hash_name or hashes.SHA384()
    if isinstance(by, rsa.RSAPrivateKey):
        made = builder.sign(by, chosen, rsa_padding=PSS)
    else:
        made = builder.sign(by, chosen)
    return made.public_bytes(Encoding.DER)


def authority(
    length: int | None = None, *, ca: bool = True, sign: bool = True
) -> tuple[tuple[Any, bool], ...]:
    named = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    usage = x509.KeyUsage(key_cert_sign=sign, **dict.fromkeys(named, False))
    return (x509.BasicConstraints(ca, length), True), (usage, True)


@cache
def vendor() -> tuple[bytes, bytes]:
    """The certificates of issuer and root."""
    root = signed("ARK", "ARK", key_of("rsa-root"), key_of("rsa-root"), authority())
    return signed("ASK", "ARK", key_of("rsa-ask"), key_of("rsa-root"), authority(0)), root


def fingerprint(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


def own(oid: str, value: bytes) -> tuple[Any, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False


def integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes((2, len(content))) + content


@dataclass
class Processor:
    """What it is, and what it says; a test changes either."""

    product: str = "Milan"
    said: str = "Milan-B0"
    versions: dict[str, int] = field(
        default_factory=lambda: {"bl": 2, "tee": 0, "snp": 5, "ucode": 200}
    )
    certified: dict[str, int] | None = None
    """What the certificate says, if other than the processor itself."""
    chip: bytes = CHIP
    named: bytes | None = CHIP
    version: int = 3
    cpu: bytes = bytes((0x19, 0x01, 1))
    policy: int = 1 << 17 | 1 << 16
    vmpl: int = 0
    algorithm: int = 1
    flags: int = 0
    measurement: bytes = MEASUREMENT
    launched: bytes | None = None
    key: str = "p384"
    beside: tuple[tuple[Any, bool], ...] = ()

    def firmware(self) -> bytes:
        found = self.versions
        if self.product == "Turin":
            head = bytes((found["fmc"], found["bl"], found["tee"], found["snp"]))
            return head + bytes(3) + bytes((found["ucode"],))
        return bytes((found["bl"], found["tee"])) + bytes(4) + bytes((found["snp"], found["ucode"]))

    def certificate(self) -> bytes:
        numbers = {"bl": 1, "tee": 2, "snp": 3, "ucode": 8, "fmc": 9}
        said = self.certified or self.versions
        extensions = [own(f"{AMD}.2", bytes((0x16, len(self.said))) + self.said.encode())]
        extensions += [own(f"{AMD}.3.{numbers[n]}", integer(said[n])) for n in said]
        if self.named is not None:
            extensions.append(own(f"{AMD}.4", self.named))
        made = (*extensions, *self.beside)
        return signed("SEV-VCEK", "ASK", key_of(self.key), key_of("rsa-ask"), made)

    def body(self, data: bytes) -> bytes:
        content = bytearray(672)
        for at, size, value in (
            (0, 4, self.version),
            (8, 8, self.policy),
            (48, 4, self.vmpl),
            (52, 4, self.algorithm),
            (72, 4, self.flags),
        ):
            content[at : at + size] = value.to_bytes(size, "little")
        parts = {80: data, 144: self.measurement, 384: self.firmware(), 392: self.cpu}
        parts |= {416: self.chip, 496: self.launched or self.firmware()}
        for at, part in parts.items():
            content[at : at + len(part)] = part
        return bytes(content)

    def report(self, data: bytes) -> bytes:
        body = self.body(data)
        key = key_of("p384" if "256" in self.key else self.key)
        numbers = decode_dss_signature(key.sign(body, ec.ECDSA(hashes.SHA384())))
        return body + b"".join(n.to_bytes(72, "little") for n in numbers) + bytes(368)

    def claims(self, issued: Issued, **changes: Any) -> Claims:
        chain = (self.certificate(), *vendor())
        parts: dict[str, Any] = {
            "binding": issued.binding,
            "report": self.report(report_data(nonce(LABEL, issued.binding))).hex(),
            "certificates": tuple(each.hex() for each in chain),
        }
        return Claims(**(parts | changes))


def reference(**changes: Any) -> Reference:
    image = Image(measurement=MEASUREMENT.hex(), features=ACTIVE, name="guest")
    parts: dict[str, Any] = {
        "name": "guests",
        "product": "Milan",
        "root": fingerprint(vendor()[1]),
        "least": Tcb(bl=2, snp=5, ucode=100),
        "images": (image,),
        "not_after_s": LATER,
    }
    return Reference(**(parts | changes))
