"""From the maker's certificate to an appraisal, on a real software TPM, in real processes."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lydite.errors import DeviceError, Reason, Refusal
from lydite.evidence.tpm import (
    attester,
    boot,
    credential,
    enrolment,
    keys,
    policies,
    quote,
    signature,
    verifier,
)
from lydite.evidence.tpm.attester import Key, Sources
from lydite.evidence.tpm.enrolment import Root
from lydite.evidence.tpm.policies import Policies
from lydite.evidence.tpm.reference import Enrolled
from lydite.evidence.tpm.verifier import LABEL, Appraisal
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.tpm.commands import Tpm
from lydite.tpm.software import SoftwareTpm
from lydite.tpm.transport import connect
from tests.evidence.tpm.machine import (
    BANKS,
    BIOS,
    ENGINE,
    NOW,
    Machine,
    challenge,
    entry,
    good_state,
)
from tests.evidence.tpm.machine import runtime as runtime_policy

pytestmark = pytest.mark.outside
MADE = Machine()


@pytest.fixture(scope="module")
def factory() -> Iterator[Path]:
    """A directory with a manufactured TPM in it: EK, certificates, and the CA behind them."""
    for program in ("swtpm", "swtpm_setup", "swtpm_localca", "certtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    place = Path(tempfile.mkdtemp(prefix="tpm"))
    authority = place / "ca"
    for folder in (place / "state", authority):
        folder.mkdir()
    names = {"signingkey": "signkey.pem", "issuercert": "issuercert.pem", "certserial": "serial"}
    lines = [f"statedir = {authority}", *(f"{k} = {authority / v}" for k, v in names.items())]
    (place / "ca.conf").write_text("\n".join(lines) + "\n")
    options = place / "ca.options"
    options.write_text(
        "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n"
    )
    (place / "setup.conf").write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {place / 'ca.conf'}\n"
        f"create_certs_tool_options = {options}\n"
    )
    command = ["swtpm_setup", "--tpm2", "--tpmstate", str(place / "state"), "--create-ek-cert"]
    command += ["--config", str(place / "setup.conf"), "--pcr-banks", "sha1,sha256", "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    yield place
    shutil.rmtree(place)


def shut_down(software: SoftwareTpm) -> None:
    """Tell a TPM that the power goes, as an operating system does; else its clock is unsafe."""
    with connect(software.address) as transport:
        Tpm(transport).run(0x145, parameters=bytes(2))


@pytest.fixture
def software(factory: Path) -> Iterator[SoftwareTpm]:
    """The same TPM, booted anew."""
    with SoftwareTpm(factory) as started:
        yield started
        shut_down(started)


@pytest.fixture
def tpm(software: SoftwareTpm) -> Iterator[Tpm]:
    with connect(software.address) as transport:
        yield Tpm(transport)


def chain(factory: Path, tpm: Tpm) -> list[bytes]:
    names = ("issuercert.pem", "swtpm-localca-rootca-cert.pem")
    others = [x509.load_pem_x509_certificate((factory / "ca" / n).read_bytes()) for n in names]
    return [
        attester.certificate(tpm, "rsa"),
        *(each.public_bytes(Encoding.DER) for each in others),
    ]


def enrolled(factory: Path, tpm: Tpm, ek: Key, ak: Key) -> Enrolled:
    """Take the machine in, as its verifier does: a credential first, then the certificates."""
    ek_public, ak_public = keys.parse(ek.public, "EK"), keys.parse(ak.public, "AK")
    secret = os.urandom(32)
    made = credential.make(ek_public, ak_public.name, secret, os.urandom(32))
    credential.check_answer(secret, attester.activate(tpm, ek, ak, made))
    der = chain(factory, tpm)
    roots = {hashlib.sha256(der[-1]).hexdigest(): Root("test", software=True)}
    return enrolment.enrol("node", ek_public, ak_public, ak.handle.name, der, roots, NOW)


def measure(tpm: Tpm, records: list[bytes]) -> None:
    """Extend register 10 by entries of a list, as a kernel does."""
    for record in records:
        at = 28 + int.from_bytes(record[24:28], "little")
        data = record[at + 4 :]
        digests = {bank: hashlib.new(bank, data).digest() for bank in ("sha1", "sha256")}
        attester.extend(tpm, 10, digests)


def boot_up(tpm: Tpm) -> None:
    """Extend the registers of the boot by a genuine log."""
    for event in boot.parse(BIOS).events:
        if event.kind != boot.NO_ACTION:
            digests = {bank: event.digests[bank] for bank in ("sha1", "sha256")}
            attester.extend(tpm, event.register, digests)


def expected(machine: Enrolled) -> Policies:
    contents = (good_state(), runtime_policy())
    documents = {hashlib.sha256(each).hexdigest(): each for each in contents}
    return policies.prepare(MADE.reference(documents, machine=machine), documents, NOW)


def number(finding: Finding, name: str) -> int:
    (value,) = finding.values(name)
    return value


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_a_software_machine_is_appraised_as_what_it_is(
    factory: Path, tpm: Tpm, tmp_path: Path, kind: attester.Kind
) -> None:
    boot_log, list_file = tmp_path / "bios", tmp_path / "ima"
    boot_log.write_bytes(BIOS)
    records = Machine().records
    boot_up(tpm)
    measure(tpm, records)
    sources = Sources(boot=boot_log, files=list_file)
    with attester.endorsement_key(tpm, "rsa") as ek:
        blob = attester.new_attestation_key(tpm, ek, kind)
        with attester.attestation_key(tpm, ek, blob) as ak:
            known = expected(enrolled(factory, tpm, ek, ak))

            def appraise(count: int, first: int = 0, last: Appraisal | None = None) -> Appraisal:
                list_file.write_bytes(b"".join(records))
                issued = challenge(count)
                evidence = attester.collect(tpm, ak, LABEL, issued.binding, BANKS, sources, first)
                before = None if last is None else last.checkpoint
                return verifier.appraise(evidence, known, issued, NOW, before)

            good = appraise(1)
            assert (good.finding.tier, good.finding.reason) == (
                Tier.WARNING,
                Reason.TPM_SOFTWARE,
            )
            assert number(good.finding, "unknown") == 0

            other = entry(ENGINE, hashlib.sha256(b"one byte more").digest())
            records.append(other)
            measure(tpm, [other])
            bad = appraise(2, good.checkpoint.entries, good)
            assert bad.finding.tier is Tier.CONTRAINDICATED
            assert number(bad.finding, "new-entries") == 1
            assert [each.name for each in bad.strangers] == [ENGINE]

            attester.extend(tpm, 10, {"sha256": bytes(32)})
            with pytest.raises(Refusal) as caught:
                appraise(3)
            assert caught.value.reason is Reason.IMA_OUTSIDE_LOG


@pytest.mark.parametrize(
    ("orderly", "reason"),
    [(True, Reason.PCR_ZERO_BOOT), (False, Reason.FRESH_UNSAFE_CLOCK)],
)
def test_a_machine_that_measured_nothing_after_a_reboot_is_refused(
    factory: Path, software: SoftwareTpm, tmp_path: Path, orderly: bool, reason: Reason
) -> None:
    log = tmp_path / "bios"
    log.write_bytes(BIOS)
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        with attester.endorsement_key(tpm, "rsa") as ek:
            blob = attester.new_attestation_key(tpm, ek, "rsa")
            with attester.attestation_key(tpm, ek, blob) as ak:
                known = expected(enrolled(factory, tpm, ek, ak))
    if orderly:
        shut_down(software)
    software.stop()
    software.start()
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        with (
            attester.endorsement_key(tpm, "rsa") as ek,
            attester.attestation_key(tpm, ek, blob) as ak,
        ):
            sources = Sources(boot=log, files=log)
            evidence = attester.collect(tpm, ak, LABEL, challenge().binding, BANKS, sources)
    with pytest.raises(Refusal) as caught:
        verifier.appraise(evidence, known, challenge(), NOW)
    assert caught.value.reason is reason


def test_a_credential_for_another_key_is_not_opened(factory: Path, tpm: Tpm) -> None:
    with attester.endorsement_key(tpm, "rsa") as ek:
        blob = attester.new_attestation_key(tpm, ek, "ecc")
        with attester.attestation_key(tpm, ek, blob) as ak:
            public = keys.parse(ek.public, "EK")
            made = credential.make(public, b"\0\x0b" + bytes(32), b"s" * 32, b"r" * 32)
            with pytest.raises(DeviceError) as caught:
                attester.activate(tpm, ek, ak, made)
    assert "integrity" in str(caught.value)


def test_an_elliptic_ek_opens_what_was_made_for_it(factory: Path, tpm: Tpm) -> None:
    with attester.endorsement_key(tpm, "ecc") as ek:
        blob = attester.new_attestation_key(tpm, ek, "rsa")
        with attester.attestation_key(tpm, ek, blob) as ak:
            made = credential.make(
                keys.parse(ek.public, "EK"), ak.handle.name, b"s" * 32, b"r" * 32
            )
            assert attester.activate(tpm, ek, ak, made) == b"s" * 32


def test_a_quote_by_the_tpm_verifies_and_no_other_does(factory: Path, tpm: Tpm) -> None:
    with attester.endorsement_key(tpm, "rsa") as ek:
        blob = attester.new_attestation_key(tpm, ek, "ecc")
        with attester.attestation_key(tpm, ek, blob) as ak:
            content, made = attester.sign_quote(tpm, ak, b"n" * 32, BANKS)
            key = keys.parse(ak.public, "AK")
            keys.check_attestation_key(key)
            forged = content[:-1] + bytes([content[-1] ^ 1])
            signature.check(key, quote.parse_signature(made), content)
            with pytest.raises(Refusal):
                signature.check(key, quote.parse_signature(made), forged)
