"""Asks the processor for a report on the guest that it runs in, by the kernel's ``configfs-tsm``.

Only who attests imports this. Linux 6.7 or newer with ``sev-guest`` loaded; the host hands over the
certificates, or they are given. Knows nothing of policies.
"""

import contextlib
import uuid
from collections.abc import Sequence
from pathlib import Path

from lydite.errors import FormatError, UnavailableError
from lydite.evidence.snp.claims import LABEL, Claims, report_data
from lydite.messages.nonce import Binding, nonce

REPORTS = Path("/sys/kernel/config/tsm/report")
PROVIDER = "sev_guest"
_MOST = 1 << 16
_NAMES = (
    ("63da758d-e664-4564-adc5-f4b93be8accd", "a8074bc2-a25a-483e-aae6-39c045a0b8a1"),
    ("4ab7b379-bbac-4fe4-a02f-05aef327c782",),
    ("c0b406a4-a803-4952-9743-3fb6014cd0ae",),
)
"""The key's own certificate (VCEK or VLEK), its issuer's, the root's: GHCB (56421), 4.1.8.1."""


def attest(
    binding: Binding, given: Sequence[bytes] = (), folder: Path = REPORTS, name: str = "lydite"
) -> Claims:
    """Return evidence for ``binding``, with the certificates that are ``given``, or the host's.

    Raises:
        UnavailableError: this is no such guest, its kernel does not answer, or nobody has the
            certificates.
    """
    report, table = ask(report_data(nonce(LABEL, binding)), folder, name)
    chain = tuple(given) or certificates(table)
    if not chain:
        raise UnavailableError("the host hands over no certificates; fetch and give them")
    return Claims(
        binding=binding, report=report.hex(), certificates=tuple(each.hex() for each in chain)
    )


def ask(data: bytes, folder: Path = REPORTS, name: str = "lydite") -> tuple[bytes, bytes]:
    """Return the report over 64 bytes, and what the host hands over beside it.

    Raises:
        UnavailableError: no report came, or another program asked in between.
    """
    entry = folder / name
    try:
        with contextlib.suppress(FileExistsError):
            entry.mkdir()
        provider = _read(entry / "provider").decode("ascii", "replace").strip()
        if provider != PROVIDER:
            raise UnavailableError(f"reports come from {provider}, not from {PROVIDER}")
        (entry / "inblob").write_bytes(data)
        before = _read(entry / "generation")
        report, table = _read(entry / "outblob"), _read(entry / "auxblob")
        after = _read(entry / "generation")
    except OSError as error:
        raise UnavailableError(f"cannot get a report at {entry}: {error.strerror}") from error
    if before != after or report[80:144] != data:
        raise UnavailableError("another program asked for a report at the same time")
    return report, table


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST)


def certificates(table: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a host's table, the processor's first; none where one is missing.

    Raises:
        FormatError: the table points beyond its end.
    """
    found: dict[str, bytes] = {}
    for at in range(0, len(table) - 23, 24):
        name = table[at : at + 16]
        if not any(name):
            break
        start, size = (int.from_bytes(table[n : n + 4], "little") for n in (at + 16, at + 20))
        if start + size > len(table):
            raise FormatError("certificate table: an entry lies beyond its end")
        content = table[start : start + size]
        # read either way: the specification and firmware differ in the order of a GUID's bytes
        found[str(uuid.UUID(bytes=name))] = found[str(uuid.UUID(bytes_le=name))] = content
    chain = tuple(next((found[n] for n in names if n in found), b"") for names in _NAMES)
    return chain if all(chain) else ()
