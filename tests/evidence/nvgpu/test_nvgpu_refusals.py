"""Everything about a GPU that has to be refused is, by its own name."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.nvgpu import claims, report, verifier
from lydite.evidence.nvgpu import reference as references
from lydite.evidence.nvgpu.claims import LABEL, Claims
from lydite.evidence.nvgpu.reference import Group, Manifest
from lydite.messages.canonical import encode
from lydite.messages.nonce import nonce
from lydite.messages.tier import Tier
from tests.evidence.nvgpu.devices import (
    DICE,
    DRIVER_ID,
    FIRMWARE,
    SAID,
    TCB_INFO,
    VBIOS_ID,
    Gpu,
    claims_of,
    element,
    manifest,
    own,
    reference,
    switch,
    tcb_info,
    vendor,
)
from tests.evidence.snp.processor import NOW, authority, challenge, fingerprint, key_of, signed

Case = Callable[[], object]
CASES: list[tuple[str, Case]] = []
GOOD = nonce(LABEL, challenge().binding)


def refuses(reason: str) -> Callable[[Case], Case]:
    """Take down what has to end in a refusal of this reason."""

    def note(case: Case) -> Case:
        CASES.append((reason, case))
        return case

    return note


def given(*gpus: Gpu, now_s: int = NOW, **policy: Any) -> object:
    evidence = claims_of(*(gpus or (Gpu(),)))
    return verifier.appraise(evidence, reference(**policy), challenge(), now_s)


def changed(**parts: Any) -> object:
    """Evidence of one good device, of which parts were changed on the way."""
    evidence = Claims(binding=challenge().binding, devices=(Gpu().device(GOOD, **parts),))
    return verifier.appraise(evidence, reference(), challenge(), NOW)


def resigned(change: Callable[[bytes], bytes]) -> object:
    """A report that a genuine device signed in another form."""
    return changed(report=Gpu().sign(change(Gpu().body(GOOD))).hex())


def saying(**said: bytes | None) -> object:
    numbers = {"vbios": report.VBIOS, "chip": report.CHIP, "fwid": report.FWID}
    numbers |= {"driver": report.DRIVER, "project": report.PROJECT}
    found = dict(SAID)
    for name, value in said.items():
        if value is None:
            del found[numbers[name]]
        else:
            found[numbers[name]] = value
    return given(Gpu(said=found))


def chained(*chain: bytes, root: bytes | None = None) -> object:
    device = Gpu().device(GOOD, certificates=tuple(each.hex() for each in chain))
    evidence = Claims(binding=challenge().binding, devices=(device,))
    pinned = reference(root=fingerprint(root or chain[-1]))
    return verifier.appraise(evidence, pinned, challenge(), NOW)


# --- form ----------------------------------------------------------------------------------------


@refuses("attest.wrapper")
def evidence_in_another_spelling() -> object:
    return claims.parse(claims.write(claims_of(Gpu())) + b" ")


@refuses("attest.wrapper")
def half_a_byte() -> object:
    device = Gpu().device(GOOD, report="000")
    return claims.parse(claims.write(Claims(binding=challenge().binding, devices=(device,))))


@refuses("nv.form")
def a_report_that_ends_early() -> object:
    return changed(report=Gpu().device(GOOD).report[:-2])


@refuses("nv.form")
def a_report_with_more_behind_it() -> object:
    return changed(report=Gpu().device(GOOD).report + "00")


@refuses("nv.form")
def a_report_of_megabytes() -> object:
    return changed(report="00" * 16_384 + "00")


@refuses("nv.form")
def a_request_for_something_else() -> object:
    return resigned(lambda body: b"\x11\xe0\x01\x01" + body[4:])


@refuses("nv.form")
def an_answer_to_something_else() -> object:
    return resigned(lambda body: body[:38] + b"\x61" + body[39:])


@refuses("nv.form")
def a_measurement_of_another_form() -> object:
    return resigned(lambda body: body[:46] + b"\2" + body[47:])


@refuses("nv.index")
def a_measurement_out_of_order() -> object:
    return resigned(lambda body: body[:45] + b"\2" + body[46:])


@refuses("nv.index")
def a_measurement_that_is_left_out() -> object:
    return given(Gpu(measured=[bytes(48)] * 63))


@refuses("nv.index")
def more_bytes_than_measurements() -> object:
    shorter = lambda body: body[:41] + bytes((report.SWITCH_BLOCKS,)) + body[42:]  # noqa: E731
    return resigned(shorter)


@refuses("nv.index")
def a_gpu_with_as_many_measurements_as_a_switch() -> object:
    return given(Gpu(measured=[bytes(48)] * 31))


@refuses("nv.opaque")
def something_said_twice() -> object:
    gpu = Gpu()
    twice = gpu.opaque() + b"\x03\0\1\0x"
    made = gpu.body(GOOD)[: -len(gpu.opaque()) - 2] + len(twice).to_bytes(2, "little") + twice
    return changed(report=gpu.sign(made).hex())


@refuses("nv.opaque")
def something_said_beyond_the_end() -> object:
    return resigned(lambda body: body[:-3] + b"\xff\xff" + body[-1:])


@refuses("nv.opaque")
def a_device_that_does_not_say_its_firmware() -> object:
    return saying(vbios=None)


@refuses("nv.opaque")
def firmware_of_another_length() -> object:
    return saying(vbios=b"\1\2\3\4")


@refuses("nv.opaque")
def a_device_that_does_not_say_its_driver() -> object:
    return saying(driver=None)


@refuses("nv.opaque")
def a_device_of_no_project() -> object:
    return saying(project=b"../..\0")


# --- who signed, over what -----------------------------------------------------------------------


@refuses("nv.signature")
def a_signed_byte_that_was_changed() -> object:
    made = bytearray(Gpu().sign(Gpu().body(GOOD)))
    made[110] ^= 1
    return changed(report=made.hex())


@refuses("nv.signature")
def a_report_by_another_device() -> object:
    return changed(report=Gpu(key="p384-other").device(GOOD).report)


@refuses("nv.signature")
def a_signature_of_zeros() -> object:
    return changed(report=(Gpu().body(GOOD) + bytes(96)).hex())


@refuses("nv.chain")
def a_device_that_the_next_one_did_not_issue() -> object:
    forged = signed("GH100", "GH100 A01 GSP BROM", key_of("p384-gpu"), key_of("p384-nv-2"))
    return chained(forged, *vendor())


@refuses("nv.chain")
def a_chain_with_one_left_out() -> object:
    return chained(Gpu().certificate, *vendor()[1:])


@refuses("nv.chain")
def a_device_that_issues_another() -> object:
    below = signed("GH100 X", "GH100 A01 GSP FMC LF", key_of("p384-gpu"), key_of("p384-gpu"))
    return chained(below, Gpu().certificate, *vendor())


@refuses("nv.chain")
def no_certificates() -> object:
    return changed(certificates=())


@refuses("nv.root")
def a_vendor_that_nobody_pinned() -> object:
    other = signed("Device CA", "Device CA", key_of("p384-x"), key_of("p384-x"), authority())
    return chained(Gpu().certificate, *vendor()[:-1], other, root=vendor()[-1])


@refuses("nv.expired")
def a_certificate_that_is_over() -> object:
    return given(Gpu(days=-1))


@refuses("nv.exception")
def a_certificate_that_cannot_be_read() -> object:
    return chained(b"\x30\x80" + bytes(99), *vendor())


@refuses("nv.exception")
def a_certificate_that_demands_what_we_do_not_know() -> object:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    return given(Gpu(beside=((unknown, True),)))


@refuses("nv.revoked")
def a_device_that_is_revoked() -> object:
    serial = x509.load_der_x509_certificate(Gpu().certificate).serial_number
    return given(revoked=(f"{serial:x}",))


@refuses("nv.revoked")
def an_authority_on_hold() -> object:
    serial = x509.load_der_x509_certificate(vendor()[1]).serial_number
    return given(revoked=("0", f"{serial:x}"))


@refuses("nv.fwid")
def a_certificate_that_was_issued_to_other_firmware() -> object:
    return saying(fwid=bytes(48))


@refuses("nv.fwid")
def a_report_that_names_no_firmware() -> object:
    return saying(fwid=None)


@refuses("nv.fwid")
def a_report_that_names_firmware_beside_a_certificate_without() -> object:
    return given(Gpu(dice=None), without_fwid=True)


@refuses("nv.fwid")
def the_second_digest_of_a_later_device() -> object:
    return given(Gpu(dice=own(TCB_INFO, tcb_info(bytes(48), FIRMWARE))))


@refuses("nv.fwid")
def a_later_device_without_a_digest() -> object:
    return given(Gpu(dice=own(TCB_INFO, element(0x30, element(0x80, b"NVIDIA")))))


@refuses("nv.fwid")
def a_later_device_with_half_a_digest() -> object:
    return given(Gpu(dice=own(TCB_INFO, tcb_info(FIRMWARE[:20]))))


@refuses("nv.fwid")
def a_later_device_whose_digests_end_early() -> object:
    return given(Gpu(dice=own(TCB_INFO, tcb_info(FIRMWARE)[:-1])))


@refuses("nv.fwid")
def a_later_device_whose_length_is_none() -> object:
    return given(Gpu(dice=own(TCB_INFO, b"\x30\x84" + bytes(9))))


@refuses("nv.fwid")
def an_older_device_without_a_digest() -> object:
    return given(Gpu(dice=own(DICE, b"\x30\x02\x05\x00")))


@refuses("fresh.replayed")
def an_older_challenge() -> object:
    other = challenge(2)
    return verifier.appraise(claims_of(Gpu(), issued=other), reference(), challenge(), NOW)


@refuses("fresh.echo-unbound")
def a_nonce_of_nothing() -> object:
    return changed(report=Gpu().device(bytes(32)).report)


@refuses("fresh.expired")
def an_answer_that_came_too_late() -> object:
    return given(now_s=NOW + 1000)


@refuses("nv.nonce")
def one_device_that_answers_an_older_challenge() -> object:
    older = nonce(LABEL, challenge(2).binding)
    devices = (Gpu().device(GOOD), Gpu(key="p384-gpu-2").device(older))
    evidence = Claims(binding=challenge().binding, devices=devices)
    two = reference(groups=(Group(arch="GH100", count=2),))
    return verifier.appraise(evidence, two, challenge(), NOW)


# --- which devices, of which firmware ------------------------------------------------------------


@refuses("nv.duplicate-device")
def one_device_twice() -> object:
    return given(Gpu(), Gpu(), groups=(Group(arch="GH100", count=2),))


@refuses("nv.count")
def fewer_devices_than_demanded() -> object:
    return given(groups=(Group(arch="GH100", count=2),))


@refuses("nv.count")
def more_devices_than_demanded() -> object:
    return given(Gpu(), Gpu(key="p384-gpu-2"))


@refuses("nv.count")
def no_device() -> object:
    evidence = Claims(binding=challenge().binding, devices=())
    return verifier.appraise(evidence, reference(), challenge(), NOW)


@refuses("nv.count")
def no_switch_where_one_is_demanded() -> object:
    return given(groups=(Group(arch="GH100", count=1), Group(arch="LS10", count=1)))


@refuses("nv.dev-tools")
def a_device_that_is_open_to_debuggers() -> object:
    return changed(mode="dev-tools")


@refuses("nv.dev-tools")
def a_device_without_protection() -> object:
    return changed(mode="off")


@refuses("nv.arch")
def a_device_of_another_architecture() -> object:
    return given(Gpu(name="GB100 A01 GSP FMC LF"))


@refuses("nv.arch")
def a_switch_in_place_of_a_gpu() -> object:
    return given(switch(), without_fwid=True)


@refuses("nv.rim-version")
def firmware_of_another_version() -> object:
    return saying(vbios=bytes.fromhex("009f009602000000"))


@refuses("nv.rim-version")
def a_driver_of_another_version() -> object:
    return saying(driver=b"550.90.08\0")


@refuses("nv.rim-version")
def a_manifest_for_another_board() -> object:
    return saying(chip=b"862\0")


@refuses("nv.rim-expired")
def a_manifest_that_is_over() -> object:
    over = manifest(VBIOS_ID, 0, not_after_s=NOW - 1)
    return given(manifests=(over, manifest(DRIVER_ID, 10)))


def measured(index: int, **policy: Any) -> object:
    gpu = Gpu()
    gpu.measured[index] = b"\xee" * 48
    return given(gpu, **policy)


@refuses("nv.mismatch")
def other_firmware_under_the_same_version() -> object:
    return measured(1)


@refuses("nv.mismatch")
def another_driver_under_the_same_version() -> object:
    return measured(12)


@refuses("nv.mismatch")
def another_row_35_while_the_decoder_is_on() -> object:
    return measured(35, without_nvdec=True)


@refuses("nv.mismatch")
def another_row_35_that_nobody_excused() -> object:
    gpu = Gpu(said=dict(SAID) | {report.NVDEC0: report.OFF})
    gpu.measured[35] = b"\xee" * 48
    return given(gpu)


@refuses("nv.mismatch")
def a_row_that_a_switch_does_not_have() -> object:
    name = "NV_SWITCH_BIOS_5612_0002_890_96.10.4D.00.01"
    groups = (Group(arch="LS10", count=1),)
    return given(switch(), without_fwid=True, groups=groups, manifests=(manifest(name, 40),))


@refuses("policy.empty")
def a_reference_of_no_device() -> object:
    return references.parse(encode(reference(groups=())))


@refuses("policy.empty")
def a_reference_of_no_manifest() -> object:
    return given(manifests=())


@refuses("policy.empty")
def a_manifest_of_no_row() -> object:
    return given(manifests=(manifest(VBIOS_ID),))


@pytest.mark.parametrize(("reason", "case"), CASES, ids=[f"{r}-{c.__name__}" for r, c in CASES])
def test_what_must_be_refused_is_refused_by_its_name(reason: str, case: Case) -> None:
    with pytest.raises(Refusal) as caught:
        case()
    assert caught.value.reason == reason, str(caught.value)
    assert caught.value.where


def test_every_reason_of_the_family_has_a_case() -> None:
    published = {each.value for each in Reason if each.value.startswith("nv.")}
    assert published == {reason for reason, _ in CASES if reason.startswith("nv.")}


def test_a_refusal_is_a_finding_that_contradicts() -> None:
    finding = verifier.verify(claims_of(Gpu(days=-1)), reference(), challenge(), NOW)
    assert finding.tier is Tier.CONTRAINDICATED
    assert finding.reason is Reason.NV_EXPIRED


@pytest.mark.parametrize(
    "twice",
    [
        {"manifests": (manifest(VBIOS_ID, 1), manifest(VBIOS_ID, 2))},
        {"manifests": (manifest(VBIOS_ID, 1, 1),)},
        {"groups": (Group(arch="GH100", count=1), Group(arch="GH100", count=2))},
    ],
    ids=["manifest", "row", "architecture"],
)
def test_a_reference_names_nothing_twice(twice: dict[str, tuple[Manifest, ...]]) -> None:
    with pytest.raises(FormatError, match="twice"):
        references.parse(encode(reference(**twice)))
    content = claims.write(claims_of(Gpu()))
    finding = verifier.examine(content, reference(**twice), challenge(), NOW)
    assert finding.tier is Tier.NONE
