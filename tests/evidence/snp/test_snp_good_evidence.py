"""Guests that are as they should be, and the files by which a kernel gives their reports."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.snp import attester, claims, verifier
from lydite.evidence.snp import reference as references
from lydite.evidence.snp.claims import LABEL
from lydite.evidence.snp.reference import Tcb
from lydite.messages.canonical import encode
from lydite.messages.nonce import nonce
from lydite.messages.tier import Tier
from tests.evidence.snp.processor import (
    CHIP,
    NOW,
    Processor,
    challenge,
    fingerprint,
    reference,
    vendor,
)


@pytest.mark.parametrize(
    ("processor", "policy"),
    [
        (Processor(), {}),
        (Processor(version=2, cpu=bytes(3)), {}),
        (Processor(named=b"\x04\x40" + CHIP), {}),
        (Processor(said="Genoa", cpu=bytes((0x19, 0xA1, 0)), product="Genoa"), {}),
        (Processor(flags=1 << 2, named=None, said="Milan"), {"key": "vlek"}),
        (Processor(vmpl=1), {"most_vmpl": 1}),
        (Processor(), {"chips": (CHIP.hex(),)}),
        (
            Processor(
                product="Turin",
                said="Turin-B0",
                cpu=bytes((0x1A, 0x02, 1)),
                versions={"fmc": 1, "bl": 2, "tee": 0, "snp": 5, "ucode": 200},
                chip=CHIP[:8] + bytes(56),
                named=CHIP[:8],
            ),
            {"least": Tcb(fmc=1, bl=2, snp=5, ucode=100)},
        ),
    ],
    ids=["version-3", "version-2", "wrapped-id", "genoa", "lent-key", "vmpl-1", "listed", "turin"],
)
def test_a_guest_that_is_as_it_should_be_affirms(
    processor: Processor, policy: dict[str, Any]
) -> None:
    expected = references.parse(encode(reference(product=processor.product, **policy)))
    content = claims.write(processor.claims(challenge()))
    finding = verifier.examine(content, expected, challenge(), NOW)
    assert finding.reason is Reason.CONSISTENT
    assert finding.tier is Tier.AFFIRMING
    assert finding.values("time") == (NOW,)
    assert finding.values("tcb/ucode") == (200,)
    assert finding.values("unperformed/revocation") == (1,)
    assert finding.reference == references.digest(expected)


def folder(place: Path, report: bytes, table: bytes, provider: str = "sev_guest") -> Path:
    """The files of a kernel, as they are once it has answered."""
    entry = place / "lydite"
    entry.mkdir()
    (entry / "provider").write_text(f"{provider}\n")
    (entry / "generation").write_text("1\n")
    (entry / "outblob").write_bytes(report)
    (entry / "auxblob").write_bytes(table)
    return place


def table(chain: tuple[bytes, ...]) -> bytes:
    """What a host hands over beside a report."""
    names = [name for (name, *_) in attester._NAMES]
    at, head, body = 24 * (len(chain) + 1), b"", b""
    for name, content in zip(names, chain, strict=True):
        place = (at + len(body)).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        head, body = head + uuid.UUID(name).bytes + place, body + content
    return head + bytes(24) + body


def test_what_the_kernel_gives_is_evidence(tmp_path: Path) -> None:
    processor, issued = Processor(), challenge()
    report = processor.report(claims.report_data(nonce(LABEL, issued.binding)))
    chain = (processor.certificate(), *vendor())
    evidence = attester.attest(issued.binding, (), folder(tmp_path, report, table(chain)))
    expected = reference(root=fingerprint(chain[-1]))
    assert verifier.verify(evidence, expected, issued, NOW).tier is Tier.AFFIRMING
    asked = (tmp_path / "lydite" / "inblob").read_bytes()
    assert asked == nonce(LABEL, issued.binding) + bytes(32)


def test_a_report_that_answers_somebody_else_is_not_handed_on(tmp_path: Path) -> None:
    report = Processor().report(bytes(64))
    with pytest.raises(UnavailableError, match="another program"):
        attester.attest(challenge().binding, (), folder(tmp_path, report, b""))


def test_a_guest_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="tdx_guest"):
        attester.ask(bytes(64), folder(tmp_path, b"", b"", "tdx_guest"))


def test_a_machine_that_is_no_guest_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot get a report"):
        attester.ask(bytes(64), tmp_path / "absent")


def test_certificates_are_given_where_the_host_has_none(tmp_path: Path) -> None:
    issued = challenge()
    report = Processor().report(claims.report_data(nonce(LABEL, issued.binding)))
    place = folder(tmp_path, report, b"")
    with pytest.raises(UnavailableError, match="no certificates"):
        attester.attest(issued.binding, (), place)
    assert attester.attest(issued.binding, vendor(), place).certificates


def test_a_table_that_points_beyond_its_end_is_malformed() -> None:
    with pytest.raises(FormatError):
        attester.certificates(uuid.uuid4().bytes + b"\xff" * 8 + bytes(24))
