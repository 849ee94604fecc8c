"""The fast replay agrees with the obvious one, entry by entry, as binary and as text."""

import hashlib
import tracemalloc

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import boot, claims, ima, patterns, runtime, template, verifier
from lydite.evidence.tpm.ima import Place
from lydite.evidence.tpm.judge import Judge, Rules
from lydite.evidence.tpm.template import Entry
from tests.evidence.tpm.machine import (
    BIOS,
    FILES,
    NOW,
    Machine,
    challenge,
    entry,
    followed,
    text_of,
)
from tests.evidence.tpm.machine import runtime as runtime_policy

COMPILED = runtime.compile_policy(
    [
        runtime_policy(
            keyrings={".ima": [hashlib.sha256(b"key").hexdigest()]}, excludes=["/scratch/.*"]
        )
    ],
    templates=("ima-ng", "ima-sig"),
)
NAMES = list(FILES)


def unsigned(entry: Entry, pems: tuple[str, ...]) -> None:
    raise AssertionError("no key is named")


def judge() -> Judge:
    return Judge(COMPILED, Rules(violations=True, kexec=True), {}, unsigned)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from([*NAMES[:6], "/usr/bin/strange", "/with blank/x", "/scratch/x"]))
    digest = FILES.get(name) or hashlib.sha256(name.encode()).digest()
    kind = draw(st.sampled_from(["plain", "plain", "signed", "empty", "other", "violation", "key"]))
    if kind == "signed":
        return entry(name, digest, form="ima-sig", last=(draw(st.binary(min_size=1, max_size=9)),))
    if kind == "empty":
        return entry(name, digest, form="ima-sig")
    if kind == "other":
        return entry(name, hashlib.sha384(name.encode()).digest(), hash_name="sha384")
    if kind == "violation":
        return entry(name, bytes(32), violation=True)
    if kind == "key":
        return entry(".ima", hashlib.sha256(b"key").digest(), form="ima-buf", last=(b"key",))
    return entry(name, digest)


def obvious(listed: list[bytes]) -> tuple[set[tuple[int, str]], int]:
    """Which entries are strange, and how many are violations: one look at each."""
    strange, violations = set(), 0
    for each, _ in template.binary(b"".join(listed)):
        if each.mark == bytes(20):
            violations += 1
        elif each.template == "ima-buf" or each.name.startswith("/scratch/"):
            continue
        elif FILES.get(each.name) != each.digest:
            strange.add((each.number, each.name))
    return strange, violations


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), min_size=1, max_size=12), st.data())
def test_every_prefix_is_found_and_judged_as_the_obvious_replay_does(
    listed: list[bytes], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(listed)))
    start = data.draw(st.integers(0, count - 1))
    target, place = followed(listed[:count]), Place(start, followed(listed[:start]))
    ours = judge()
    found = ima.replay(b"".join(listed[start:]), "binary", place, target, COMPILED.hashed, ours)
    assert found.place == Place(count, target)
    assert found.tail == len(b"".join(listed[count:]))
    strange, violations = obvious(listed[:count])
    assert {(s.number, s.name) for s in ours.strangers} == {s for s in strange if s[0] > start}
    assert (
        ours.violations
        == sum(each[4:24] == bytes(20) for each in listed[start:count])
        <= violations
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(records().filter(lambda each: b"with blank" not in each), min_size=1, max_size=12))
def test_text_is_judged_like_binary(listed: list[bytes]) -> None:
    target, ours, theirs = followed(listed), judge(), judge()
    start = Place(0, bytes(32))
    binary = ima.replay(b"".join(listed), "binary", start, target, COMPILED.hashed, ours)
    text = ima.replay(text_of(listed), "ascii", start, target, COMPILED.lines, theirs)
    assert (binary.place, ours.strangers) == (text.place, theirs.strangers)


@settings(max_examples=40, deadline=None)
@given(st.lists(records(), min_size=1, max_size=12))
def test_what_is_prepared_changes_nothing(listed: list[bytes]) -> None:
    target, ours, theirs = followed(listed), judge(), judge()
    start, log = Place(0, bytes(32)), b"".join(listed)
    fast = ima.replay(log, "binary", start, target, COMPILED.hashed, ours)
    slow = ima.replay(log, "binary", start, target, {}, theirs)
    assert (fast, ours.strangers) == (slow, theirs.strangers)


def test_a_name_with_a_blank_is_found_in_a_text_if_the_policy_has_it() -> None:
    digest = hashlib.sha256(b"x").digest()
    known = runtime.compile_policy([runtime_policy({"/my file": digest})])
    listed = [entry("/my file", digest)]
    ours = Judge(known, Rules(), {}, unsigned)
    start = Place(0, bytes(32))
    ima.replay(text_of(listed), "ascii", start, followed(listed), known.lines, ours)
    assert not ours.strangers


def test_the_boot_log_is_replayed_like_the_obvious_way() -> None:
    log = boot.parse(BIOS)
    for bank in log.banks:
        values: dict[int, bytes] = {}
        for event in log.events:
            if event.kind != 3:
                old = values.get(event.register, bytes(hashlib.new(bank).digest_size))
                values[event.register] = hashlib.new(bank, old + event.digests[bank]).digest()
        assert boot.replay(log, bank) == values


@pytest.mark.parametrize(
    "text",
    [
        "/var/log/.*",
        r"/usr/lib/modules/[0-9.]+/.*\.ko",
        "/(tmp|run)/x",
        "/opt/a{1,9}",
        "(?i)/readme",
    ],
)
def test_patterns_that_policies_use_are_taken(text: str) -> None:
    assert patterns.compile_pattern(text, "exclude").pattern == text


@pytest.mark.parametrize(
    "text",
    [
        "(a*)*",
        "(a|b*)+",
        "(.*,)*x",
        "a*b*c*d",
        "(?=a)b",
        r"(a)\1",
        "(?P<n>a)(?P=n)",
        "[",
        "x" * 2000,
    ],
)
def test_patterns_that_may_take_long_are_not(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        patterns.compile_pattern(text, "exclude")
    assert caught.value.reason is Reason.IMA_REGEX_COST


def test_nothing_is_done_to_the_logs_before_a_signature_is_verified() -> None:
    machine, issued = Machine(), challenge()
    log = b"\xff" * (8 << 20)
    evidence = machine.claims(issued, boot_size=len(log), files=None, logs=log)
    bad = machine.sign(b"other").hex()
    travelled = claims.write(
        claims.Claims(head=claims.Head(**{**fields(evidence), "signature": bad}), logs=log)
    )
    known = machine.policies()
    verifier.examine(travelled, known, issued, NOW)
    tracemalloc.start()
    finding = verifier.examine(travelled, known, issued, NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert finding.reason is Reason.KEY_SIGNATURE
    assert peak < 64 * 1024


def fields(evidence: claims.Claims) -> dict[str, object]:
    return {name: getattr(evidence.head, name) for name in claims.Head.__struct_fields__}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(records().filter(lambda each: b"with blank" not in each), min_size=2, max_size=9),
    st.data(),
)
def test_the_altered_entry_is_named_in_both_forms(listed: list[bytes], data: st.DataObject) -> None:
    target = followed(listed)
    plain = [n for n, each in enumerate(listed) if each[4:24] != bytes(20)]
    assume(plain)
    at = data.draw(st.sampled_from(plain))
    bent = bytearray(listed[at])
    digest = bent.index(b":\0") + 2
    bent[digest] ^= 1
    altered = [*listed[:at], bytes(bent), *listed[at + 1 :]]
    for form, log in (("binary", b"".join(altered)), ("ascii", text_of(altered))):
        found = ima.diagnose(log, form, Place(0, bytes(32)), target)  # type: ignore[arg-type]
        assert found.reason is Reason.IMA_TEXT_MISMATCH
        assert f"IMA entry {at + 1} " in found.where


def test_a_legacy_entry_is_stepped_over_when_an_altered_one_is_sought() -> None:
    path = b"/usr/bin/tool-1"
    digest = hashlib.sha1(b"x").digest()
    mark = hashlib.sha1(digest + path.ljust(256, b"\0")).digest()
    legacy = (10).to_bytes(4, "little") + mark + b"\3\0\0\0ima" + digest
    legacy += len(path).to_bytes(4, "little") + path
    good = entry(NAMES[0], FILES[NAMES[0]])
    bent = good[:10] + bytes([good[10] ^ 1]) + good[11:]
    found = ima.diagnose(legacy + good + bent, "binary", Place(0, bytes(32)), bytes(32))
    assert "IMA entry 3 " in found.where
