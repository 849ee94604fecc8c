"""GPUs in memory, with a vendor of their own: for evidence, good and forged."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lydite.evidence.nvgpu import report
from lydite.evidence.nvgpu.claims import LABEL, Claims, Device
from lydite.evidence.nvgpu.reference import Group, Manifest, Reference, Row
from lydite.messages.nonce import Issued, nonce
from tests.evidence.snp.processor import LATER, authority, challenge, fingerprint, key_of, signed

DICE, TCB_INFO = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
FIRMWARE = bytes(range(48))
VBIOS_ID = "NV_GPU_VBIOS_1010_0200_882_96009F0001"
DRIVER_ID = "NV_GPU_DRIVER_GH100_550.90.07"
SWITCH_ID = "NV_SWITCH_BIOS_5612_0002_890_96.10.4D.00.01"
SAID: dict[int, bytes] = {
    report.VBIOS: bytes.fromhex("009f009601000000"),
    report.CHIP: b"882\0\0\0",
    report.PROJECT: b"1010\0",
    report.SKU: b"0200\0",
    report.DRIVER: b"550.90.07\0",
    report.NVDEC0: b"\xaa",
    report.FWID: FIRMWARE,
    report.PCIE: b"\xaa",
}


@cache
def vendor() -> tuple[bytes, ...]:
    """Certificates of the three authorities above a device, and of the root."""
    root, top, middle, low = (key_of(f"p384-nv-{n}") for n in range(4))
    return (
        signed("GH100 A01 GSP BROM", "Provisioner", low, middle, authority()),
        signed("Provisioner", "Identity", middle, top, authority()),
        signed("Identity", "Device CA", top, root, authority()),
        signed("Device CA", "Device CA", root, root, authority()),
    )


def own(oid: str, value: bytes) -> tuple[Any, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    head = bytes((tag, size)) if size < 128 else bytes((tag, 0x82, *size.to_bytes(2, "big")))
    return head + content


def tcb_info(*digests: bytes) -> bytes:
    """A ``DiceTcbInfo`` as later devices have it."""
    oid = element(6, bytes.fromhex("608648016503040202"))
    listed = b"".join(element(0x30, oid + element(4, each)) for each in digests)
    return element(0x30, element(0x80, b"NVIDIA") + element(0xA6, listed))


@dataclass
class Gpu:
    """What it is and says; a test changes either."""

    name: str = "GH100 A01 GSP FMC LF"
    key: str = "p384-gpu"
    dice: tuple[Any, bool] | None = field(
        default_factory=lambda: own(DICE, element(0x30, element(4, FIRMWARE)))
    )
    said: dict[int, bytes] = field(default_factory=lambda: dict(SAID))
    measured: list[bytes] = field(
        default_factory=lambda: [bytes((n,)) * 48 for n in range(report.BLOCKS)]
    )
    beside: tuple[tuple[Any, bool], ...] = ()
    days: int = 3650

    @property
    def certificate(self) -> bytes:
        return _certificate(self.name, self.key, self.dice, self.beside, self.days)

    def blocks(self) -> bytes:
        return b"".join(
            bytes((n, 1, 51, 0, 1, 48, 0)) + each for n, each in enumerate(self.measured, 1)
        )

    def opaque(self) -> bytes:
        return b"".join(
            kind.to_bytes(2, "little") + len(found).to_bytes(2, "little") + found
            for kind, found in self.said.items()
        )

    def body(self, asked: bytes) -> bytes:
        blocks, opaque = self.blocks(), self.opaque()
        head = report.REQUEST + asked + b"\0" + report.RESPONSE + bytes(2)
        head += bytes((len(self.measured),)) + len(blocks).to_bytes(3, "little")
        return head + blocks + bytes(32) + len(opaque).to_bytes(2, "little") + opaque

    def sign(self, body: bytes) -> bytes:
        made = key_of(self.key).sign(body, ec.ECDSA(hashes.SHA384()))
        return body + b"".join(n.to_bytes(48, "big") for n in decode_dss_signature(made))

    def device(self, asked: bytes, **changes: Any) -> Device:
        chain = (self.certificate, *vendor())
        parts: dict[str, Any] = {
            "report": self.sign(self.body(asked)).hex(),
            "certificates": tuple(each.hex() for each in chain),
            "mode": "on",
        }
        return Device(**(parts | changes))


_MADE: dict[str, bytes] = {}


def _certificate(
    name: str, key: str, dice: Any, beside: tuple[tuple[Any, bool], ...], days: int
) -> bytes:
    spelt = repr((name, key, dice, beside, days))
    if spelt not in _MADE:
        made = (*([dice] if dice else []), *beside)
        own_key, issuer = key_of(key), key_of("p384-nv-3")
        _MADE[spelt] = signed(name, "GH100 A01 GSP BROM", own_key, issuer, made, days=days)
    return _MADE[spelt]


def switch() -> Gpu:
    """A switch, which says its version as text and names no firmware."""
    said = {
        report.VBIOS: b"96.10.4D.00.01\0",
        report.CHIP: b"890\0",
        report.PROJECT: b"5612\0",
        report.SKU: b"0002\0",
    }
    measured = [bytes((n,)) * 48 for n in range(report.SWITCH_BLOCKS)]
    return Gpu(name="LS10 A01", key="p384-switch", dice=None, said=said, measured=measured)


def claims_of(*gpus: Gpu, issued: Issued | None = None) -> Claims:
    asked = issued or challenge()
    signed_over = nonce(LABEL, asked.binding)
    return Claims(binding=asked.binding, devices=tuple(g.device(signed_over) for g in gpus))


def manifest(name: str, *rows: int, not_after_s: int = LATER) -> Manifest:
    """The rows that a good device has, with another value beside each."""
    allowed = tuple(Row(index=n, values=("ff" * 48, (bytes((n,)) * 48).hex())) for n in rows)
    return Manifest(id=name, rows=allowed, not_after_s=not_after_s)


def reference(**changes: Any) -> Reference:
    parts: dict[str, Any] = {
        "name": "machine",
        "root": fingerprint(vendor()[-1]),
        "groups": (Group(arch="GH100", count=1),),
        "manifests": (manifest(VBIOS_ID, 0, 1, 2, 35), manifest(DRIVER_ID, 10, 12)),
    }
    return Reference(**(parts | changes))
