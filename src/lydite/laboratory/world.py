"""A whole deployment in one process: provider, gateway, log, witnesses, beacon, auditor, clock.

Every part is the real one but for sockets, disks and time, so tests need no mocks: what a test
sees refused here is refused by the code that runs. Time moves only when it is told to.
"""

import base64
import hashlib
import json
from collections.abc import Callable

from msgspec.structs import replace

from lydite.appraisal.policy import DEFAULT, Policy
from lydite.appraisal.policy import digest as policy_digest
from lydite.appraisal.report import Report
from lydite.appraisal.trust import Anchor, Trust
from lydite.appraisal.verification import verify
from lydite.auditor.bench import Bench
from lydite.auditor.service import Auditor
from lydite.errors import UnavailableError
from lydite.evidence.tokens import claims
from lydite.evidence.tokens import reference as references
from lydite.evidence.tokens import verifier as scores
from lydite.evidence.tokens.reference import MARGIN, SURPRISAL, Reference
from lydite.evidence.tokens.sampling import Sampling, from_request
from lydite.gateway.draws.epochs import Hands, Pledged, make_epoch
from lydite.gateway.draws.pledges import Secret, Turn, make_pledge
from lydite.gateway.ledger.receipts import Draft, Stamp, opening_of, seal, statement_of
from lydite.gateway.ledger.retention import make_retention
from lydite.laboratory.bigram import Bigram
from lydite.messages import entropy, entry
from lydite.messages.audit import Verdict
from lydite.messages.calibration import (
    BY_BINS,
    BY_TAILS,
    Alternative,
    Binned,
    Histogram,
    Provenance,
)
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt, commit_request, commit_response, sampling_seed
from lydite.messages.declaration import Declaration, Predicate
from lydite.messages.entropy import Entropy
from lydite.messages.entry import EntryKind
from lydite.messages.epoch import Epoch
from lydite.messages.opening import Opening
from lydite.messages.retention import Tally
from lydite.messages.stack import Stack
from lydite.messages.statement import Sha256, Subject
from lydite.sampling import beacon, draw, vrf
from lydite.sampling.beacon import Chain, Round, Scheme
from lydite.signing import notes
from lydite.signing.dsse import digest
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import tiles, witness
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.merkle import Tree

ORIGIN = "world.example/log"
PATH = b"/v1/completions"
START_S = 1_800_000_000


def key(name: str) -> Signer:
    """Return the key that ``name`` has in every world."""
    return Signer(hashlib.sha256(name.encode()).digest())


class World:
    """One provider behind one gateway, and an auditor, on a clock that stands still.

    ``covers`` are the numeric stacks that the Reference Value covers, any if there are none;
    ``cheat`` is what the provider runs instead of the declared ``model``; ``request`` bodies ask
    for temperature 1 unless they say otherwise.
    """

    def __init__(
        self,
        cheat: Bigram | None = None,
        policy: Policy = DEFAULT,
        change: Callable[[Sampling], Sampling] = lambda sampling: sampling,
        covers: tuple[Stack, ...] = (),
    ) -> None:
        self.now_s = START_S
        self.model = Bigram()
        self._served_by = cheat or self.model
        self._change = change
        self.provider, self.gateway, self.log_key = key("provider"), key("gateway"), key("log")
        self.vrf_key, self.auditor_key, self.beacon_key = key("vrf"), key("auditor"), key("beacon")
        self.policy = policy
        self.reference = replace(calibrated(self.model), stacks=covers)
        self.tree = Tree()
        self.leaves: list[bytes] = []
        self.envelopes: list[bytes] = []
        self.openings: dict[int, Opening] = {}
        self.notes: dict[str, notes.Note | None] = {"w1": None, "w2": None}
        log_vkey = notes.verifier_key(ORIGIN, self.log_key)
        self.witnesses = [witness.Witness(name, key(name), (log_vkey,)) for name in self.notes]
        self.chain = Chain(
            name="world",
            scheme=Scheme.LOCAL_DEV,
            public_key=self.beacon_key.public.hex(),
            genesis_time_s=START_S - 3600,
            period_s=3,
        )
        self.trust = self._trust(str(log_vkey))
        declared = self._declaration()
        self.stamp = Stamp(self.provider, self.gateway, digest(declared).hex(), "lydite/v1")
        self.enter("declaration", declared)
        self.epochs = 0
        self.covered = 0
        self.auditor = Auditor(
            self,
            self.trust,
            self.trust.providers[0],
            policy,
            Bench(self.model, (self.reference,)),
            self.auditor_key,
        )

    # What happens.

    def serve(self, prompt: str, max_tokens: int = 32, **fields: object) -> int:
        """Let one completion pass and return the entry of its receipt."""
        request = json.dumps({"prompt": prompt, "max_tokens": max_tokens, **fields}).encode()
        number = len(self.leaves) + 1
        salt = Salt(hashlib.sha256(f"salt {number}".encode()).digest())
        asked = commit_request(salt, PATH, request)
        response = self._answer(request, sampling_seed(salt, asked))
        draft = Draft(
            receipt_id=f"{number:032x}",
            salt=salt,
            path=PATH,
            request=request,
            asked=asked,
            response=(response,),
            answered=commit_response(salt, response),
            status=200,
            outcome="complete",
            streamed=False,
            received_ms=self.now_s * 1000,
            completed_ms=self.now_s * 1000,
        )
        self.openings[number] = opening_of(draft)
        return self.enter("receipt", seal(statement_of(draft, self.stamp), self.stamp))

    def traffic(self, count: int, max_tokens: int = 32) -> None:
        """Let ``count`` unlike completions pass."""
        for number in range(count):
            self.serve(f"request {number} ", max_tokens)

    def enter(self, kind: EntryKind, envelope: bytes) -> int:
        """Log an envelope and return its 1-based entry."""
        leaf = entry.of_statement(_payload(envelope), kind, self.provider.keyid)
        self.envelopes.append(envelope)
        self.leaves.append(leaf)
        self.tree.append(leaf)
        return len(self.leaves)

    def judged(self, rate_ppm: int = 1_000_000) -> Verdict:
        """Open an epoch, audit what it draws, and return the auditor's verdict."""
        self.auditor.open_epoch(rate_ppm)
        self.auditor.audit_pending()
        return self.auditor.judge()

    def bundle(self) -> bytes:
        """Return the auditor's bundle."""
        return encode(self.auditor.bundle())

    def verify(self, bundle: bytes) -> Report:
        """Check a bundle as this world's relying party."""
        return verify(bundle, self.trust)

    # What an auditor asks of a gateway.

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint, cosigned by both witnesses."""
        head = Checkpoint(origin=ORIGIN, size=self.tree.size, root=self.tree.root())
        note = checkpoints.sign(head, self.log_key)
        return notes.attach(note, [self._cosign(each, note) for each in self.witnesses]).encode()

    def tile(self, path: str) -> bytes:
        """Return an entry bundle."""
        tile = tiles.parse_path(path)
        start = tile.index * tiles.WIDTH
        return tiles.encode_bundle(self.leaves[start : start + tile.width])

    def envelope(self, number: int) -> bytes:
        """Return the envelope behind a 1-based entry."""
        return self.envelopes[number - 1]

    def open_epoch(self, epsilon_ppm: int) -> int:
        """Draw from everything logged since the last epoch and return the epoch's entry."""
        self.now_s += 1
        number = beacon.first_round_after(self.chain, self.now_s + self.policy.beacon_margin_s)
        pledge, secret = self.pledge(epsilon_ppm, number)
        self.now_s = beacon.due_s(self.chain, number)
        answer = (self.chain, self.beacon_round(number))
        hands = Hands(self.gateway, self.vrf_key, self.provider.keyid)
        statement = make_epoch(pledge, secret, answer, hands)
        entered = self.enter("epoch", sign_envelope(encode(statement), self.gateway))
        self.epochs, self.covered = self.epochs + 1, pledge.entry
        self.destroy_undrawn(statement)
        return entered

    def pledge(
        self, epsilon_ppm: int, beacon_round: int, attempt: int = 1
    ) -> tuple[Pledged, Secret]:
        """Pledge the next epoch and have it witnessed; return the pledge and what opens it."""
        turn = Turn(self.epochs + 1, attempt, self.covered + 1)
        raw = Entropy(hashlib.sha256(b"entropy %d %d" % turn[:2]).digest())
        said = make_pledge(
            turn, self.chain.name, beacon_round, epsilon_ppm, raw, self.provider.keyid
        )
        entered = self.enter("entropy", sign_envelope(encode(said), self.gateway))
        payload = _payload(self.envelopes[entered - 1])
        found = entropy.parse(payload).predicate
        secret = Secret(
            epoch=turn.epoch, attempt=attempt, entropy=raw.hex(), note=self.checkpoint().decode()
        )
        return Pledged(entered, found, hashlib.sha256(payload).digest()), secret

    def destroy_undrawn(self, statement: Epoch) -> int:
        """Say what an epoch left undrawn, destroy it, and return the statement's entry."""
        said = statement.predicate
        pledge = hashlib.sha256(_payload(self.envelopes[said.tree_size - 1])).digest()
        parts = (bytes.fromhex(said.beacon.randomness), bytes.fromhex(said.entropy))
        alpha = draw.alpha(ORIGIN, said.epoch, said.tree_size, pledge, said.beacon.round, *parts)
        beta = vrf.prove(self.vrf_key.seed(), alpha).beta
        drawn = set(draw.draw(beta, said.first, said.tree_size, said.epsilon_ppm))
        span = range(said.first, said.tree_size + 1)
        kept = [self._named(number) for number in span if number in drawn & set(self.openings)]
        gone = [self._named(number) for number in span if number in set(self.openings) - drawn]
        told = make_retention(
            "undrawn",
            (said.first, said.tree_size),
            Tally(gone),
            (),
            Tally(kept),
            said.epoch,
            self.now_s,
            self.provider.keyid,
        )
        for number, _ in gone:
            del self.openings[number]
        return self.enter("retention", sign_envelope(encode(told), self.gateway))

    def opening(self, number: int) -> Opening:
        """Return the opening of the receipt at an entry."""
        if number not in self.openings:
            raise UnavailableError(f"entry {number} is no receipt")
        return self.openings[number]

    def publish(self, envelope: bytes) -> int:
        """Log what an auditor signed."""
        kind: EntryKind = "audit" if b"inference-audit" in _payload(envelope) else "result"
        return self.enter(kind, envelope)

    # How it is made.

    def _named(self, number: int) -> tuple[int, bytes]:
        return number, hashlib.sha256(_payload(self.envelopes[number - 1])).digest()

    def beacon_round(self, number: int) -> Round:
        """Return a round of the development beacon."""
        return beacon.local_round(number, self.beacon_key.sign(beacon.local_message(number)))

    def _cosign(self, by: witness.Witness, note: notes.Note) -> notes.Signature:
        stored = self.notes[by.name]
        old = 0 if stored is None else checkpoints.parse(stored.text).size
        path = self.tree.consistency_proof(old, self.tree.size) if old else []
        request = witness.Request(
            old_size=old,
            path=tuple(path),
            note=note,
            checkpoint=checkpoints.parse(note.text),
        )
        answer = witness.add_checkpoint(request, by, stored, self.now_s)
        if answer.keep is None:
            raise UnavailableError(f"{by.name} refused: {answer.body.decode()}")
        self.notes[by.name] = answer.keep
        return answer.keep.signatures[-1]

    def _answer(self, request: bytes, seed: int) -> bytes:
        exchange = json.loads(request)
        sampling = self._change(from_request(exchange))
        codec = self.model.codec
        ids = self._served_by.answer(codec.encode(exchange["prompt"]), sampling, seed)
        choice = {
            "index": 0,
            "text": codec.decode(ids),
            "token_ids": ids,
            "finish_reason": "length",
        }
        return json.dumps({"object": "text_completion", "choices": [choice]}).encode()

    def _declaration(self) -> bytes:
        root = self.model.weights_root
        statement = Declaration(
            subject=(Subject(name="bigram", digest=Sha256(sha256=root)),),
            predicate=Predicate(
                model="bigram",
                weights_root=root,
                dtype="float32",
                engine="laboratory",
                sampler="lydite/v1",
                token_ids=True,
                provider=self.provider.keyid,
            ),
        )
        return sign_envelope(encode(statement), self.provider)

    def _trust(self, log_vkey: str) -> Trust:
        lines = [f"witness {each.name} {each.key}" for each in self.witnesses]
        names = " ".join(self.notes)
        return Trust(
            policy=policy_digest(self.policy),
            references=(references.digest(self.reference),),
            auditors=(self.auditor_key.public.hex(),),
            beacon=self.chain,
            witnesses="\n".join([*lines, f"group both all {names}", "quorum both", ""]),
            providers=(
                Anchor(
                    name="world",
                    provider_key=self.provider.public.hex(),
                    gateway_key=self.gateway.public.hex(),
                    vrf_key=vrf.public_key(self.vrf_key.seed()).hex(),
                    log_vkey=log_vkey,
                ),
            ),
        )


_BOTH = (f"tokens/{MARGIN}", f"tokens/{SURPRISAL}")


def calibrated(model: Bigram, responses: int = 100, tokens: int = 20) -> Reference:
    """Return a Reference Value for a bigram, made from its own honest answers."""
    empty = Reference(
        name="bigram",
        weights_root=model.weights_root,
        sampler="lydite/v1",
        auditor="numpy, one pass",
        margin=Binned(edges=(1, 1_000, 100_000), histograms=()),
        residual=None,
        error_ppm=1_000,
        drift_micro=10,
        noise_micro=10,
        temperature_min_milli=600,
        top_p_min_ppm=900_000,
        alternatives=_alternatives(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=("1",)),
    )
    counts, squares = [0] * 5, [0] * 5
    for number in range(responses):
        sampling = Sampling(max_tokens=tokens)
        prompt = model.codec.encode(f"calibration {number}")
        ids = model.answer(prompt, sampling, number)
        claimed = claims.Claims(
            prompt_ids=tuple(prompt), output_ids=tuple(ids), sampling=sampling, seed=number
        )
        finding = scores.verify(claimed, model.recompute(prompt, ids).logits, empty)
        for place, count in enumerate(references.count(empty, finding.values("margin"))):
            counts[place] += count
            squares[place] += count * count
    histogram = Histogram(
        name="itself",
        responses=responses,
        tokens=responses * tokens,
        tokens_squared=responses * tokens**2,
        counts=tuple(counts),
        counts_squared=tuple(squares),
        crosses=tuple(count * tokens for count in counts),
    )
    return replace(empty, margin=replace(empty.margin, histograms=(histogram,)))


def _alternatives() -> tuple[Alternative, ...]:
    """Return what honest answers are told from, by either method."""
    cheats = (
        *(("int4-weights", channels, 200) for channels in (_BOTH, _BOTH[:1], _BOTH[1:])),
        ("smaller-model", _BOTH[1:], 600),
    )
    return tuple(
        Alternative(
            name=name, channels=channels, log10_level_milli=5000, tokens=tokens, method=method
        )
        for method in (BY_BINS, BY_TAILS)
        for name, channels, tokens in cheats
    )


def _payload(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])
