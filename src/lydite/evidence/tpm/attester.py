"""Makes evidence of the machine that it runs on: keys, credential, quote, and the logs behind them.

Only who attests imports this. Raw TPM commands (``lydite.tpm``); the quote first, then the logs, so
that they hold all that was quoted. Knows nothing of policies.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lydite.errors import DeviceError, Reason, UnavailableError
from lydite.evidence.tpm import claims, keys, quote, template
from lydite.evidence.tpm.claims import Claims, Head, List, Register
from lydite.evidence.tpm.credential import Credential
from lydite.evidence.tpm.quote import NUMBERS, Bank
from lydite.messages.nonce import Binding, nonce
from lydite.tpm import codec, objects
from lydite.tpm.codec import sized, u8, u16, u32
from lydite.tpm.commands import Handle, Tpm, permanent
from lydite.tpm.objects import Blob
from lydite.tpm.sessions import Password, Session

BOOT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
FILES_LOG = Path("/sys/kernel/security/ima/binary_runtime_measurements")
EK_CERTIFICATES = {"rsa": 0x01C00002, "ecc": 0x01C0000A}
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""Who knows the endorsement hierarchy's password may use the EK: the TCG's default templates."""
_EK_ATTRIBUTES, _AK_ATTRIBUTES = 0x000300B2, 0x00050472
"""Outside of dictionary attacks: the AK has no password, and a power cut would lock it out."""
_NV_PIECE = 512
_AT_ONCE = 8
Kind = Literal["rsa", "ecc"]


class Key(NamedTuple):
    """A key that is loaded, and its ``TPMT_PUBLIC``."""

    handle: Handle
    public: bytes


class Sources(NamedTuple):
    """Where the logs are; ``None`` where there is none to be had."""

    boot: Path | None = BOOT_LOG
    files: Path | None = FILES_LOG
    form: Literal["binary", "ascii"] = "binary"


def ek_template(kind: Kind) -> bytes:
    """Return the ``TPMT_PUBLIC`` of the TCG's default EK (templates L-1 and L-2)."""
    head = u32(_EK_ATTRIBUTES) + sized(_EK_POLICY)
    symmetric = u16(codec.AES) + u16(128) + u16(codec.CFB) + u16(codec.NULL)
    if kind == "rsa":
        rest = u16(2048) + u32(0) + sized(bytes(256))
        return u16(keys.RSA) + u16(codec.SHA256) + head + symmetric + rest
    rest = u16(codec.NIST_P256) + u16(codec.NULL) + sized(bytes(32)) + sized(bytes(32))
    return u16(codec.ECC) + u16(codec.SHA256) + head + symmetric + rest


def ak_template(kind: Kind, attributes: int = _AK_ATTRIBUTES) -> bytes:
    """Return the ``TPMT_PUBLIC`` of a key that signs quotes, and nothing that is given to it."""
    head = u32(attributes) + sized(b"") + u16(codec.NULL)
    if kind == "rsa":
        rest = u16(quote.RSASSA) + u16(codec.SHA256) + u16(2048) + u32(0) + sized(b"")
        return u16(keys.RSA) + u16(codec.SHA256) + head + rest
    scheme = u16(quote.ECDSA) + u16(codec.SHA256) + u16(codec.NIST_P256) + u16(codec.NULL)
    return u16(codec.ECC) + u16(codec.SHA256) + head + scheme + sized(b"") + sized(b"")


@contextlib.contextmanager
def endorsement_key(tpm: Tpm, kind: Kind) -> Iterator[Key]:
    """Yield the EK, which the TPM makes from its seed; it is the same every time."""
    nothing = sized(sized(b"") + sized(b""))
    parameters = nothing + sized(ek_template(kind)) + sized(b"") + u32(0)
    hierarchy = permanent(codec.ENDORSEMENT)
    answer = tpm.run(0x131, [hierarchy], parameters, [Password()], returns_handle=True)
    number = answer.u32()
    with tpm.loaded(number):
        public, name = objects.read_public(tpm, number)
        yield Key(Handle(number, name), public)


@contextlib.contextmanager
def _as_owner_of(tpm: Tpm) -> Iterator[Session]:
    """Yield a session that may use the EK, once."""
    with tpm.policy_session() as session:
        parameters = sized(b"") * 3 + u32(0)
        handles = [permanent(codec.ENDORSEMENT), Handle(session.handle, u32(session.handle))]
        tpm.run(0x151, handles, parameters, [Password()])
        yield session


def new_attestation_key(tpm: Tpm, ek: Key, kind: Kind, attributes: int = _AK_ATTRIBUTES) -> Blob:
    """Make an attestation key below the EK; it is to be kept, and opens on this TPM alone."""
    sensitive = sized(sized(b"") + sized(b""))
    parameters = sensitive + sized(ak_template(kind, attributes)) + sized(b"") + u32(0)
    with _as_owner_of(tpm) as session:
        answer = tpm.run(0x153, [ek.handle], parameters, [session])
    private = answer.sized()
    return Blob(answer.sized(), private)


@contextlib.contextmanager
def attestation_key(tpm: Tpm, ek: Key, blob: Blob) -> Iterator[Key]:
    """Yield an attestation key of this TPM."""
    parameters = sized(blob.private) + sized(blob.public)
    with _as_owner_of(tpm) as session:
        answer = tpm.run(0x157, [ek.handle], parameters, [session], returns_handle=True)
    number = answer.u32()
    with tpm.loaded(number):
        yield Key(Handle(number, answer.sized(68)), blob.public)


def activate(tpm: Tpm, ek: Key, ak: Key, credential: Credential) -> bytes:
    """Return the secret of a credential that was made for these two keys.

    Raises:
        DeviceError: it was made for others.
    """
    with _as_owner_of(tpm) as session:
        parameters = credential.blob + credential.seed
        answer = tpm.run(0x147, [ak.handle, ek.handle], parameters, [Password(), session])
    return answer.sized(64)


def certificate(tpm: Tpm, kind: Kind) -> bytes:
    """Return the EK's certificate, as the TPM's maker stored it.

    Raises:
        UnavailableError: there is none.
    """
    index = EK_CERTIFICATES[kind]
    try:
        answer = tpm.run(0x169, [Handle(index, u32(index))])
        public, name = codec.Reader(answer.sized()), answer.sized(68)
        public.take(10)
        public.sized(64)
        size, content = public.u16(), b""
        while len(content) < size:
            piece = min(_NV_PIECE, size - len(content))
            read = [Handle(index, name), Handle(index, name)]
            answer = tpm.run(0x14E, read, u16(piece) + u16(len(content)), [Password()])
            content += answer.sized(piece)
    except DeviceError as error:
        raise UnavailableError(f"no EK certificate at 0x{index:08x}: {error}") from error
    return content


def selection(banks: Sequence[Bank]) -> bytes:
    """Return a ``TPML_PCR_SELECTION``."""
    made = u32(len(banks))
    for bank in banks:
        bits = sum(1 << number for number in bank.registers)
        made += u16(NUMBERS[bank.name]) + u8(3) + bits.to_bytes(3, "little")
    return made


def read_registers(tpm: Tpm, banks: Sequence[Bank]) -> tuple[Register, ...]:
    """Return registers' values in the order of a selection.

    Raises:
        DeviceError: the TPM has no such register.
    """
    found = []
    for bank in banks:
        for start in range(0, len(bank.registers), _AT_ONCE):
            numbers = bank.registers[start : start + _AT_ONCE]
            asked = selection([Bank(bank.name, numbers)])
            answer = tpm.run(0x17E, parameters=asked)
            answer.u32()
            if answer.take(len(asked)) != asked or answer.u32() != len(numbers):
                raise DeviceError(f"the TPM has no such {bank.name} register", Reason.TPM_REFUSED)
            found += [
                Register(bank=bank.name, number=number, value=answer.sized(64).hex())  # type: ignore[arg-type]
                for number in numbers
            ]
    return tuple(found)


def extend(tpm: Tpm, register: int, digests: dict[str, bytes]) -> None:
    """Extend a register, in each bank by its own digest."""
    value = u32(len(digests))
    for bank, digest in digests.items():
        value += u16(NUMBERS[bank]) + digest
    tpm.run(0x182, [permanent(register)], value, [Password()])


def sign_quote(tpm: Tpm, ak: Key, signed: bytes, banks: Sequence[Bank]) -> tuple[bytes, bytes]:
    """Return an attestation structure over a nonce and registers, and the signature on it."""
    parameters = sized(signed) + u16(codec.NULL) + selection(banks)
    answer = tpm.run(0x158, [ak.handle], parameters, [Password()])
    content = answer.sized()
    return content, answer.rest()


def collect(
    tpm: Tpm,
    ak: Key,
    label: str,
    binding: Binding,
    banks: Sequence[Bank],
    sources: Sources,
    first: int = 0,
) -> Claims:
    """Return this machine's evidence: the quote first, then the logs.

    ``first`` entries of the list of files are left out, which an earlier appraisal covers. A
    register that is extended between quote and reading is quoted anew.

    Raises:
        UnavailableError: a log cannot be read, or the registers do not stand still.
    """
    signed = nonce(label, binding)
    for _ in range(10):
        content, signature = sign_quote(tpm, ak, signed, banks)
        values = read_registers(tpm, banks)
        if _matches(content, values):
            break
    else:
        raise UnavailableError("the registers do not stand still")
    boot = _read(sources.boot)
    files = _from(_read(sources.files), sources.form, first)
    listed = None if files is None else List(form=sources.form, first=first, size=len(files))
    head = Head(
        binding=binding,
        quote=content.hex(),
        signature=signature.hex(),
        key=ak.public.hex(),
        registers=values,
        boot_size=None if boot is None else len(boot),
        files=listed,
    )
    return Claims(head=head, logs=(boot or b"") + (files or b""))


def _matches(content: bytes, values: Sequence[Register]) -> bool:
    """Say whether a quote covers these values: SHA-256, as our keys sign with."""
    joined = b"".join(bytes.fromhex(each.value) for each in values)
    return quote.parse(content).digest == hashlib.sha256(joined).digest()


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(claims.MOST_LOG)
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error


def _from(content: bytes | None, form: str, first: int) -> bytes | None:
    """Return a list without its first entries.

    Raises:
        UnavailableError: it has fewer.
    """
    if content is None or not first:
        return content
    try:
        if form == "ascii":
            return content.split(b"\n", first)[first]
        for entry, end in template.binary(content):
            if entry.number == first:
                return content[end:]
    except IndexError as error:
        raise UnavailableError(f"the list has fewer than {first} entries") from error
    raise UnavailableError(f"the list has fewer than {first} entries")
