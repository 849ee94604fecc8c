"""Attack 11: the log shows one history to auditors and another to a client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lydite.errors import Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness
from lydite.tlog.witness_client import WitnessClient
from lydite.tlog.witness_server import Keeper, WitnessServer

ORIGIN = "log.example"
LOG = Signer(b"log!" * 8)
LOG_KEY = notes.verifier_key(ORIGIN, LOG)
WITNESSES = [
    Witness(f"w{number}.example", Signer(b"%d" % number * 32), (LOG_KEY,)) for number in range(3)
]
TRUST = policy.parse(
    "\n".join(
        [
            f"log {LOG_KEY}",
            *(f"witness w{number} {each.key}" for number, each in enumerate(WITNESSES)),
            "group most 2 w0 w1 w2",
            "quorum most\n",
        ]
    ).encode()
)


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[list[WitnessClient]]:
    servers = [
        WitnessServer(Keeper(each, tmp_path / each.name, lambda: 1_800_000_000))
        for each in WITNESSES
    ]
    with servers[0], servers[1], servers[2]:
        made = [
            WitnessClient(server.url, each.key)
            for server, each in zip(servers, WITNESSES, strict=True)
        ]
        yield made
        for client in made:
            client.close()


@pytest.fixture
def views(tmp_path: Path) -> Iterator[tuple[LogStore, LogStore]]:
    """Two logs under one key, alike up to 300 entries, then not."""
    with (
        LogStore.open(tmp_path / "a", ORIGIN, LOG) as one,
        LogStore.open(tmp_path / "b", ORIGIN, LOG) as other,
    ):
        for log in (one, other):
            log.append_durable([b"%d" % number for number in range(300)])
        one.append_durable([b"what auditors see"])
        other.append_durable([b"what the client sees"])
        one.publish()
        other.publish()
        yield one, other


def cosign(log: LogStore, clients: list[WitnessClient]) -> int:
    """Return how many of ``clients`` cosign the newest checkpoint of ``log``."""
    count = 0
    for client in clients:
        try:
            signature = client.cosign(log.checkpoint(), log.consistency_proof)
        except VerificationError as error:
            if error.reason is not Reason.INCONSISTENT_LOG:
                raise
        else:
            log.attach_cosignatures(log.checkpoint(), [signature])
            count += 1
    return count


def test_only_one_of_two_views_finds_a_quorum(
    views: tuple[LogStore, LogStore], clients: list[WitnessClient]
) -> None:
    one, other = views
    assert cosign(one, clients) == 3
    assert cosign(other, clients) == 0
    assert policy.accept(notes.parse(one.checkpoint()), TRUST).checkpoint.root == one.root()
    with pytest.raises(VerificationError) as caught:
        policy.accept(notes.parse(other.checkpoint()), TRUST)
    assert caught.value.reason is Reason.UNWITNESSED


def test_two_views_that_divide_the_witnesses_cannot_both_have_a_quorum(
    views: tuple[LogStore, LogStore], clients: list[WitnessClient]
) -> None:
    one, other = views
    assert cosign(one, clients[:1]) == 1
    assert cosign(other, clients[1:]) == 2
    assert cosign(one, clients) == 1
    policy.accept(notes.parse(other.checkpoint()), TRUST)
    with pytest.raises(VerificationError) as caught:
        policy.accept(notes.parse(one.checkpoint()), TRUST)
    assert caught.value.reason is Reason.UNWITNESSED


def test_a_witness_keeps_the_proof_of_the_fork(
    views: tuple[LogStore, LogStore], clients: list[WitnessClient], tmp_path: Path
) -> None:
    one, other = views
    cosign(one, clients)
    cosign(other, clients)
    for each in WITNESSES:
        kept = sorted((tmp_path / each.name / "evidence").iterdir())
        heads = [
            checkpoints.open_note(notes.parse(path.read_bytes()), [LOG_KEY]).checkpoint
            for path in kept
        ]
        assert [head.size for head in heads] == [301, 301]
        assert {head.root for head in heads} == {one.root(), other.root()}


def test_cosignatures_cannot_be_carried_from_one_view_to_the_other(
    views: tuple[LogStore, LogStore], clients: list[WitnessClient]
) -> None:
    one, other = views
    cosign(one, clients)
    carried = notes.attach(
        notes.parse(other.checkpoint()), notes.parse(one.checkpoint()).signatures[1:]
    )
    with pytest.raises(VerificationError) as caught:
        policy.accept(carried, TRUST)
    assert caught.value.reason is Reason.BAD_SIGNATURE
