"""Everything that has to be refused is, by its own name: one case a reason, at least."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from lydite.errors import LyditeError, Reason, Refusal
from lydite.evidence.tpm import boot, claims, events, keys, quote, refstate, runtime, verifier
from lydite.evidence.tpm import reference as references
from lydite.evidence.tpm.boot import Event
from lydite.evidence.tpm.claims import Register
from lydite.evidence.tpm.quote import Bank
from lydite.evidence.tpm.reference import Dated, Files, Known, Selected
from lydite.messages.nonce import Binding, Challenges, Issued, check, nonce
from lydite.messages.tier import Tier
from lydite.tpm.codec import sized, u8, u16, u32
from tests.evidence.tpm.machine import (
    BANKS,
    BIOS,
    ENGINE,
    FILES,
    LATER,
    NOW,
    Machine,
    challenge,
    encode_log,
    entry,
    event,
    followed,
    record,
    text_of,
)
from tests.evidence.tpm.machine import (
    runtime as runtime_policy,
)

FAMILIES = ("fresh", "attest", "key", "pcr", "boot", "ima", "policy")
ELSEWHERE = {
    "key.ek-other",
    "key.ek-expired",
    "key.ek-eku",
    "key.ek-chain",
    "key.ek-root",
    "key.name",
    "key.credential-name",
    "ima.signature",
    "ima.key-id",
}
"""In ``test_tpm_enrolment`` and ``test_tpm_file_signatures``."""
Case = Callable[[], object]
CASES: list[tuple[str, str, Case]] = []


def refuses(reason: str) -> Callable[[Case], Case]:
    """Take down what has to end in a refusal of this reason."""

    def note(case: Case) -> Case:
        CASES.append((reason, case.__name__, case))
        return case

    return note


def given(
    machine: Machine, issued: Issued | None = None, now_s: int = NOW, **changes: Any
) -> verifier.Appraisal:
    """Appraise a machine's evidence, of which parts were changed on the way."""
    asked = issued or challenge()
    evidence = machine.claims(asked, **changes)
    return verifier.appraise(evidence, machine.policies(), asked, now_s)


def signed(machine: Machine, content: bytes) -> dict[str, str]:
    """A head's quote and signature over other content."""
    return {"quote": content.hex(), "signature": machine.sign(content).hex()}


def content_of(machine: Machine) -> bytes:
    return machine.attest(nonce(verifier.LABEL, challenge().binding))


# --- fresh ---------------------------------------------------------------------------------------


def answered(said: bytes, claimed: Binding | None = None) -> object:
    machine = Machine()
    changes = signed(machine, machine.attest(said))
    return given(machine, binding=claimed or challenge().binding, **changes)


@refuses("fresh.replayed")
def an_older_challenge() -> object:
    other = challenge(2).binding
    return answered(nonce(verifier.LABEL, other), other)


@refuses("fresh.replayed")
def a_nonce_of_another_kind() -> object:
    asked = challenge().binding
    return answered(nonce("lydite/other/v1", asked), challenge(2).binding)


@refuses("fresh.replayed")
def a_challenge_that_nobody_issued() -> object:
    return Challenges().consume(challenge().binding, NOW)


@refuses("fresh.empty")
def no_nonce() -> object:
    return answered(b"")


@refuses("fresh.prefix")
def half_a_nonce() -> object:
    return answered(nonce(verifier.LABEL, challenge().binding)[:16])


@refuses("fresh.encoding")
def a_nonce_in_hexadecimal() -> object:
    return answered(nonce(verifier.LABEL, challenge().binding).hex()[:64].encode())


@refuses("fresh.reused")
def a_challenge_answered_twice() -> object:
    waiting = Challenges()
    waiting.issue(challenge())
    waiting.consume(challenge().binding, NOW)
    return waiting.consume(challenge().binding, NOW)


@refuses("fresh.expired")
def an_answer_that_came_late() -> object:
    return given(Machine(), now_s=NOW + 10_000)


@refuses("fresh.expired")
def a_challenge_consumed_late() -> object:
    waiting = Challenges()
    waiting.issue(challenge())
    return waiting.consume(challenge().binding, NOW + 10_000)


def bound(**parts: str) -> object:
    other = challenge(**parts).binding
    return answered(nonce(verifier.LABEL, other), other)


@refuses("fresh.other-session")
def evidence_for_another_session() -> object:
    return bound(session="aa")


@refuses("fresh.other-key")
def evidence_for_another_tls_key() -> object:
    return bound(key="bb" * 32)


@refuses("fresh.other-model")
def evidence_for_another_model() -> object:
    return bound(model="cc" * 32)


@refuses("fresh.echo-unbound")
def the_right_nonce_beside_a_quote_over_another() -> object:
    return answered(hashlib.sha256(b"stale").digest(), challenge().binding)


@refuses("fresh.echo-unbound")
def a_binding_that_was_not_signed() -> object:
    said = nonce(verifier.LABEL, challenge().binding)
    return check(verifier.LABEL, said, challenge(session="aa").binding, challenge(), NOW)


def once_more(**changes: Any) -> object:
    machine, issued = Machine(), challenge()
    known = machine.policies()
    last = verifier.appraise(machine.claims(issued), known, issued, NOW).checkpoint
    again = challenge(2)
    first = changes.pop("first", 0)
    for name, value in changes.items():
        setattr(machine, name, value)
    return verifier.appraise(machine.claims(again, first=first), known, again, NOW, last)


@refuses("fresh.clock-back")
def a_clock_that_was_set_back() -> object:
    return once_more(clock_ms=1)


@refuses("fresh.counter-back")
def a_counter_of_resets_that_went_back() -> object:
    return once_more(resets=2)


@refuses("fresh.counter-back")
def a_counter_of_restarts_that_went_back() -> object:
    machine, issued = Machine(restarts=2), challenge()
    known = machine.policies()
    last = verifier.appraise(machine.claims(issued), known, issued, NOW).checkpoint
    machine.restarts = 1
    return verifier.appraise(machine.claims(issued), known, issued, NOW, last)


@refuses("fresh.unsafe-clock")
def a_clock_that_is_not_safe() -> object:
    return given(Machine(safe=0))


@refuses("fresh.silent-reboot")
def a_list_that_goes_on_over_a_reboot() -> object:
    return once_more(resets=4, first=10)


# --- attest --------------------------------------------------------------------------------------


def requoted(change: Callable[[bytes], bytes]) -> object:
    machine = Machine()
    return given(machine, **signed(machine, change(content_of(machine))))


def selected(*banks: bytes) -> Callable[[bytes], bytes]:
    """Replace the selection, which starts behind two buffers and 25 bytes of clock and firmware."""

    def change(content: bytes) -> bytes:
        at = 6 + 2 + 34 + 2 + 32 + 25
        return content[:at] + u32(len(banks)) + b"".join(banks) + sized(bytes(32))

    return change


SHA256_BANK = u16(0x0B) + u8(3) + b"\xff\x07\0"


@refuses("attest.magic")
def a_structure_that_no_tpm_made() -> object:
    return requoted(lambda content: b"\0" + content[1:])


@refuses("attest.type")
def a_certification_in_place_of_a_quote() -> object:
    return requoted(lambda content: content[:4] + u16(0x8017) + content[6:])


@refuses("attest.truncated")
def a_quote_that_ends_early() -> object:
    return requoted(lambda content: content[:-1])


@refuses("attest.trailing")
def a_quote_with_a_byte_behind_it() -> object:
    return requoted(lambda content: content + b"\0")


@refuses("attest.oversize")
def a_signer_of_too_many_bytes() -> object:
    return requoted(lambda content: content[:6] + sized(bytes(69)) + content[42:])


@refuses("attest.oversize")
def a_quote_of_two_thousand_bytes() -> object:
    return requoted(lambda content: content + bytes(2000))


@refuses("attest.safe-byte")
def a_clock_neither_safe_nor_unsafe() -> object:
    return given(Machine(safe=2))


@refuses("attest.banks")
def seventeen_banks() -> object:
    return requoted(selected(*[SHA256_BANK] * 17))


@refuses("attest.dup-bank")
def a_bank_twice() -> object:
    return requoted(selected(SHA256_BANK, SHA256_BANK))


@refuses("attest.bank-alg")
def a_bank_of_no_known_digest() -> object:
    return requoted(selected(u16(0x0099) + SHA256_BANK[2:]))


@refuses("attest.select-size")
def a_selection_of_two_bytes() -> object:
    return requoted(selected(u16(0x0B) + u8(2) + b"\xff\x07"))


@refuses("attest.empty-selection")
def a_quote_of_no_register() -> object:
    return requoted(selected(u16(0x0B) + u8(3) + bytes(3)))


@refuses("attest.empty-selection")
def a_quote_of_no_bank() -> object:
    return requoted(selected())


@refuses("attest.wrapper")
def a_frame_of_another_version() -> object:
    return claims.parse(claims.write(Machine().claims(challenge())).replace(b"/v1", b"/v2", 1))


@refuses("attest.wrapper")
def a_frame_with_a_byte_behind_it() -> object:
    return claims.parse(claims.write(Machine().claims(challenge())) + b"x")


@refuses("attest.wrapper")
def a_frame_with_a_key_twice() -> object:
    content = claims.write(Machine().claims(challenge()))
    return claims.parse(content.replace(b'{"', b'{"quote":"00","', 1))


# --- key -----------------------------------------------------------------------------------------


@refuses("key.signature")
def a_quote_with_one_bit_flipped() -> object:
    machine = Machine()
    content = bytearray(content_of(machine))
    content[-1] ^= 1
    return given(machine, quote=content.hex())


@refuses("key.signature")
def an_elliptic_signature_of_another_quote() -> object:
    machine = Machine(kind="ecc")
    return given(machine, signature=machine.sign(b"other").hex())


@refuses("key.swapped-ak")
def another_good_key() -> object:
    stranger, machine = Machine(kind="ecc"), Machine()
    issued = challenge()
    return verifier.appraise(stranger.claims(issued), machine.policies(), issued, NOW)


def of_a_key(attributes: int) -> object:
    machine = Machine(attributes=attributes)
    return given(machine)


@refuses("key.unrestricted")
def a_key_that_signs_anything() -> object:
    return of_a_key(0x00040072)


@refuses("key.decrypt")
def a_key_that_decrypts() -> object:
    return of_a_key(0x00070072)


@refuses("key.not-fixed")
def a_key_that_can_be_duplicated() -> object:
    return of_a_key(0x00050070)


@refuses("key.not-fixed")
def a_key_whose_parent_can_change() -> object:
    return of_a_key(0x00050062)


@refuses("key.imported")
def a_key_that_came_from_outside() -> object:
    return of_a_key(0x00050052)


def public(change: Callable[[bytes], bytes], kind: str = "rsa") -> object:
    content = change(Machine(kind=kind).public)
    return keys.check_attestation_key(keys.parse(content, "key"))


@refuses("key.scheme")
def a_key_for_any_scheme() -> object:
    return public(lambda content: content[:12] + u16(0x10) + content[16:])


@refuses("key.scheme")
def a_signature_in_another_scheme_than_the_keys() -> object:
    machine = Machine()
    made = machine.sign(content_of(machine))
    return given(machine, signature=(u16(quote.RSAPSS) + made[2:]).hex())


@refuses("key.scheme")
def a_signature_with_another_digest_than_the_keys() -> object:
    machine = Machine()
    made = machine.sign(content_of(machine))
    return given(machine, signature=(made[:2] + u16(0x0C) + made[4:]).hex())


@refuses("key.scheme")
def an_unknown_curve() -> object:
    return public(lambda content: content[:16] + u16(0x99) + content[18:], "ecc")


@refuses("key.sha1")
def a_signature_in_sha1() -> object:
    machine = Machine()
    made = machine.sign(content_of(machine))
    return given(machine, signature=(made[:2] + u16(4) + made[4:]).hex())


@refuses("key.sha1")
def a_key_named_in_sha1() -> object:
    return public(lambda content: content[:2] + u16(4) + content[4:])


@refuses("key.sig-range")
def a_signature_shorter_than_the_modulus() -> object:
    machine = Machine()
    return given(machine, signature=(u16(0x14) + u16(0x0B) + sized(bytes(255))).hex())


@refuses("key.sig-range")
def a_signature_above_the_modulus() -> object:
    machine = Machine()
    return given(machine, signature=(u16(0x14) + u16(0x0B) + sized(b"\xff" * 256)).hex())


@refuses("key.sig-range")
def an_elliptic_signature_of_zeros() -> object:
    made = u16(0x18) + u16(0x0B) + sized(bytes(32)) + sized(bytes(32))
    return given(Machine(kind="ecc"), signature=made.hex())


@refuses("key.exponent")
def an_even_exponent() -> object:
    return public(lambda content: content[:18] + u32(65536) + content[22:])


@refuses("key.exponent")
def the_exponent_one() -> object:
    return public(lambda content: content[:18] + u32(1) + content[22:])


@refuses("key.weak")
def a_modulus_of_1024_bits() -> object:
    short = u16(1024) + u32(0) + sized(b"\xff" * 128)
    return public(lambda content: content[:16] + short)


@refuses("key.weak")
def a_modulus_shorter_than_it_says() -> object:
    return public(lambda content: content[:24] + b"\0" + content[25:])


@refuses("key.ak-disagreement")
def a_signer_below_another_ek() -> object:
    machine = Machine()
    content = content_of(machine)
    other = content[:8] + b"\0\x0b" + bytes(32) + content[42:]
    return given(machine, **signed(machine, other))


@refuses("key.ak-disagreement")
def a_checkpoint_of_another_machine() -> object:
    machine, other, issued = Machine(), Machine(kind="ecc"), challenge()
    last = verifier.appraise(other.claims(issued), other.policies(), issued, NOW).checkpoint
    return verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW, last)


# --- pcr -----------------------------------------------------------------------------------------


@refuses("pcr.selection")
def a_register_too_few() -> object:
    return given(Machine(), banks=(Bank("sha256", tuple(range(11))), BANKS[1]))


@refuses("pcr.selection")
def a_register_too_many() -> object:
    return given(Machine(), banks=(Bank("sha256", (*range(12), 14)), BANKS[1]))


@refuses("pcr.selection")
def the_same_registers_of_another_bank() -> object:
    return given(Machine(), banks=(BANKS[1], BANKS[0]))


@refuses("pcr.resettable")
def a_reference_that_relies_on_register_23() -> object:
    known = Known(bank="sha256", register=23, values=("00" * 32,))
    return Machine().policies(known=(known,))


@refuses("pcr.resettable")
def a_list_of_files_in_register_16() -> object:
    files = Files(register=16, runtime=(Dated(document="00" * 32, not_after_s=LATER),))
    return Machine().policies(files=files)


def told(change: Callable[[list[Register]], list[Register]]) -> object:
    machine = Machine()
    registers = list(machine.claims(challenge()).head.registers)
    return given(machine, registers=tuple(change(registers)))


@refuses("pcr.unsigned-value")
def a_value_that_was_not_signed() -> object:
    lie = Register(bank="sha256", number=0, value="ab" * 32)
    return told(lambda registers: [lie, *registers[1:]])


@refuses("pcr.unsigned-value")
def a_value_of_a_register_that_was_not_quoted() -> object:
    more = Register(bank="sha256", number=23, value="ab" * 32)
    return told(lambda registers: [*registers, more])


@refuses("pcr.unsigned-value")
def values_in_another_order() -> object:
    return told(lambda registers: registers[::-1])


@refuses("pcr.length")
def two_values_cut_in_another_place() -> object:
    def cut(registers: list[Register]) -> list[Register]:
        joined = registers[0].value + registers[1].value
        parts = (joined[:40], joined[40:])
        made = [Register(bank="sha256", number=n, value=each) for n, each in enumerate(parts)]
        return [*made, *registers[2:]]

    return told(cut)


@refuses("pcr.zero-boot")
def a_machine_that_measured_nothing() -> object:
    machine = Machine()
    machine.changed = {("sha256", number): bytes(32) for number in range(8)}
    return given(machine)


@refuses("pcr.sha1-only")
def a_reference_of_sha1_registers() -> object:
    selection = (Selected(bank="sha1", registers=tuple(range(11))),)
    return Machine().policies(selection=selection)


@refuses("pcr.initial")
def a_register_that_nothing_extended() -> object:
    machine, issued = Machine(), challenge()
    machine.changed = {("sha256", 14): bytes(32)}
    known = (Known(bank="sha256", register=14, values=("ab" * 32,)),)
    return verifier.appraise(machine.claims(issued), machine.policies(known=known), issued, NOW)


@refuses("pcr.value")
def a_register_that_the_policy_does_not_know() -> object:
    machine, issued = Machine(), challenge()
    known = (Known(bank="sha256", register=14, values=("ab" * 32,)),)
    return verifier.appraise(machine.claims(issued), machine.policies(known=known), issued, NOW)


def noted(data: bytes) -> Event:
    zeros = {bank: bytes(quote.SIZES[bank]) for bank in ("sha1", "sha256", "sha384")}
    return Event(0, 0, boot.NO_ACTION, zeros, data)


@refuses("pcr.locality")
def a_boot_from_locality_7() -> object:
    return boot.parse(encode_log([noted(boot.LOCALITY + b"\7"), *boot.parse(BIOS).events]))


# --- boot ----------------------------------------------------------------------------------------

GENUINE = list(boot.parse(BIOS).events)


def logged(*changed: Event, banks: tuple[str, ...] = ("sha1", "sha256", "sha384")) -> object:
    """Appraise a machine that truly booted as the changed log says."""
    return given(Machine(log=encode_log(list(changed), banks)))


def forged(*changed: Event) -> object:
    """Appraise a machine that booted as recorded and hands in another log."""
    machine = Machine()
    log = encode_log(list(changed))
    evidence = machine.claims(challenge())
    files = evidence.files or b""
    return given(machine, boot_size=len(log), logs=log + files)


def swapped(old: int, new: Event) -> list[Event]:
    return [*GENUINE[:old], new, *GENUINE[old + 1 :]]


def first_of(register: int, kind: int) -> int:
    return next(
        n for n, each in enumerate(GENUINE) if (each.register, each.kind) == (register, kind)
    )


@refuses("boot.replay")
def an_event_removed() -> object:
    return forged(*GENUINE[:5], *GENUINE[6:])


@refuses("boot.replay")
def an_event_added() -> object:
    return forged(*GENUINE, event(99, 4, 0x80000003, b"evil"))


@refuses("boot.replay")
def two_events_reordered() -> object:
    at = first_of(8, 0xD)
    return forged(*GENUINE[:at], GENUINE[at + 1], GENUINE[at], *GENUINE[at + 2 :])


@refuses("boot.replay")
def a_register_extended_beside_the_log() -> object:
    machine = Machine()
    machine.changed = {("sha256", 14): hashlib.sha256(b"other").digest()}
    return given(machine)


@refuses("boot.data-digest")
def a_command_line_that_was_not_hashed() -> object:
    at = next(n for n, e in enumerate(GENUINE) if e.data.startswith(b"kernel_cmdline: "))
    lie = GENUINE[at]._replace(data=b"kernel_cmdline: /vmlinuz quiet\0")
    return forged(*swapped(at, lie))


@refuses("boot.data-digest")
def a_variable_that_was_not_hashed() -> object:
    at = first_of(7, events.VARIABLE_CONFIG)
    data = GENUINE[at].data
    return forged(*swapped(at, GENUINE[at]._replace(data=data[:-1] + b"\7")))


@refuses("boot.no-action")
def a_note_with_a_digest() -> object:
    return logged(event(0, 0, boot.NO_ACTION, b"note"), *GENUINE)


@refuses("boot.no-action")
def a_locality_after_the_first_measurement() -> object:
    return boot.parse(encode_log([*GENUINE, noted(boot.LOCALITY + b"\3")]))


@refuses("boot.no-action")
def a_header_that_extends() -> object:
    return boot.parse(BIOS[:8] + b"\1" * 20 + BIOS[28:])


@refuses("boot.index")
def an_event_in_register_24() -> object:
    return logged(event(0, 24, 0xD, b"beyond"), *GENUINE)


@refuses("boot.digest-count")
def an_event_with_fewer_digests() -> object:
    return logged(*GENUINE, banks=("sha1", "sha256"))


@refuses("boot.digest-count")
def a_header_that_announces_a_digest_twice() -> object:
    at = 32 + 24
    return boot.parse(BIOS[: at + 8] + BIOS[at + 4 : at + 8] + BIOS[at + 12 :])


@refuses("boot.size")
def an_event_longer_than_the_log() -> object:
    return boot.parse(BIOS + u32(0) + b"\x0d\0\0\0")


@refuses("boot.size")
def a_variable_longer_than_its_event() -> object:
    return events.variable(event(1, 7, events.VARIABLE_CONFIG, bytes(16) + b"\xff" * 16))


@refuses("boot.empty")
def an_empty_log_beside_registers_that_are_not() -> object:
    machine = Machine()
    files = machine.claims(challenge()).files or b""
    return given(machine, boot_size=64, logs=bytes(64) + files)


@refuses("boot.separator")
def a_register_without_a_separator() -> object:
    at = first_of(2, boot.SEPARATOR)
    return logged(*GENUINE[:at], *GENUINE[at + 1 :])


@refuses("boot.separator")
def a_register_with_two_separators() -> object:
    at = first_of(2, boot.SEPARATOR)
    return logged(*GENUINE[: at + 1], *GENUINE[at:])


@refuses("boot.separator")
def a_separator_that_reports_an_error() -> object:
    at = first_of(2, boot.SEPARATOR)
    return logged(*swapped(at, event(1, 2, boot.SEPARATOR, b"\1\0\0\0")))


@refuses("boot.after-separator")
def firmware_measured_late() -> object:
    return logged(*GENUINE, event(99, 0, events.FIRMWARE_BLOB, b"late"))


@refuses("boot.after-separator")
def a_secure_boot_variable_measured_late() -> object:
    late = GENUINE[first_of(7, events.VARIABLE_CONFIG)]
    return logged(*GENUINE, late)


@refuses("boot.cmdline")
def another_command_line() -> object:
    line = b"/vmlinuz console=ttyS0 init=/bin/sh"
    at = next(n for n, e in enumerate(GENUINE) if e.data.startswith(b"kernel_cmdline: "))
    new = event(1, 8, events.IPL, b"kernel_cmdline: " + line + b"\0", line)
    return logged(*swapped(at, new))


def variable_changed(name: str, change: Callable[[bytes], bytes]) -> object:
    for at, each in enumerate(GENUINE):
        if each.kind == events.VARIABLE_CONFIG and events.variable(each).name == name:
            found = events.variable(each)
            value = change(found.value)
            spelt = name.encode("utf-16-le")
            data = found.vendor + len(name).to_bytes(8, "little")
            data += len(value).to_bytes(8, "little") + spelt + value
            return logged(*swapped(at, event(1, 7, events.VARIABLE_CONFIG, data)))
    raise AssertionError(name)


def relabelled(at: int, kind: int, data: bytes) -> list[Event]:
    """What was measured, under another type and text, neither of which is hashed."""
    return swapped(at, GENUINE[at]._replace(kind=kind, data=data))


@refuses("boot.cmdline")
def a_command_line_that_is_called_a_command() -> object:
    line = b"/vmlinuz init=/bin/sh"
    good = next(e for e in GENUINE if e.data.startswith(b"kernel_cmdline: "))
    at = GENUINE.index(good)
    hidden = event(1, 8, events.IPL, b"grub_cmd: " + line + b"\0", line)
    return logged(*GENUINE[:at], hidden, *GENUINE[at:])


@refuses("boot.cmdline")
def a_command_that_starts_another_kernel() -> object:
    line = b"linux /vmlinuz init=/bin/sh"
    return logged(*GENUINE, event(1, 8, events.IPL, b"grub_cmd: " + line + b"\0", line))


@refuses("boot.cmdline")
def a_command_that_starts_no_linux() -> object:
    line = b"multiboot2 /evil"
    return logged(*GENUINE, event(1, 8, events.IPL, b"grub_cmd: " + line + b"\0", line))


@refuses("boot.cmdline")
def a_command_line_of_another_type_of_event() -> object:
    return logged(*GENUINE, event(1, 8, 0x7, b"", b"/vmlinuz init=/bin/sh"))


@refuses("boot.separator")
def a_separator_that_is_called_something_else() -> object:
    at = first_of(7, boot.SEPARATOR)
    return logged(*relabelled(at, 0x7, b"tag"), event(99, 7, boot.SEPARATOR, bytes(4)))


@refuses("boot.secure-boot")
def a_database_of_keys_that_is_called_something_else() -> object:
    at = next(
        n
        for n, each in enumerate(GENUINE)
        if each.kind == events.VARIABLE_CONFIG and events.variable(each).name == "db"
    )
    return logged(*relabelled(at, 0x7, b"tag"))


@refuses("boot.unknown-image")
def a_program_that_is_called_an_action() -> object:
    return logged(*GENUINE, event(99, 4, events.EFI_ACTION, b"MZ evil"))


@refuses("boot.unknown-image")
def a_program_that_is_called_something_else() -> object:
    return logged(*GENUINE, event(99, 4, 0x7, b"", b"MZ evil"))


@refuses("boot.unknown-image")
def firmware_that_is_called_something_else() -> object:
    at = first_of(0, boot.SEPARATOR)
    return logged(*GENUINE[:at], event(1, 0, 0x1, b"", b"evil"), *GENUINE[at:])


@refuses("boot.dbx")
def a_list_of_revocations_that_was_emptied() -> object:
    return variable_changed("dbx", lambda _: b"")


@refuses("boot.secure-boot")
def secure_boot_off() -> object:
    return variable_changed("SecureBoot", lambda _: b"\0")


@refuses("boot.secure-boot")
def a_key_more_in_the_database() -> object:
    own = bytes(16) + (28 + 48).to_bytes(4, "little") + bytes(4) + (48).to_bytes(4, "little")
    return variable_changed("db", lambda value: value + own + b"\7" * 48)


@refuses("boot.unknown-image")
def another_boot_loader() -> object:
    at = first_of(4, events.BOOT_APPLICATION)
    return logged(*swapped(at, event(1, 4, events.BOOT_APPLICATION, b"evil")))


@refuses("boot.unknown-image")
def other_firmware() -> object:
    at = first_of(0, events.FIRMWARE_BLOB)
    return logged(*swapped(at, event(1, 0, events.FIRMWARE_BLOB, b"evil")))


# --- ima -----------------------------------------------------------------------------------------


def listed(change: Callable[[list[bytes]], list[bytes]], **more: Any) -> object:
    """Appraise a machine that hands in another list than the kernel extended."""
    machine = Machine()
    records = change(list(machine.records))
    files = b"".join(records)
    head = claims.List(size=len(files))
    return given(machine, files=head, logs=machine.log + files, **more)


def ran(*records: bytes, **changes: Any) -> object:
    """Appraise a machine whose kernel measured these entries too."""
    machine = Machine()
    machine.records += records
    return given(machine, **changes)


DIGEST = FILES[ENGINE]


@refuses("ima.replay")
def an_entry_removed() -> object:
    return listed(lambda records: records[:7] + records[8:])


@refuses("ima.replay")
def an_entry_repeated() -> object:
    return listed(lambda records: records[:7] + records[6:])


@refuses("ima.replay")
def two_entries_swapped() -> object:
    return listed(lambda records: [*records[:7], records[8], records[7], *records[9:]])


@refuses("ima.replay")
def an_entry_edited_with_its_column() -> object:
    other = entry("/usr/bin/tool-1", hashlib.sha256(b"x").digest())
    return listed(lambda records: [*records[:7], other, *records[8:]])


@refuses("ima.replay")
def a_tail_longer_than_the_policy_leaves() -> object:
    machine, issued = Machine(), challenge()
    machine.tail = [entry("/late", DIGEST)]
    files = machine.policies().reference.files
    assert files is not None
    strict = Files(runtime=files.runtime, most_tail=10)
    return verifier.appraise(machine.claims(issued), machine.policies(files=strict), issued, NOW)


@refuses("ima.truncated")
def a_list_that_ends_within_an_entry() -> object:
    return listed(lambda records: [*records[:-1], records[-1][:-3]])


@refuses("ima.truncated")
def a_text_without_its_last_line_feed() -> object:
    machine = Machine()
    text = text_of(machine.records)[:-1]
    head = claims.List(form="ascii", size=len(text))
    return given(machine, files=head, logs=machine.log + text)


@refuses("ima.text-mismatch")
def an_entry_edited_without_its_column() -> object:
    def edit(records: list[bytes]) -> list[bytes]:
        other = entry("/usr/bin/tool-1", hashlib.sha256(b"x").digest())
        return [*records[:7], records[7][:4] + records[7][4:24] + other[24:], *records[8:]]

    return listed(edit)


@refuses("ima.text-mismatch")
def a_line_that_is_none() -> object:
    machine = Machine()
    text = text_of(machine.records) + b"10 zz ima-ng sha256:00 /x\n"
    text = b"10 zz ima-ng sha256:00 /x\n" + text
    head = claims.List(form="ascii", size=len(text))
    return given(machine, files=head, logs=machine.log + text)


@refuses("ima.template")
def an_unknown_template() -> object:
    return ran(record("ima-new", b"\1\0\0\0x"))


@refuses("ima.template")
def a_field_longer_than_its_entry() -> object:
    return ran(record("ima-ng", b"\xff\0\0\0x"))


@refuses("ima.template")
def a_digest_of_another_length() -> object:
    return ran(entry("/usr/bin/tool-1", DIGEST[:-1]))


@refuses("ima.index")
def an_entry_of_another_register() -> object:
    return ran(entry("/usr/bin/tool-1", FILES["/usr/bin/tool-1"], register=11))


@refuses("ima.violation")
def a_file_written_while_it_was_measured() -> object:
    return ran(entry("/var/log/x", bytes(32), violation=True))


@refuses("ima.zero-digest")
def a_digest_of_zeros() -> object:
    return ran(entry("/usr/bin/tool-1", bytes(32)))


@refuses("ima.aggregate")
def an_aggregate_of_another_boot() -> object:
    machine = Machine()
    machine.records[0] = entry("boot_aggregate", DIGEST)
    return given(machine)


@refuses("ima.aggregate")
def an_aggregate_in_a_bank_that_is_not_quoted() -> object:
    machine = Machine()
    machine.records[0] = entry("boot_aggregate", bytes(19) + b"\1", hash_name="sha1")
    return given(machine)


@refuses("ima.second-aggregate")
def another_kernel_started() -> object:
    machine = Machine()
    machine.records.append(machine.aggregate())
    return given(machine)


@refuses("ima.from-n")
def a_list_from_another_entry_than_the_last() -> object:
    return once_more(first=10)


@refuses("ima.from-n")
def a_list_that_goes_on_under_another_policy() -> object:
    machine, issued = Machine(), challenge()
    last = verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW).checkpoint
    other = machine.policies(runtime_policy({**FILES, "/more": DIGEST}))
    evidence = machine.claims(issued, first=len(machine.records))
    return verifier.appraise(evidence, other, issued, NOW, last)


@refuses("ima.trimmed")
def a_list_without_its_beginning() -> object:
    return given(Machine(), first=5)


@refuses("ima.weak-hash")
def a_digest_in_sha1() -> object:
    return ran(entry("/usr/bin/tool-1", hashlib.sha1(b"x").digest(), hash_name="sha1"))


@refuses("ima.weak-hash")
def a_digest_of_an_unknown_hash() -> object:
    return ran(entry("/usr/bin/tool-1", DIGEST, hash_name="rot13"))


@refuses("ima.name")
def a_name_with_a_nul() -> object:
    return ran(entry(b"/usr/bin/tool-1\0evil", DIGEST))


@refuses("ima.name")
def a_name_with_a_line_feed() -> object:
    return ran(entry(b"/usr/bin/tool-1\nevil", DIGEST))


@refuses("ima.name")
def a_name_that_is_no_text() -> object:
    return ran(entry(b"/usr/\xff", DIGEST))


@refuses("ima.name")
def a_name_longer_than_linux_has() -> object:
    return ran(entry("/" + "x" * 256, DIGEST))


@refuses("ima.exclude-all")
def an_exclude_of_everything() -> object:
    return runtime.compile_policy([runtime_policy(excludes=["/.*"])])


@refuses("ima.exclude-all")
def excludes_of_everything_together() -> object:
    every = ["[a-z].*", "/[a-z].*", "/~.*"]
    return runtime.compile_policy([runtime_policy(excludes=every)])


@refuses("ima.regex-cost")
def an_exclude_that_takes_for_ever() -> object:
    return runtime.compile_policy([runtime_policy(excludes=["/(a+)+b"])])


@refuses("ima.regex-cost")
def an_exclude_with_a_back_reference() -> object:
    return runtime.compile_policy([runtime_policy(excludes=[r"/(a)\1"])])


@refuses("ima.regex-cost")
def an_exclude_that_is_no_pattern() -> object:
    return runtime.compile_policy([runtime_policy(excludes=["/("])])


@refuses("ima.no-ima-policy")
def a_kernel_that_measures_nothing() -> object:
    machine = Machine()
    machine.records = machine.records[:1]
    return given(machine)


@refuses("ima.missing")
def no_list() -> object:
    machine = Machine()
    return given(machine, files=None, logs=machine.log)


@refuses("ima.missing")
def an_engine_that_was_not_measured() -> object:
    machine = Machine()
    machine.records = [each for each in machine.records if ENGINE.encode() not in each]
    return given(machine)


@refuses("ima.missing")
def an_empty_list() -> object:
    return listed(lambda records: [])


@refuses("ima.outside-log")
def a_register_extended_beside_the_list() -> object:
    machine = Machine()
    other = hashlib.sha256(followed(machine.records) + bytes(32)).digest()
    machine.changed = {("sha256", 10): other}
    return given(machine)


@refuses("ima.keyring")
def a_key_loaded_into_the_kernel() -> object:
    digest = hashlib.sha256(b"key").digest()
    return ran(entry(".ima", digest, form="ima-buf", last=(b"key",)))


@refuses("ima.template")
def a_template_that_takes_another_field_for_the_name() -> object:
    data = b"".join(
        len(each).to_bytes(4, "little") + each
        for each in (b"sha256:\0" + DIGEST, b"/excused\0", b"/evil\0")
    )
    return ran(record("d-ng|evmsig|n-ng", data))


@refuses("ima.length")
def an_entry_of_two_megabytes() -> object:
    return ran(record("ima-ng", bytes(1 << 21)))


# --- policy --------------------------------------------------------------------------------------


@refuses("policy.missing")
def no_boot_log() -> object:
    machine = Machine()
    return given(machine, boot_size=None, logs=machine.claims(challenge()).files)


@refuses("policy.missing")
def a_document_that_is_not_there() -> object:
    return Machine().policies(boot=(Dated(document="00" * 32, not_after_s=LATER),))


@refuses("policy.empty")
def a_reference_that_demands_nothing() -> object:
    return Machine().policies(boot=(), files=None)


@refuses("policy.empty")
def a_runtime_policy_of_no_file() -> object:
    return runtime.compile_policy([runtime_policy({})])


@refuses("policy.empty")
def a_reference_state_of_no_kernel() -> object:
    return refstate.parse(b'{"has_secureboot":true,"scrtm_and_bios":[],"kernels":[]}')


@refuses("policy.expired")
def policies_that_have_all_ended() -> object:
    ended = (Dated(document="00" * 32, not_after_s=NOW - 1),)
    return references.current(ended, "files", NOW)


@refuses("policy.expired")
def policies_that_were_prepared_for_another_time() -> object:
    machine = Machine()
    issued = Issued(binding=challenge().binding, issued_s=LATER)
    return verifier.appraise(machine.claims(issued), machine.policies(), issued, LATER + 1)


@pytest.mark.parametrize(("reason", "name", "case"), CASES, ids=[f"{r}-{n}" for r, n, _ in CASES])
def test_what_must_be_refused_is_refused_by_its_name(reason: str, name: str, case: Case) -> None:
    with pytest.raises(Refusal) as caught:
        case()
    assert caught.value.reason == reason, str(caught.value)
    assert caught.value.where


def test_every_reason_of_these_families_has_a_case() -> None:
    published = {each.value for each in Reason if each.value.partition(".")[0] in FAMILIES}
    covered = {reason for reason, _, _ in CASES}
    # an unknown file is a finding, not a refusal: test_tpm_good_evidence
    assert published - covered - ELSEWHERE == {"ima.unknown-file"}


def test_a_refusal_is_a_finding_that_contradicts() -> None:
    machine, issued = Machine(safe=0), challenge()
    finding = verifier.verify(machine.claims(issued), machine.policies(), issued, NOW)
    assert finding.tier is Tier.CONTRAINDICATED
    assert finding.reason is Reason.FRESH_UNSAFE_CLOCK


def test_refusals_are_errors_of_ours() -> None:
    refusal = Refusal(Reason.PCR_VALUE, "register 4", "aa", "bb")
    assert isinstance(refusal, LyditeError)
    assert str(refusal) == "register 4: expected aa, got bb"
