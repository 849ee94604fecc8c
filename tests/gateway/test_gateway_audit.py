"""What an auditor asks of a gateway: epochs that anyone recounts, openings, its own entries."""

import base64
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lydite.errors import Reason
from lydite.gateway.draws.pledges import Turn, make_pledge
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Beacon, Witness
from lydite.laboratory.beacon_server import BeaconServer, LocalBeacon
from lydite.messages import entropy, entry, epoch, opening, receipt, retention
from lydite.messages.audit import (
    Audit,
    AuditPredicate,
    Result,
    ResultPredicate,
    Verdict,
)
from lydite.messages.canonical import decode, encode
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.signing import keys, notes
from lydite.signing.dsse import Envelope, PublicKey, key_id, open_envelope, payload_of
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import policy as policies
from lydite.tlog import proof, tiles
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree
from lydite.tlog.witness import Witness as WitnessIdentity
from lydite.tlog.witness_server import Keeper, WitnessServer
from tests.gateway.conftest import ORIGIN, TOKEN, Bench, prepare
from tests.gateway.raw_client import ask, get, play, post
from tests.gateway.scripted_engine import chat, plain

BEARER = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
AUDITOR = Signer(b"a" * 32)
STRANGER = Signer(b"s" * 32)
WITNESSES = ("north", "south")


@dataclasses.dataclass
class Audited:
    """A gateway with witnesses and a beacon, and what a relying party trusts."""

    gateway: Gateway
    policy: policies.Policy
    beacon: LocalBeacon
    keys: dict[str, Any]
    changes: dict[str, Any]

    @property
    def port(self) -> int:
        return self.gateway.port


@pytest.fixture(scope="module")
def audited(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    base = prepare(bench.directory / "audited", bench.engine.url)
    log = notes.verifier_key(ORIGIN, keys.load(Path(base.keys.log)))
    names = {
        name: WitnessIdentity(name, Signer(name[0].encode() * 32), (log,)) for name in WITNESSES
    }
    state = tmp_path_factory.mktemp("witnesses")
    north, south = (WitnessServer(Keeper(who, state / name)) for name, who in names.items())
    source = LocalBeacon(Signer(b"b" * 32), 1)
    lines = [f"witness {name} {who.key}" for name, who in names.items()]
    text = "\n".join([*lines, "group both all north south", "quorum both", ""])
    with north, south, BeaconServer(source) as server:
        changes: dict[str, Any] = {
            "witnesses": tuple(
                Witness(url=each.url, vkey=str(who.key))
                for each, who in zip((north, south), names.values(), strict=True)
            ),
            "policy": text,
            "beacon": Beacon(chain=source.chain, url=server.url, margin_s=0, lead_s=2),
            "auditors": (AUDITOR.public.hex(),),
        }
        gateway = bench.gateway("audited", **changes)
        public = json.loads(ask(gateway.port, get(b"/v1/keys")).body)
        policy = policies.parse(f"log {log}\n{text}".encode())
        yield Audited(gateway, policy, source, public, changes)


def key(audited: Audited, name: str) -> PublicKey:
    return PublicKey(bytes.fromhex(audited.keys[name]))


def open_epoch(port: int, rate: int = 500_000) -> dict[str, Any]:
    got = ask(port, post(b"/v1/audit/epochs", b'{"epsilonPpm": %d}' % rate, BEARER))
    assert got.status == 200, got.body
    found: dict[str, Any] = json.loads(got.body)
    return found


def unpack(said: dict[str, Any], *signers: PublicKey) -> bytes:
    known = {key_id(each): each for each in signers}
    canonical = json.dumps(said["envelope"], sort_keys=True, separators=(",", ":")).encode()
    return open_envelope(canonical, known, known)


def pledged(audited: Audited, found: epoch.Predicate) -> bytes:
    """Check that an epoch is what the entry it draws up to pledged; return that pledge's digest."""
    got = ask(audited.port, get(b"/v1/log/envelopes/%d" % found.tree_size))
    payload = unpack({"envelope": json.loads(got.body)}, key(audited, "gateway"))
    said = entropy.parse(payload).predicate
    assert (said.epoch, said.first, said.attempt) == (found.epoch, found.first, 1)
    assert (said.round, said.epsilon_ppm) == (found.beacon.round, found.epsilon_ppm)
    revealed = entropy.Entropy(bytes.fromhex(found.entropy))
    assert entropy.commit(said.epoch, said.attempt, revealed).hex() == said.commitment
    return hashlib.sha256(payload).digest()


def check_epoch(audited: Audited, found: epoch.Predicate) -> list[int]:
    """Recount an epoch from public keys alone and return what it drew."""
    accepted = policies.accept(notes.parse(found.checkpoint.encode()), audited.policy)
    head = accepted.checkpoint
    assert head.origin == ORIGIN
    assert head.size >= found.tree_size
    pledge = pledged(audited, found)
    chain = audited.beacon.chain
    answer = beacon.from_record(chain, found.beacon)
    assert accepted.time_s is not None
    schedule.check(chain, accepted.time_s, 0, answer.number)
    randomness = beacon.verify(chain, answer)
    revealed = bytes.fromhex(found.entropy)
    alpha = draw.alpha(
        ORIGIN, found.epoch, found.tree_size, pledge, answer.number, randomness, revealed
    )
    beta = vrf.verify(key(audited, "vrf"), alpha, bytes.fromhex(found.vrf_proof))
    return draw.draw(beta, found.first, found.tree_size, found.epsilon_ppm)


def leaves(audited: Audited) -> list[bytes]:
    """Every leaf of the log by its tiles, checked against its witnessed checkpoint."""
    note = ask(audited.port, get(b"/v1/log/checkpoint")).body
    head = policies.accept(notes.parse(note), audited.policy).checkpoint
    found: list[bytes] = []
    for index in range(-(-head.size // 256)):
        tile = tiles.Tile(None, index, min(256, head.size - 256 * index))
        got = ask(audited.port, get(f"/v1/log/{tile.path}".encode()))
        assert got.status == 200
        found += tiles.decode_bundle(got.body, tile.width)
    tree = Tree()
    tree.extend(found)
    assert tree.root(head.size) == head.root
    return found


def test_an_epoch_draws_what_anyone_recounts_and_opens_only_that(audited: Audited) -> None:
    requests = {}
    for number in range(12):
        request, got = play(audited.port, plain(chat(str(number))))
        requests[got.fields[b"x-lydite-receipt-id"].decode()] = request
    first = open_epoch(audited.port)
    found = epoch.parse(unpack(first, key(audited, "gateway"))).predicate
    drawn = check_epoch(audited, found)
    assert (found.epoch, found.first) == (1, 1)
    assert found.tree_size >= 13
    for number in range(1, found.tree_size + 1):
        got = ask(audited.port, get(b"/v1/audit/openings/%d" % number, BEARER))
        if number in drawn and 1 < number < found.tree_size:  # the pledge is the last
            opened = opening.parse(got.body)
            assert opened.request_bytes() == requests[opened.receipt_id]
            said = json.loads(
                ask(audited.port, get(b"/v1/receipts/" + opened.receipt_id.encode())).body
            )
            payload = unpack(said, key(audited, "gateway"), key(audited, "provider"))
            opening.check(opened, receipt.parse(payload))
        else:
            assert got.status in (403, 404)
    assert (
        json.loads(ask(audited.port, get(b"/v1/audit/epochs/1")).body)["envelope"]
        == first["envelope"]
    )


def test_epochs_follow_one_another_without_gap(audited: Audited) -> None:
    play(audited.port, plain(chat()))
    one = epoch.parse(unpack(open_epoch(audited.port), key(audited, "gateway"))).predicate
    two = epoch.parse(unpack(open_epoch(audited.port), key(audited, "gateway"))).predicate
    assert two.first == one.tree_size + 1
    assert two.epoch == one.epoch + 1
    check_epoch(audited, two)


def test_epochs_survive_a_restart(bench: Bench, audited: Audited) -> None:
    play(audited.port, plain(chat()))
    before = epoch.parse(unpack(open_epoch(audited.port, 1_000_000), key(audited, "gateway")))
    drawn = set(audited.gateway._control._office.epochs._drawn)
    bench.stop(audited.gateway)
    again = audited.gateway = bench.gateway("audited", **audited.changes)
    office = again._control._office
    assert office.epochs._drawn == drawn
    assert len(office.journal) == office.log.size
    after = epoch.parse(unpack(open_epoch(again.port), key(audited, "gateway"))).predicate
    assert after.first == before.predicate.tree_size + 1
    assert [entry.parse(office.log.entry(n)).kind for n in range(office.log.size)].count(
        "declaration"
    ) == 1


def pledge_by_hand(bench: Bench, gateway: Gateway, ahead_s: int, *, lost: bool = False) -> int:
    """Pledge the next epoch as a gateway does that is killed before it opens it."""
    office = gateway._control._office
    epochs = office.epochs
    turn = Turn(epochs._count + 1, 1, epochs._last_size + 1)
    secret = epochs._drawer.fresh(turn.epoch, 1)
    settings, _ = epochs._source
    due = beacon.first_round_after(settings.chain, int(time.time()) + ahead_s)
    raw = entropy.Entropy(bytes.fromhex(secret.entropy))
    said = make_pledge(turn, settings.chain.name, due, 400_000, raw, epochs._hands.provider)
    envelope = sign_envelope(encode(said), epochs._hands.gateway)
    entered = bench.run(office.recorder.enter("entropy", envelope))
    if lost:
        epochs._drawer.empty()
    return entered


@pytest.mark.parametrize(
    ("ahead_s", "lost", "attempt"), [(6, False, 1), (-5, False, 2), (6, True, 2)]
)
def test_a_pledge_survives_a_restart_or_everything_is_drawn(
    bench: Bench, audited: Audited, ahead_s: int, lost: bool, attempt: int
) -> None:
    """In time, it is opened as it was pledged; too late or with its secret lost, never again."""
    play(audited.port, plain(chat()))
    first = pledge_by_hand(bench, audited.gateway, ahead_s, lost=lost)
    bench.stop(audited.gateway)
    audited.gateway = bench.gateway("audited", **audited.changes)
    found = epoch.parse(unpack(open_epoch(audited.port, 500_000), key(audited, "gateway")))
    said = found.predicate
    got = ask(audited.port, get(b"/v1/log/envelopes/%d" % said.tree_size))
    pledge = entropy.parse(unpack({"envelope": json.loads(got.body)}, key(audited, "gateway")))
    assert pledge.predicate.attempt == attempt
    assert (said.tree_size == first) == (attempt == 1)
    assert said.epsilon_ppm == (400_000 if attempt == 1 else 1_000_000)
    assert not (Path(audited.gateway._settings.state) / "pledge").exists()


def test_what_was_not_drawn_is_gone_and_the_log_says_so(audited: Audited) -> None:
    for _ in range(20):
        play(audited.port, plain(chat()))
    said = epoch.parse(unpack(open_epoch(audited.port, 300_000), key(audited, "gateway"))).predicate
    drawn = set(check_epoch(audited, said))
    office = audited.gateway._control._office
    told = retention.parse(office.journal.read(office.journal.of_kind("retention")[-1]).statement())
    receipts = [
        n
        for n in range(said.first, said.tree_size + 1)
        if entry.parse(office.log.entry(n - 1)).kind == "receipt"
    ]
    assert (told.predicate.cause, told.predicate.epoch) == ("undrawn", said.epoch)
    assert told.predicate.kept == len(drawn & set(receipts))
    assert told.predicate.destroyed == len(set(receipts) - drawn)
    assert office.keeper.vault.live(said.first, said.tree_size) == sorted(drawn & set(receipts))
    for number in receipts:
        name = office.journal.read(number).receipt_id
        salt = b'{"salt":"%s"}' % (b"00" * 32)
        got = ask(audited.port, post(b"/v1/receipts/%s/opening" % name.encode(), salt, BEARER))
        assert got.status == (403 if number in drawn else 410)


def test_every_receipt_has_a_proof_once_a_witnessed_checkpoint_covers_it(audited: Audited) -> None:
    _, got = play(audited.port, plain(chat()))
    name = got.fields[b"x-lydite-receipt-id"]
    deadline = time.monotonic() + 5
    while True:
        said = json.loads(ask(audited.port, get(b"/v1/receipts/" + name)).body)
        if said["proof"] is not None:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    canonical = json.dumps(said["envelope"], sort_keys=True, separators=(",", ":")).encode()
    statement = payload_of(decode(canonical, Envelope))
    leaf = entry.of_statement(statement, "receipt", key_id(key(audited, "provider")))
    found = proof.parse(said["proof"].encode())
    assert found.index == said["index"] - 1
    assert proof.verify(found, leaf_hash(leaf), audited.policy).witnesses == WITNESSES


def test_the_log_is_served_as_tiles_even_where_a_partial_one_is_gone(audited: Audited) -> None:
    before = leaves(audited)
    for _ in range(3):
        play(audited.port, plain(chat()))
    held = ask(
        audited.port, get(f"/v1/log/{tiles.Tile(None, 0, min(len(before), 255)).path}".encode())
    )
    assert held.status == 200
    assert tiles.decode_bundle(held.body, min(len(before), 255)) == before[:255]


def audit_of(gateway: Gateway, provider: str, signer: Signer, auditor: str | None = None) -> bytes:
    statement = Audit(
        subject=subject("receipt", hashlib.sha256(b"x").digest()),
        predicate=AuditPredicate(
            epoch=1, entry=2, findings=(), provider=provider, auditor=auditor or signer.keyid
        ),
    )
    return sign_envelope(encode(statement), signer)


def name_of(envelope: bytes) -> str:
    return hashlib.sha256(payload_of(decode(envelope, Envelope))).hexdigest()


def enter(audited: Audited, envelope: bytes) -> tuple[int, dict[str, Any]]:
    got = ask(audited.port, post(b"/v1/log/entries", envelope))
    return got.status, json.loads(got.body)


def test_an_auditors_entry_is_taken_once(audited: Audited) -> None:
    provider = key_id(key(audited, "provider"))
    envelope = audit_of(audited.gateway, provider, AUDITOR)
    status, first = enter(audited, envelope)
    assert status == 200
    assert enter(audited, envelope) == (200, first)
    assert ask(audited.port, get(b"/v1/log/envelopes/%d" % first["index"])).body == envelope
    office = audited.gateway._control._office
    leaf = entry.parse(office.log.entry(first["index"] - 1))
    assert (leaf.kind, leaf.sha256) == (
        "audit",
        name_of(envelope),
    )


def test_a_result_is_an_entry_too(audited: Audited) -> None:
    provider = key_id(key(audited, "provider"))
    verdict = Verdict(
        tier=Tier.NONE,
        reason=Reason.UNDERPOWERED,
        log10_e_milli=0,
        channels=(),
        audited=0,
        scored=0,
        tokens=0,
        tokens_needed=1,
        skipped=(),
    )
    statement = Result(
        subject=subject("declaration", bytes(32)),
        predicate=ResultPredicate(
            verdict=verdict,
            epochs=1,
            tree_size=1,
            declaration=bytes(32).hex(),
            policy=bytes(32).hex(),
            references=(),
            provider=provider,
            auditor=AUDITOR.keyid,
            issued="2026-01-01T00:00:00.000Z",
        ),
    )
    status, said = enter(audited, sign_envelope(encode(statement), AUDITOR))
    assert status == 200
    office = audited.gateway._control._office
    assert entry.parse(office.log.entry(said["index"] - 1)).kind == "result"


def test_entries_by_others_or_about_others_are_refused(audited: Audited) -> None:
    provider = key_id(key(audited, "provider"))
    good = audit_of(audited.gateway, provider, AUDITOR)
    swapped = json.loads(good)
    swapped["payload"] = base64.b64encode(b"{}").decode()
    refused = {
        audit_of(audited.gateway, provider, STRANGER): (401, "unknown-key"),
        audit_of(audited.gateway, provider, AUDITOR, STRANGER.keyid): (401, "unknown-key"),
        audit_of(audited.gateway, "ed25519:other", AUDITOR): (403, "wrong-provider"),
        good.replace(b'","', b'", "', 1): (400, "not-canonical"),
        good[:-1]: (400, "malformed"),
        json.dumps(swapped, separators=(",", ":"), sort_keys=True).encode(): (403, "bad-signature"),
        sign_envelope(b'{"predicateType":"x"}', AUDITOR): (400, "malformed"),
        sign_envelope(b"[]", AUDITOR): (400, "malformed"),
    }
    size = len(audited.gateway._journal)
    for envelope, (status, code) in refused.items():
        got, said = enter(audited, envelope)
        assert (got, said["error"]["code"]) == (status, code), envelope
    assert len(audited.gateway._journal) == size


@pytest.mark.parametrize(
    "fields", [b"", b"Authorization: Bearer x\r\n", BEARER.lower(), BEARER + BEARER]
)
def test_epochs_and_openings_need_the_token(audited: Audited, fields: bytes) -> None:
    assert ask(audited.port, post(b"/v1/audit/epochs", b'{"epsilonPpm":1}', fields)).status == 401
    assert ask(audited.port, get(b"/v1/audit/openings/2", fields)).status == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"epsilonPpm":0}', b'{"epsilonPpm":1000001}', b'{"epsilonPpm":"1"}', b"["],
)
def test_an_epoch_needs_a_rate(audited: Audited, body: bytes) -> None:
    assert ask(audited.port, post(b"/v1/audit/epochs", body, BEARER)).status == 400


def test_without_witnesses_or_beacon_there_are_no_epochs(bench: Bench, gateway: Gateway) -> None:
    got = ask(gateway.port, post(b"/v1/audit/epochs", b'{"epsilonPpm":1000}', BEARER))
    assert (got.status, b"no beacon" in got.body) == (503, True)


def test_a_witness_that_is_away_leaves_epochs_unopened(bench: Bench, audited: Audited) -> None:
    changes = dict(audited.changes)
    north, south = changes["witnesses"]
    changes["witnesses"] = (north, Witness(url="http://127.0.0.1:9", vkey=south.vkey))
    lonely = bench.gateway("lonely", **changes)
    play(lonely.port, plain(chat()))
    got = ask(lonely.port, post(b"/v1/audit/epochs", b'{"epsilonPpm":1000}', BEARER))
    assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "unwitnessed")


def test_a_local_beacon_never_signs_a_round_before_it_is_due() -> None:
    now = 100.0
    source = LocalBeacon(Signer(b"b" * 32), 3, clock=lambda: now)
    assert source.round(1) is not None
    assert source.round(2) is None
    assert source.round(0) is None
    now = 102.9
    assert source.round(2) is None
    now = 103.0
    second = source.round(2)
    assert second is not None
    beacon.verify(source.chain, beacon.from_record(source.chain, second))


def test_the_beacons_server_says_too_early_and_what_it_is() -> None:
    source = LocalBeacon(Signer(b"b" * 32), 1, genesis_time_s=int(time.time()))
    with BeaconServer(source) as server:
        assert ask(server.port, get(b"/rounds/1")).status == 200
        assert ask(server.port, get(b"/rounds/1000")).status == 425
        assert ask(server.port, get(b"/rounds/0")).status == 404
        assert b"development" in ask(server.port, get(b"/")).body
