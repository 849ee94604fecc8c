"""A good bundle is accepted; every change to it is refused, for the right reason."""

import base64
import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lydite.errors import FormatError, Reason, VerificationError
from lydite.laboratory.world import World
from lydite.messages.tier import Tier

Json = dict[str, Any]
Place = tuple[str | int, ...]


@functools.cache
def world() -> World:
    made = World()
    for _ in range(2):
        made.traffic(9, 64)  # enough tokens, whichever of them the draw takes
        made.judged(600_000)
    return made


@functools.cache
def good() -> bytes:
    return world().bundle()


def fields() -> Json:
    parsed: Json = json.loads(good())
    return parsed


def written(bundle: Json) -> bytes:
    text = json.dumps(bundle, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def refusal(bundle: bytes) -> Reason:
    with pytest.raises((FormatError, VerificationError)) as refused:
        world().verify(bundle)
    return refused.value.reason


def test_the_good_bundle_is_accepted() -> None:
    assert written(fields()) == good()
    assert world().verify(good()).tier is Tier.AFFIRMING


# Every value in the bundle, changed on its own.

EXPECTED = [
    (r"v", {Reason.MALFORMED}),
    (r"provider", {Reason.UNKNOWN_KEY}),
    (r"checkpoint", {Reason.BAD_SIGNATURE, Reason.WRONG_ORIGIN, Reason.MALFORMED}),
    (r"policy/.*", {Reason.UNKNOWN_POLICY, Reason.MALFORMED}),
    (r"references/.*", {Reason.UNKNOWN_REFERENCE, Reason.MALFORMED}),
    (r".*/envelope/payload", {Reason.BAD_SIGNATURE}),
    (r".*/envelope/payloadType", {Reason.MALFORMED}),
    (r".*/envelope/signatures/\d/keyid", {Reason.UNKNOWN_KEY}),
    (r".*/envelope/signatures/\d/sig", {Reason.BAD_SIGNATURE}),
    (r"(declaration|result|audits/\d+)/entry", {Reason.NOT_IN_LOG}),
    (r"epochs/\d/(logged|pledge|retention)/entry", {Reason.NOT_IN_LOG}),
    (r"(receipts|bystanders)/\d+/entry", {Reason.AUDIT_MISSING}),
    (r".*/path/\d+", {Reason.NOT_IN_LOG}),
    (r"epochs/\d/consistency/\d+", {Reason.INCONSISTENT_LOG}),
    (r"bystanders/\d+/leaf", {Reason.NOT_IN_LOG, Reason.MALFORMED}),
]


def places(value: object, at: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))
    else:
        yield at


def changed(value: object) -> object:
    if value is None:  # a reference without residuals
        return {"cheats": [], "edges": [], "histograms": []}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    assert isinstance(value, str)
    middle = len(value) // 2
    other = "A" if value[middle] not in "Aa" else "B"
    if re.fullmatch("[0-9a-f]+", value):
        other = "0" if value[middle] != "0" else "1"
    return value[:middle] + other + value[middle + 1 :]


def at(bundle: Json, place: Place) -> tuple[Any, str | int]:
    inner: Any = bundle
    for step in place[:-1]:
        inner = inner[step]
    return inner, place[-1]


PLACES = ["/".join(map(str, place)) for place in places(fields())]
BY_NAME = {"/".join(map(str, place)): place for place in places(fields())}


@pytest.mark.parametrize("name", PLACES)
def test_no_value_can_be_changed(name: str) -> None:
    bundle = fields()
    holder, last = at(bundle, BY_NAME[name])
    holder[last] = changed(holder[last])
    expected = next(reasons for pattern, reasons in EXPECTED if re.fullmatch(pattern, name))
    assert refusal(written(bundle)) in expected


def test_there_are_at_least_two_hundred_such_changes() -> None:
    assert len(PLACES) >= 200


# Things left out, added, repeated and swapped.


def drop(*place: str | int) -> Callable[[Json], None]:
    def change(bundle: Json) -> None:
        holder, last = at(bundle, place)
        del holder[last]

    return change


def repeat(*place: str | int) -> Callable[[Json], None]:
    def change(bundle: Json) -> None:
        holder, last = at(bundle, place)
        holder.insert(last, copy.deepcopy(holder[last]))

    return change


def swap(name: str) -> Callable[[Json], None]:
    def change(bundle: Json) -> None:
        bundle[name][0], bundle[name][1] = bundle[name][1], bundle[name][0]

    return change


def swap_between_epochs(name: str) -> Callable[[Json], None]:
    def change(bundle: Json) -> None:
        one, two = bundle["epochs"]
        one[name], two[name] = two[name], one[name]

    return change


def without_a_witness(bundle: Json) -> None:
    lines = bundle["checkpoint"].split("\n")
    bundle["checkpoint"] = "\n".join(line for line in lines if not line.startswith("— w2 "))


def without_the_log(bundle: Json) -> None:
    lines = bundle["checkpoint"].split("\n")
    bundle["checkpoint"] = "\n".join(line for line in lines if not line.startswith("— world"))


def with_an_older_checkpoint(bundle: Json) -> None:
    payload = bundle["epochs"][0]["logged"]["envelope"]["payload"]
    bundle["checkpoint"] = json.loads(base64.b64decode(payload))["predicate"]["checkpoint"]


def with_one_signature_twice(bundle: Json) -> None:
    signatures = bundle["receipts"][0]["envelope"]["signatures"]
    signatures[1] = signatures[0]


def with_signatures_swapped(bundle: Json) -> None:
    first, second = bundle["receipts"][0]["envelope"]["signatures"]
    first["sig"], second["sig"] = second["sig"], first["sig"]


def with_a_receipt_called_a_bystander(bundle: Json) -> None:
    drawn = bundle["receipts"].pop()
    bundle["audits"].pop()
    leaf = world().leaves[drawn["entry"] - 1].decode()
    bystander = {"entry": drawn["entry"], "leaf": leaf, "path": drawn["path"]}
    bundle["bystanders"] = sorted(
        [*bundle["bystanders"], bystander], key=lambda each: int(each["entry"])
    )


def with_the_last_pair_left_out(bundle: Json) -> None:
    bundle["receipts"].pop()
    bundle["audits"].pop()


def with_an_undrawn_receipt(bundle: Json) -> None:
    drawn = {each["entry"] for each in bundle["receipts"]}
    receipts = [n for n, leaf in enumerate(world().leaves, 1) if b'"kind":"receipt"' in leaf]
    extra = next(number for number in receipts if number not in drawn)
    auditor = world().auditor
    path = auditor.case.mirror.tree.inclusion_proof(extra - 1, auditor.case.mirror.size)
    envelope = world().envelope(extra)
    receipt = {
        "entry": extra,
        "envelope": json.loads(envelope),
        "path": [base64.b64encode(each).decode() for each in path],
    }
    bundle["receipts"] = sorted([*bundle["receipts"], receipt], key=lambda each: int(each["entry"]))


def with_the_declaration_as_result(bundle: Json) -> None:
    bundle["result"] = copy.deepcopy(bundle["declaration"])


def with_an_audit_as_result(bundle: Json) -> None:
    bundle["result"] = copy.deepcopy(bundle["audits"][0])


def with_an_epoch_as_declaration(bundle: Json) -> None:
    bundle["declaration"] = copy.deepcopy(bundle["epochs"][0]["logged"])


STRUCTURAL: list[tuple[Callable[[Json], None], set[Reason]]] = [
    (drop("receipts", 0), {Reason.AUDIT_MISSING}),
    (drop("audits", 0), {Reason.AUDIT_MISSING}),
    (drop("bystanders", 0), {Reason.AUDIT_MISSING}),
    (drop("epochs", 0), {Reason.SELECTION_GAP}),
    (drop("epochs", 1), {Reason.UNDRAWN_AUDIT}),
    (drop("references", 0), {Reason.UNKNOWN_REFERENCE}),
    (drop("policy"), {Reason.MALFORMED}),
    (drop("result"), {Reason.MALFORMED}),
    (drop("receipts", 0, "path", 0), {Reason.NOT_IN_LOG}),
    (drop("receipts", 0, "envelope", "signatures", 0), {Reason.BAD_SIGNATURE}),
    (drop("receipts", 0, "envelope", "signatures", 1), {Reason.BAD_SIGNATURE}),
    (drop("audits", 0, "envelope", "signatures", 0), {Reason.MALFORMED}),
    (drop("epochs", 0, "consistency", 0), {Reason.INCONSISTENT_LOG}),
    (drop("epochs", 0, "pledge"), {Reason.MALFORMED}),
    (swap_between_epochs("pledge"), {Reason.BAD_ENTROPY}),
    (swap_between_epochs("retention"), {Reason.RETENTION_MISMATCH}),
    (repeat("receipts", 0), {Reason.UNDRAWN_AUDIT}),
    (repeat("audits", 0), {Reason.AUDIT_MISSING}),
    (repeat("epochs", 0), {Reason.SELECTION_GAP}),
    (repeat("bystanders", 0), {Reason.UNDRAWN_AUDIT}),
    (repeat("references", 0), {Reason.UNKNOWN_REFERENCE}),
    (repeat("receipts", 0, "path", 0), {Reason.NOT_IN_LOG}),
    (swap("receipts"), {Reason.UNDRAWN_AUDIT}),
    (swap("audits"), {Reason.AUDIT_MISSING}),
    (swap("epochs"), {Reason.SELECTION_GAP}),
    (without_a_witness, {Reason.UNWITNESSED}),
    (without_the_log, {Reason.UNKNOWN_KEY}),
    (with_an_older_checkpoint, {Reason.NOT_IN_LOG, Reason.INCONSISTENT_LOG}),
    (with_one_signature_twice, {Reason.MALFORMED}),
    (with_signatures_swapped, {Reason.BAD_SIGNATURE}),
    (with_a_receipt_called_a_bystander, {Reason.AUDIT_MISSING}),
    (with_the_last_pair_left_out, {Reason.AUDIT_MISSING}),
    (with_an_undrawn_receipt, {Reason.UNDRAWN_AUDIT}),
    (with_the_declaration_as_result, {Reason.UNKNOWN_KEY}),
    (with_an_audit_as_result, {Reason.NOT_IN_LOG, Reason.MALFORMED}),
    (with_an_epoch_as_declaration, {Reason.UNKNOWN_KEY}),
]


@pytest.mark.parametrize(("change", "expected"), STRUCTURAL)
def test_nothing_can_be_left_out_added_or_moved(
    change: Callable[[Json], None], expected: set[Reason]
) -> None:
    bundle = fields()
    change(bundle)
    assert refusal(written(bundle)) in expected


# The same content in another spelling.

SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda text: text[: len(text) // 2],
    "newline": lambda text: text + b"\n",
    "space": lambda text: text.replace(b":", b": ", 1),
    "key twice": lambda text: text.replace(b'"v":1', b'"v":1,"v":1'),
    "unknown field": lambda text: text.replace(b'"v":1', b'"v":1,"w":1'),
    "float": lambda text: text.replace(b'"v":1', b'"v":1.0'),
    "exponent": lambda text: text.replace(b'"v":1', b'"v":1e0'),
    "escape": lambda text: text.replace(b'"provider"', b'"provide\\u0072"', 1),
    "another order": lambda text: json.dumps(dict(reversed(json.loads(text).items()))).encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "invalid utf-8": lambda text: text.replace(b"world", b"worl\xff", 1),
    "lone surrogate": lambda text: text.replace(b"world", b"worl\\ud800", 1),
    "null": lambda _: b"null",
    "list": lambda text: b"[" + text + b"]",
    "deep": lambda _: b"[" * 200_000,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_other_spelling_is_read(name: str) -> None:
    assert refusal(SPELLINGS[name](good())) in {Reason.MALFORMED, Reason.NOT_CANONICAL}
