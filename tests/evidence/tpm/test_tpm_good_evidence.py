"""Good evidence is taken for what it is: genuine recordings, and machines made here."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from lydite.errors import FormatError, Reason
from lydite.evidence.tpm import (
    boot,
    checkpoint,
    claims,
    ima,
    keys,
    quote,
    runtime,
    signature,
    template,
    verifier,
)
from lydite.evidence.tpm.judge import Judge, Rules
from lydite.evidence.tpm.template import Entry
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from tests.evidence.tpm.machine import (
    BIOS,
    ENGINE,
    FILES,
    NOW,
    VECTORS,
    Machine,
    challenge,
    entry,
)
from tests.evidence.tpm.machine import (
    runtime as runtime_policy,
)

VM = VECTORS / "vm-sb-imasig"
STATES = ("s1-boot", "s2-workload", "s3-rogue", "s4-violation")
BESIDE = [place / "shared" / "vectors" / "tpm-made" / VM.name for place in Path(__file__).parents]
"""Where states may lie whose lists name places that are not for the repository."""


def recorded(state: str) -> Path:
    """Return the folder of a state; skip where it is not at hand."""
    found = next((at / state for at in (VM, *BESIDE) if (at / state).is_dir()), None)
    if found is None:
        pytest.skip(f"the recorded state {state} is not beside the project")
    return found


def as_text(folder: Path) -> bytes:
    """Return a list as text, packed or not."""
    packed = folder / "ima.ascii.gz"
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    return (folder / "ima.ascii").read_bytes()


def measure(finding: Finding, name: str) -> int:
    (value,) = finding.values(name)
    return value


def quoted_values(state: str) -> dict[tuple[str, int], bytes]:
    quoted = quote.parse((recorded(state) / "quote_rsa.msg").read_bytes())
    content = (recorded(state) / "pcrs_rsa.bin").read_bytes()
    assert hashlib.sha256(content).digest() == quoted.digest
    values, at = {}, 0
    for bank in quoted.banks:
        for number in bank.registers:
            values[bank.name, number] = content[at : at + quote.SIZES[bank.name]]
            at += quote.SIZES[bank.name]
    return values


def good_files() -> bytes:
    table: dict[str, list[str]] = {}
    for each, _ in template.binary((VM / "s2-workload" / "ima.bin").read_bytes()):
        table.setdefault(each.name, []).append(each.digest.hex())
    return json.dumps({"meta": {"version": 1}, "digests": table}).encode()


def no_signatures(entry: Entry, pems: tuple[str, ...]) -> None:
    raise AssertionError("nothing is signed here")


@pytest.mark.parametrize("folder", ["swtpm-bare", "vm-sb-imasig/s2-workload"])
@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_a_recorded_quote_verifies_and_its_signer_is_the_key_below_the_ek(
    folder: str, kind: str
) -> None:
    place, home = VECTORS / folder, VECTORS / folder.split("/")[0]
    signed = (place / f"quote_{kind}.msg").read_bytes()
    key = keys.parse((home / f"ak_{kind}.pub").read_bytes()[2:], "key")
    ek = keys.parse((home / "ek.pub").read_bytes()[2:], "EK")
    quoted = quote.parse(signed)
    keys.check_attestation_key(key)
    signature.check(key, quote.parse_signature((place / f"quote_{kind}.sig").read_bytes()), signed)
    assert key.name == (home / f"ak_{kind}.name").read_bytes()
    assert quoted.signer == keys.qualified_names(key, ek.name)[0]


@pytest.mark.parametrize("state", STATES)
def test_a_recorded_boot_log_leads_to_every_quoted_register(state: str) -> None:
    values, reached = quoted_values(state), boot.replay(boot.parse(BIOS), "sha256")
    for number in (*range(10), 14):
        assert reached.get(number, bytes(32)) == values["sha256", number]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize("templates", [(), ("ima-ng", "ima-sig")])
def test_a_recorded_list_leads_to_its_register(
    state: str, form: ima.Form, templates: tuple[str, ...]
) -> None:
    values = quoted_values(state)
    joined = b"".join(values["sha256", number] for number in range(10))
    compiled = runtime.compile_policy([good_files()], templates=templates)
    aggregates = {"sha256": hashlib.sha256(joined).digest()}
    judge = Judge(compiled, Rules(violations=True), aggregates, no_signatures)
    folder = recorded(state)
    log = as_text(folder) if form == "ascii" else (folder / "ima.bin").read_bytes()
    prepared = compiled.hashed if form == "binary" else compiled.lines
    start = ima.Place(0, bytes(32))
    found = ima.replay(log, form, start, values["sha256", 10], prepared, judge)
    assert found.place.entries == int((folder / "count").read_text())
    assert found.tail == 0
    strangers = {each.name for each in judge.strangers}
    assert ("/usr/local/bin/rogue" in strangers) is (state in ("s3-rogue", "s4-violation"))
    assert judge.violations == (2 if state == "s4-violation" else 0)


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_good_evidence_affirms(kind: str, form: str) -> None:
    machine, issued = Machine(kind=kind), challenge()
    travelled = claims.write(machine.claims(issued, form=form))
    finding = verifier.examine(travelled, machine.policies(), issued, NOW)
    assert (finding.tier, finding.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)
    assert measure(finding, "entries") == len(machine.records)
    assert measure(finding, "trust/executables") == 2
    assert measure(finding, "trust/runtime-opaque") == 96


def test_a_tpm_of_software_only_warns_however_good_its_evidence() -> None:
    machine, issued = Machine(software=True), challenge()
    finding = verifier.verify(machine.claims(issued), machine.policies(), issued, NOW)
    assert (finding.tier, finding.reason) == (Tier.WARNING, Reason.TPM_SOFTWARE)
    assert measure(finding, "trust/hardware") == 97


def test_an_unknown_file_warns_and_is_named() -> None:
    machine, issued = Machine(), challenge()
    machine.records.append(entry("/usr/bin/miner", hashlib.sha256(b"miner").digest()))
    found = verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW)
    assert (found.finding.tier, found.finding.reason) == (Tier.WARNING, Reason.IMA_UNKNOWN_FILE)
    assert measure(found.finding, "trust/executables") == 33
    (stranger,) = found.strangers
    assert (stranger.name, stranger.number) == ("/usr/bin/miner", len(machine.records))


def test_one_byte_of_the_engine_is_caught_and_named() -> None:
    machine, issued = Machine(), challenge()
    other = hashlib.sha256(b"Engine").digest()
    machine.records.append(entry(ENGINE, other))
    found = verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW)
    assert found.finding.tier is Tier.CONTRAINDICATED
    assert found.finding.reason is Reason.IMA_UNKNOWN_FILE
    (stranger,) = found.strangers
    assert stranger.name == ENGINE
    assert stranger.expected == (FILES[ENGINE].hex(),)
    assert stranger.got == other.hex()


def test_a_program_that_is_called_a_buffer_stays_a_program() -> None:
    """The template's name is not hashed, and a policy may let every keyring pass."""
    evil = b"\3 evil"
    digest = hashlib.sha256(evil).digest()
    known = {"ima": {"ignored_keyrings": ["*"], "log_hash_alg": "sha1", "dm_policy": None}}
    for name, told in (("/usr/bin/evil", evil), (".ima", b"\3 something else")):
        machine, issued = Machine(), challenge()
        machine.records.append(entry(name, digest, form="ima-buf", last=(told,)))
        evidence, policy = machine.claims(issued), machine.policies(runtime_policy(**known))
        finding = verifier.verify(evidence, policy, issued, NOW)
        assert (finding.tier, finding.reason) == (Tier.WARNING, Reason.IMA_UNKNOWN_FILE)


def test_entries_behind_the_quote_are_left_for_the_next_time() -> None:
    machine, issued = Machine(), challenge()
    machine.tail = [entry("/usr/bin/late", hashlib.sha256(b"late").digest())]
    finding = verifier.verify(machine.claims(issued), machine.policies(), issued, NOW)
    assert finding.tier is Tier.AFFIRMING
    assert measure(finding, "tail") == len(machine.tail[0])


def test_what_an_old_policy_allows_counts_until_its_date() -> None:
    machine, issued = Machine(), challenge()
    old = {name: digest for name, digest in FILES.items() if name != "/usr/bin/tool-0"}
    new = {"/usr/bin/tool-0": FILES["/usr/bin/tool-0"]}
    both = machine.policies(runtime_policy(old), runtime_policy(new))
    assert verifier.verify(machine.claims(issued), both, issued, NOW).tier is Tier.AFFIRMING
    assert both.runtime is not None
    assert both.runtime.files["/usr/bin/tool-0"] == {FILES["/usr/bin/tool-0"]}


def test_a_signed_policy_of_keylime_says_what_it_says_unsigned() -> None:
    plain = runtime_policy()
    kind = "application/vnd.keylime+json"
    spelt = base64.b64encode(plain).decode()
    envelope = {
        "payload": spelt,
        "payloadType": kind,
        "signatures": [{"keyid": "x", "sig": "eA=="}],
    }
    found = runtime.compile_policy([json.dumps(envelope).encode()])
    assert found.files == runtime.compile_policy([plain]).files
    other = json.dumps({**envelope, "payloadType": "text/plain"}).encode()
    with pytest.raises(FormatError):
        runtime.compile_policy([other])


def test_a_second_appraisal_reads_only_what_is_new() -> None:
    machine, issued = Machine(), challenge()
    known = machine.policies()
    first = verifier.appraise(machine.claims(issued), known, issued, NOW)
    seen = len(machine.records)
    machine.records += [entry(name, digest) for name, digest in list(FILES.items())[:5]]
    machine.clock_ms += 1000
    again = challenge(2)
    second = verifier.appraise(
        machine.claims(again, first=seen), known, again, NOW + 60, first.checkpoint
    )
    assert second.finding.tier is Tier.AFFIRMING
    assert measure(second.finding, "new-entries") == 5
    assert second.checkpoint.entries == seen + 5
    whole = verifier.appraise(machine.claims(again), known, again, NOW + 60)
    assert whole.checkpoint == second.checkpoint


def test_an_unknown_file_is_not_forgotten_by_the_next_appraisal() -> None:
    machine, issued = Machine(), challenge()
    machine.records.append(entry("/usr/bin/miner", hashlib.sha256(b"miner").digest()))
    known = machine.policies()
    first = verifier.appraise(machine.claims(issued), known, issued, NOW)
    again = challenge(2)
    evidence = machine.claims(again, first=len(machine.records))
    finding = verifier.verify(evidence, known, again, NOW, first.checkpoint)
    assert (finding.tier, finding.reason) == (Tier.WARNING, Reason.IMA_UNKNOWN_FILE)


def test_a_reboot_starts_from_zero_and_is_reported() -> None:
    machine, issued = Machine(), challenge()
    known = machine.policies()
    first = verifier.appraise(machine.claims(issued), known, issued, NOW)
    machine.resets += 1
    machine.clock_ms = 5
    again = challenge(2)
    finding = verifier.verify(machine.claims(again), known, again, NOW, first.checkpoint)
    assert finding.tier is Tier.AFFIRMING
    assert measure(finding, "rebooted") == 1


def test_a_checkpoint_is_stale_after_its_time() -> None:
    machine, issued = Machine(), challenge()
    found = verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW).checkpoint
    assert checkpoint.stale_s(found, NOW + 3600) == 0
    assert checkpoint.stale_s(found, NOW + 3661) == 61
    assert checkpoint.parse(msgspec.json.encode(found, order="sorted")) == found


def test_evidence_is_written_and_read_as_it_is() -> None:
    evidence = Machine().claims(challenge())
    again = claims.parse(claims.write(evidence))
    assert (again.head, again.boot, again.files) == (evidence.head, evidence.boot, evidence.files)
