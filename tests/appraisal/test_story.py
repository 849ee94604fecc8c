"""The log is told in words by whoever reads it, and only as far as signatures carry."""

import pytest

from lydite.appraisal import story
from lydite.appraisal.authority import Authority
from lydite.appraisal.story import Reader
from lydite.errors import VerificationError
from lydite.laboratory.world import World
from lydite.messages import entry
from lydite.messages.canonical import encode
from lydite.messages.instruction import Instruction, InstructionPredicate
from lydite.messages.statement import subject
from lydite.signing.keys import Signer, sign_envelope

OFFICER = Signer(bytes([9]) * 32)


def judged() -> World:
    world = World()
    world.traffic(6)
    world.judged()
    return world


def reader(world: World, authority: Authority | None = None) -> Reader:
    return Reader(world.trust.providers[0], world.trust, authority)


def told(world: World, authority: Authority | None = None) -> list[story.Line]:
    return [
        story.tell(number, entry.parse(leaf), world.envelope(number), reader(world, authority))
        for number, leaf in enumerate(world.leaves, start=1)
    ]


def test_every_entry_is_told_with_its_signer() -> None:
    lines = told(judged())
    assert lines[0].text.startswith("declares bigram")
    assert lines[0].signer == "provider"
    assert {line.signer for line in lines if line.kind == "receipt"} == {"gateway, provider"}
    assert {line.signer for line in lines if line.kind == "epoch"} == {"gateway"}
    assert {line.signer for line in lines if line.kind in ("audit", "result")} == {"auditor"}
    assert any("verdict" in line.text for line in lines)
    assert "unknown" not in {line.signer for line in lines}


def test_another_statement_than_the_logged_one_is_refused() -> None:
    world = judged()
    world.envelopes[2], world.envelopes[3] = world.envelopes[3], world.envelopes[2]
    with pytest.raises(VerificationError):
        told(world)


def ordered(world: World) -> None:
    statement = Instruction(
        subject=subject("log", bytes(32)),
        predicate=InstructionPredicate(
            action="cut-power",
            arguments={"a": "b"},
            dry_run=True,
            expires="2026-01-01T00:00:00.000Z",
            gateway=world.gateway.keyid,
            issued="2026-01-01T00:00:00.000Z",
            nonce="00" * 32,
            why="a drill",
        ),
    )
    world.enter("admin", sign_envelope(encode(statement), OFFICER))


def test_officers_are_strangers_to_who_does_not_name_them() -> None:
    world = judged()
    ordered(world)
    assert told(world)[-1].signer == "unknown"
    line = told(world, Authority(officers={"ada": OFFICER.public.hex()}, grants=()))[-1]
    assert line.signer == "ada"
    assert line.text == "ordered: cut-power (dry run) a=b: a drill"


def test_no_statement_can_write_a_line_of_its_own() -> None:
    world = judged()
    payload = (
        b'{"predicate":{"mode":"dark","cause":"x","size":0,'
        b'"detail":"a\\n  10  ada\\u202e","at":""},"predicateType":"https://lydite.dev/attestations/gateway-mode/v1"}'
    )
    world.enter("mode", sign_envelope(payload, world.gateway))
    assert told(world)[-1].text == "mode dark (x) a\\n  10  ada\\u202e"


def test_a_statement_of_no_known_type_is_told_by_its_name() -> None:
    world = judged()
    payload = b'{"predicate":{},"predicateType":"https://lydite.dev/attestations/retention/v1"}'
    world.enter("retention", sign_envelope(payload, world.gateway))
    assert told(world)[-1].text == "a statement that lacks what its type asks for"


@pytest.mark.parametrize(
    ("kind", "predicate"),
    [
        (b"instruction", b'{"arguments":[],"dryRun":false,"action":"x","why":"y"}'),
        (b"cannot", b'{"model":' + b"[" * 3000 + b"]" * 3000 + b"}"),
        (b"cannot", b'{"model":"\xff"}'),
        (b"cannot", b'{"model":"\\ud800"}'),
        (b"cannot", b'{"model":' + b"9" * 5000 + b"}"),
        (b"nobody-knows", b'{"time":' + b"9" * 5000 + b"}"),
        (b"nobody-knows", b'{"time":' + b"[" * 900 + b"]" * 900 + b"}"),
        (b"egress-notice", b'{"chargedMicro":1e300,"budgetMicro":[],"event":"","scope":""}'),
        (b"attestation-result", b'{"verdict":[]}'),
        (b"retention", b"[]"),
    ],
)
def test_whatever_was_logged_has_its_line(kind: bytes, predicate: bytes) -> None:
    world = judged()
    name = b"https://lydite.dev/attestations/%s/v1" % kind
    payload = b'{"predicate":%s,"predicateType":"%s"}' % (predicate, name)
    number = world.enter("cannot", sign_envelope(payload, world.gateway))
    line = told(world)[-1]
    assert (line.entry, line.signer) == (number, "gateway")
    assert line.text.isprintable()


def test_what_cannot_be_told_says_why() -> None:
    world = judged()
    leaf = entry.parse(world.leaves[2])
    with pytest.raises(VerificationError) as refused:
        story.tell(3, leaf, world.envelope(2), reader(world))
    line = story.untold(3, leaf, refused.value)
    assert (line.signer, line.entry) == ("unknown", 3)
    assert line.text == "not told: entry 3 names another statement"
