"""A machine in memory, with keys of software that protect nothing: for evidence, good and forged.

Its boot is a genuine one (``tests/vectors/tpm``); its list of files is made here, entry by entry.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lydite.evidence.tpm import attester, boot, keys, policies, quote, refstate, template
from lydite.evidence.tpm.boot import Event
from lydite.evidence.tpm.claims import Claims, Head, List, Register
from lydite.evidence.tpm.policies import Policies
from lydite.evidence.tpm.quote import Bank
from lydite.evidence.tpm.reference import Dated, Enrolled, Files, Reference, Selected
from lydite.evidence.tpm.verifier import LABEL
from lydite.messages.nonce import Binding, Issued, nonce
from lydite.tpm.codec import sized, u8, u16, u32

VECTORS = Path(__file__).parents[2] / "vectors" / "tpm"
BIOS = (VECTORS / "vm-sb-imasig" / "bios.bin").read_bytes()
NOW = 1_800_000_000
LATER = NOW + 86_400
BANKS = (Bank("sha256", (*range(11), 14)), Bank("sha1", (10,)))
FILES = {f"/usr/bin/tool-{n}": hashlib.sha256(b"tool %d" % n).digest() for n in range(40)}
ENGINE = "/opt/engine/serve"
FILES[ENGINE] = hashlib.sha256(b"engine").digest()
_KEYS: dict[str, Any] = {}


def key_of(kind: str) -> Any:
    """One key of a kind for all tests: making them takes long."""
    if kind not in _KEYS:
        made = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
        _KEYS[kind] = made or ec.generate_private_key(ec.SECP256R1())
    return _KEYS[kind]


def entry(
    name: str | bytes,
    digest: bytes,
    *,
    form: str = "ima-ng",
    hash_name: str = "sha256",
    register: int = 10,
    violation: bool = False,
    last: tuple[bytes, ...] = (b"",),
) -> bytes:
    """One entry as the kernel writes it."""
    path = name.encode() if isinstance(name, str) else name
    fields = [hash_name.encode() + b":\0" + digest, path + b"\0"]
    if form != "ima-ng":
        fields += last
    data = b"".join(len(each).to_bytes(4, "little") + each for each in fields)
    return record(form, data, register, bytes(20) if violation else None)


def record(form: str, data: bytes, register: int = 10, mark: bytes | None = None) -> bytes:
    spelt = form.encode()
    head = register.to_bytes(4, "little") + (hashlib.sha1(data).digest() if mark is None else mark)
    names = len(spelt).to_bytes(4, "little") + spelt
    return head + names + len(data).to_bytes(4, "little") + data


def text_of(records: list[bytes]) -> bytes:
    """The same list as the kernel writes it as text."""
    lines = []
    for each, _ in template.binary(b"".join(records)):
        name = each.name.replace(" ", "_")
        tail = "" if each.template == "ima-ng" else " " + (each.signature or each.buffer).hex()
        digest = f"{each.hash_name}:{each.digest.hex()}"
        lines.append(f"10 {each.mark.hex()} {each.template} {digest} {name}{tail}\n")
    return "".join(lines).encode()


def followed(records: list[bytes], bank: str = "sha256") -> bytes:
    """The obvious replay: what the register holds after these entries."""
    value = bytes(hashlib.new(bank).digest_size)
    for one in records:
        at = 28 + int.from_bytes(one[24:28], "little")
        data = one[at + 4 :]
        extended = hashlib.new(bank, data).digest()
        if one[4:24] == bytes(20):
            extended = b"\xff" * len(value)
        value = hashlib.new(bank, value + extended).digest()
    return value


def encode_log(events: list[Event], banks: tuple[str, ...] = ("sha1", "sha256", "sha384")) -> bytes:
    """A boot log of these events, behind the genuine header."""
    size = int.from_bytes(BIOS[28:32], "little")
    log = BIOS[: 32 + size]
    for each in events:
        log += each.register.to_bytes(4, "little") + each.kind.to_bytes(4, "little")
        log += len(banks).to_bytes(4, "little")
        for bank in banks:
            log += quote.NUMBERS[bank].to_bytes(2, "little") + each.digests[bank]
        log += len(each.data).to_bytes(4, "little") + each.data
    return log


def event(number: int, register: int, kind: int, data: bytes, hashed: bytes | None = None) -> Event:
    covered = data if hashed is None else hashed
    banks = ("sha1", "sha256", "sha384")
    digests = {bank: hashlib.new(bank, covered).digest() for bank in banks}
    return Event(number, register, kind, digests, data)


def runtime(files: dict[str, bytes] | None = None, **more: object) -> bytes:
    """A runtime policy in Keylime's form."""
    table = {name: [digest.hex()] for name, digest in (FILES if files is None else files).items()}
    return json.dumps({"meta": {"version": 1}, "digests": table, **more}).encode()


def good_state() -> bytes:
    """The measured-boot reference state of the genuine boot."""
    import msgspec

    return msgspec.json.encode(refstate.describe(boot.parse(BIOS)))


@dataclass
class Machine:
    """A machine; change what it holds before it is asked for evidence."""

    kind: str = "rsa"
    software: bool = False
    attributes: int = 0x00050072
    log: bytes = BIOS
    records: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    resets: int = 3
    restarts: int = 0
    clock_ms: int = 100_000
    safe: int = 1
    changed: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Registers that hold something else than the logs say."""

    def __post_init__(self) -> None:
        if not self.records:
            self.records = [self.aggregate()] + [entry(n, d) for n, d in FILES.items()]

    def boot_values(self) -> dict[int, bytes]:
        return boot.replay(boot.parse(self.log), "sha256")

    def aggregate(self) -> bytes:
        values = self.boot_values()
        joined = b"".join(values.get(number, bytes(32)) for number in range(10))
        return entry("boot_aggregate", hashlib.sha256(joined).digest())

    def value(self, bank: str, number: int) -> bytes:
        if (bank, number) in self.changed:
            return self.changed[bank, number]
        if number == 10:
            return followed(self.records, bank)
        return self.boot_values().get(number, bytes(32))

    @property
    def public(self) -> bytes:
        key, made = key_of(self.kind), attester.ak_template(self.kind, self.attributes)
        numbers = key.public_key().public_numbers()
        if self.kind == "rsa":
            return made[:-2] + sized(numbers.n.to_bytes(256, "big"))
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return made[:-4] + sized(x) + sized(y)

    @property
    def enrolled(self) -> Enrolled:
        ak, ek_name = keys.parse(self.public, "key"), b"\0\x0b" + hashlib.sha256(b"ek").digest()
        return Enrolled(
            machine="test",
            key_name=ak.name.hex(),
            signers=tuple(name.hex() for name in keys.qualified_names(ak, ek_name)),
            endorsement_name=ek_name.hex(),
            certificate="00" * 32,
            root="11" * 32,
            manufacturer="test",
            model="test",
            not_after_s=LATER,
            software=self.software,
        )

    def sign(self, content: bytes) -> bytes:
        key = key_of(self.kind)
        if self.kind == "rsa":
            made = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
            return u16(quote.RSASSA) + u16(0x0B) + sized(made)
        r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
        numbers = sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
        return u16(quote.ECDSA) + u16(0x0B) + numbers

    def attest(self, signed: bytes, banks: tuple[Bank, ...] = BANKS) -> bytes:
        values = b"".join(self.value(bank.name, n) for bank in banks for n in bank.registers)
        head = u32(quote.MAGIC) + u16(quote.QUOTE) + sized(bytes.fromhex(self.enrolled.signers[0]))
        clock = self.clock_ms.to_bytes(8, "big") + u32(self.resets) + u32(self.restarts)
        middle = sized(signed) + clock + u8(self.safe) + bytes(8)
        return head + middle + attester.selection(banks) + sized(hashlib.sha256(values).digest())

    def claims(
        self,
        issued: Issued,
        *,
        form: str = "binary",
        first: int = 0,
        banks: tuple[Bank, ...] = BANKS,
        **changes: Any,
    ) -> Claims:
        """Good evidence of what the machine holds, or with parts of its head changed."""
        content = self.attest(nonce(LABEL, issued.binding), banks)
        listed = (self.records + self.tail)[first:]
        files = b"".join(listed) if form == "binary" else text_of(self.records + self.tail)
        registers = tuple(
            Register(bank=bank.name, number=n, value=self.value(bank.name, n).hex())
            for bank in banks
            for n in bank.registers
        )
        fields: dict[str, Any] = {
            "binding": issued.binding,
            "quote": content.hex(),
            "signature": self.sign(content).hex(),
            "key": self.public.hex(),
            "registers": registers,
            "boot_size": len(self.log),
            "files": List(form=form, first=first, size=len(files)),  # type: ignore[arg-type]
        }
        logs = changes.pop("logs", self.log + files)
        return Claims(head=Head(**{**fields, **changes}), logs=logs)

    def reference(self, documents: dict[str, bytes], **changes: Any) -> Reference:
        (state, *runtimes) = documents
        fields: dict[str, Any] = {
            "name": "test",
            "machine": self.enrolled,
            "selection": tuple(Selected(bank=b.name, registers=b.registers) for b in BANKS),
            "boot": (Dated(document=state, not_after_s=LATER),),
            "files": Files(
                runtime=tuple(Dated(document=each, not_after_s=LATER) for each in runtimes),
                demanded=(ENGINE,),
            ),
        }
        return Reference(**{**fields, **changes})

    def policies(self, *contents: bytes, **changes: Any) -> Policies:
        """What is demanded of this machine: its boot, and a runtime policy."""
        every = [good_state(), *(contents or (runtime(),))]
        documents = {hashlib.sha256(each).hexdigest(): each for each in every}
        return policies.prepare(self.reference(documents, **changes), documents, NOW)


def challenge(number: int = 1, **parts: str) -> Issued:
    binding = Binding(challenge=hashlib.sha256(b"%d" % number).hexdigest(), **parts)
    return Issued(binding=binding, issued_s=NOW - 10)
