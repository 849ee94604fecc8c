"""One receipt, checked by the client it was given to."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lydite.appraisal.receipts import Exchange, check
from lydite.errors import FormatError, Reason, VerificationError
from lydite.laboratory.world import PATH, World
from lydite.messages.tier import Tier
from lydite.signing import notes
from lydite.tlog.proof import Proof

Json = dict[str, Any]


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.traffic(5)
    made.auditor.case.catch_up()
    return made


def served(world: World, entry: int = 3, proven: int | None = None) -> Json:
    """What the gateway would answer for the receipt at an entry."""
    mirror = world.auditor.case.mirror
    index = (proven or entry) - 1
    path = tuple(mirror.tree.inclusion_proof(index, mirror.size))
    proof = Proof(index=index, path=path, note=notes.parse(mirror.note))
    envelope = json.loads(world.envelope(entry))
    return {"envelope": envelope, "index": index + 1, "proof": proof.encode().decode()}


def written(fields: Json) -> bytes:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def own(world: World, entry: int = 3) -> Exchange:
    opened = world.openings[entry]
    return Exchange(
        salt=opened.salt_bytes(),
        path=PATH,
        request=opened.request_bytes(),
        response=opened.response_bytes(),
    )


def test_an_honest_receipt_is_affirmed_and_matches_the_clients_bytes(world: World) -> None:
    report = check(written(served(world)), world.trust, own(world))
    assert report.tier is Tier.AFFIRMING
    assert ("your bytes", "match") in [(fact.name, fact.value) for fact in report.facts]


def test_a_receipt_without_a_proof_yet_affirms_nothing(world: World) -> None:
    fields = {**served(world), "index": None, "proof": None}
    report = check(written(fields), world.trust)
    assert (report.tier, report.reason) == (Tier.NONE, Reason.NOT_IN_LOG)


def test_a_receipt_of_another_exchange_is_refused(world: World) -> None:
    with pytest.raises(VerificationError) as refused:
        check(written(served(world)), world.trust, own(world, 4))
    assert refused.value.reason is Reason.BAD_COMMITMENT


def test_a_proof_of_another_entry_is_refused(world: World) -> None:
    with pytest.raises(VerificationError) as refused:
        check(written(served(world, 3, proven=4)), world.trust)
    assert refused.value.reason is Reason.NOT_IN_LOG


def wrong_index(fields: Json) -> None:
    fields["index"] += 1


def without_gateway(fields: Json) -> None:
    fields["envelope"]["signatures"].pop()


def without_provider(fields: Json) -> None:
    fields["envelope"]["signatures"].pop(0)


def without_witness(fields: Json) -> None:
    lines = fields["proof"].split("\n")
    fields["proof"] = "\n".join(line for line in lines if not line.startswith("— w1 "))


def without_path(fields: Json) -> None:
    lines = fields["proof"].split("\n")
    fields["proof"] = "\n".join([*lines[:2], *lines[3:]])


def other_payload(fields: Json) -> None:
    payload = fields["envelope"]["payload"]
    fields["envelope"]["payload"] = payload[:8] + ("A" if payload[8] != "A" else "B") + payload[9:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong_index, Reason.MALFORMED),
        (without_gateway, Reason.BAD_SIGNATURE),
        (without_provider, Reason.UNKNOWN_KEY),
        (without_witness, Reason.UNWITNESSED),
        (without_path, Reason.NOT_IN_LOG),
        (other_payload, Reason.BAD_SIGNATURE),
    ],
)
def test_a_changed_receipt_is_refused_for_its_reason(
    world: World, change: Callable[[Json], None], reason: Reason
) -> None:
    fields = served(world)
    change(fields)
    with pytest.raises((FormatError, VerificationError)) as refused:
        check(written(fields), world.trust)
    assert refused.value.reason is reason
