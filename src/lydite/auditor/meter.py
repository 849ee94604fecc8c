"""The egress meter: weighs every answer that a gateway gave, and tells it what each can carry.

Recomputes with the declared model, like the bench, but all answers and in their order. Judges
nothing; what happens to a session that carried too much is for the gateway to say.
"""

import base64
import hashlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lydite.auditor import reading
from lydite.engines.protocol import Engine
from lydite.errors import FormatError, LyditeError, Reason, UnavailableError, VerificationError
from lydite.evidence.egress import frame, verifier
from lydite.evidence.egress import reference as references
from lydite.evidence.egress.claims import Claims, Outflow
from lydite.evidence.egress.reference import Charge, Ledger, Reference
from lydite.evidence.egress.verifier import Choice
from lydite.evidence.tokens import claims as tokens
from lydite.evidence.tokens.noise.murmur import gumbel
from lydite.evidence.tokens.sampling import Sampling
from lydite.evidence.tokens.verifier import support
from lydite.messages import opening as openings
from lydite.messages.canonical import encode
from lydite.messages.commitment import commit_request
from lydite.messages.egress import Score, ScorePredicate
from lydite.messages.finding import Finding
from lydite.messages.opening import Opening
from lydite.messages.statement import subject
from lydite.signing.keys import Signer, sign_envelope

_logger = logging.getLogger(__name__)
_FINDING_BYTES = 4 << 20
"""A larger finding is not handed in: a gateway takes scores of 8 MiB, in base64."""
_SESSIONS = 4096
_MICRO = 1_000_000


class Gateway(Protocol):
    """What a meter asks of a gateway."""

    def unscored(self) -> list[int]:
        """Return the entries that wait for a score, in order."""

    def outflow(self, entry: int) -> Outflow:
        """Return the gateway's note on an answer that waits for a score."""

    def score(self, envelope: bytes) -> None:
        """Hand in a score."""


class Scale:
    """Weighs answers of one declared model; has no memory."""

    def __init__(self, engine: Engine, reference: Reference) -> None:
        """Take the declared model as the reference says that the meter computes it."""
        self._engine = engine
        self._reference = reference
        every = range(engine.vocabulary)
        self._ends = [token for token in every if engine.is_end(token)]

    def weigh(self, note: Outflow) -> Finding:
        """Return what an answer costs; by its size where its tokens cannot be recomputed.

        1. The request is one that can be recomputed.
        2. The answer names its tokens, and they spell the text that the client read.
        3. Each byte that is not text follows from what is known, or is charged.
        4. One teacher-forced pass says what the declared sampler had before it at each token.
        """
        try:
            opening = _opened(note)
            response = opening.response_bytes()
        except FormatError as error:  # how much left is not known: as much as the note can hold
            _logger.error("entry %d is charged at its full size: %s", note.entry, error)
            return references.coarse(frame.BYTE_MICRO * len(note.opening), error.reason)
        try:
            finding = self._recomputed(note, opening)
            size = len(encode(finding))
            if size > _FINDING_BYTES:
                raise FormatError(f"a finding of {size} bytes", Reason.TOO_LARGE)
            return finding
        except (FormatError, VerificationError, UnavailableError) as error:
            return references.coarse(frame.coarse_micro(response), error.reason)
        except Exception:  # a provider wrote these bytes: no bug in reading them, recursion and
            # memory included, may leave them unscored or stop the meter
            _logger.exception("entry %d is charged by its size", note.entry)
            return references.coarse(frame.coarse_micro(response), Reason.MALFORMED)

    def _recomputed(self, note: Outflow, opening: Opening) -> Finding:
        # 1. and 2.
        engine, request = self._engine, opening.request_bytes()
        if not 200 <= opening.status < 300:
            raise UnavailableError(f"answered with HTTP {opening.status}", Reason.UPSTREAM_FAILED)
        asked = tokens.asked(opening.path, request)
        exchange = tokens.answered(asked, opening.response_bytes())
        prompt = reading.prompt_ids(engine, asked)
        commitment = commit_request(opening.salt_bytes(), opening.path.encode(), request)
        claimed = tokens.claims(exchange, prompt, reading.seed(opening, commitment.hex()))
        tokens.check_vocabulary(claimed, engine.vocabulary)
        if not reading.spells(engine, exchange):
            raise VerificationError(Reason.TEXT_DIFFERS, "the tokens do not spell the text")
        # 3.
        finish = reading.finish(engine, exchange, len(prompt))
        known = frame.Known(
            receipt_id=note.receipt_id,
            model=asked.model,
            received_s=note.received_s,
            prompt_ids=claimed.prompt_ids,
            output_ids=claimed.output_ids,
            streamed=asked.streamed,
            ends=() if finish is None else (finish,),
            stops=asked.sampling.stop,
        )
        left = frame.read(opening.response_bytes(), known, engine.codec.decode)
        # 4.
        claims = Claims(
            output_ids=claimed.output_ids,
            ending="whole" if exchange.complete and finish is not None else "cut",
            frame=left,
        )
        return self.of_tokens(claimed, claims)

    def of_tokens(self, claimed: tokens.Claims, claims: Claims) -> Finding:
        """Return what the tokens of an answer cost that was read already."""
        logits = self._engine.recompute(claimed.prompt_ids, claimed.output_ids).logits
        rows = choices(claimed, logits, self._reference.noise_micro / _MICRO)
        return verifier.verify(claims, rows, self._ends, self._reference)


def _opened(note: Outflow) -> Opening:
    try:
        return openings.parse(_noted(note))
    except ValueError as error:
        raise FormatError(f"note on entry {note.entry}: {error}") from error


def _noted(note: Outflow) -> bytes:
    """Return the bytes that a note gives as the opening; ValueError if it gives none."""
    return base64.b64decode(note.opening, validate=True)


def choices(claimed: tokens.Claims, logits: NDArray[np.floating], noise: float) -> Iterator[Choice]:
    """Yield what the declared sampler had before it at each token; ``noise`` in logits."""
    sampling, size = claimed.sampling, logits.shape[1] if logits.size else 0
    heat = sampling.temperature or 1.0
    for position, row in enumerate(logits, len(claimed.prompt_ids) - 1):
        scaled = row.astype(np.float64) / heat
        noisy = scaled * heat
        if sampling.temperature:
            noisy = noisy + heat * gumbel(claimed.seed, position, size)
            exact = support(scaled, sampling, 0.0)
            kept = support(scaled, sampling, noise / heat)
        else:
            exact = kept = support(scaled, Sampling(), 0.0)
        yield Choice(scaled, noisy, exact.possible, kept.certain, kept.possible)


class Meter:
    """Scores the answers of one gateway, each session with a code of its own."""

    def __init__(
        self,
        client: Gateway,
        scale: Scale,
        reference: Reference,
        signer: Signer,
        kept: Path | None = None,
    ) -> None:
        """Take what to ask, weigh and sign with; ``kept`` is a file that scores are added to."""
        self._client = client
        self._scale = scale
        self._reference = reference
        self._signer = signer
        self._kept = kept
        self._ledgers: OrderedDict[str, tuple[Ledger, int]] = OrderedDict()
        self._signed: dict[int, bytes] = {}
        self.tokens = 0
        """How many were weighed."""
        self.skipped: Counter[Reason] = Counter()
        """Answers that could not be read and were charged by their size, by why."""

    def round(self) -> int:
        """Score every answer that waits, in order, and return how many there were.

        Raises:
            LyditeError: one of them could not be had or handed in; the others were, and what was
                weighed is handed in next time.
        """
        waiting = self._client.unscored()
        self._signed = {entry: said for entry, said in self._signed.items() if entry in waiting}
        failed: LyditeError | None = None
        for entry in waiting:
            try:
                self._signed[entry] = self._signed.get(entry) or self._weighed(entry)
                self._client.score(self._signed[entry])
            except LyditeError as error:  # one that is gone does not hold up the others
                failed = error
        if failed is not None:
            raise failed
        return len(waiting)

    def _weighed(self, entry: int) -> bytes:
        note = self._client.outflow(entry)
        finding = self._scale.weigh(note)
        if any(measure.name == references.COARSE for measure in finding.measures):
            self.skipped[finding.reason] += 1
        self.tokens += len(finding.values(references.ROWS[0]))
        ledger, since = self._ledger(note)
        envelope = self._sealed(note, finding, ledger.charge(finding), since)
        if self._kept is not None:
            with self._kept.open("ab") as file:
                file.write(envelope + b"\n")
        return envelope

    def _ledger(self, note: Outflow) -> tuple[Ledger, int]:
        """Return the code of a session; one that was forgotten begins anew, and says so."""
        found = self._ledgers.pop(note.session, None) or (Ledger(self._reference), note.entry)
        self._ledgers[note.session] = found
        if len(self._ledgers) > _SESSIONS:
            self._ledgers.popitem(last=False)
        return found

    def _sealed(self, note: Outflow, finding: Finding, charge: Charge, since: int) -> bytes:
        try:
            opened = _noted(note)
        except ValueError:  # the score is on what the gateway said, whatever that is
            opened = note.opening.encode(errors="surrogatepass")
        statement = Score(
            subject=subject("opening", hashlib.sha256(opened).digest()),
            predicate=ScorePredicate(
                entry=note.entry,
                receipt_id=note.receipt_id,
                session=note.session,
                tokens_micro=charge.tokens,
                ending_micro=charge.ending,
                frame_micro=charge.frame,
                coarse_micro=charge.coarse,
                since=since,
                finding=finding,
                meter=self._signer.keyid,
                issued=_now(),
            ),
        )
        return sign_envelope(encode(statement), self._signer)


def recount(scores: list[ScorePredicate], reference: Reference) -> list[int]:
    """Return what each of a session's scores has to say, in micro-bits, from its findings alone.

    Raises:
        VerificationError: a score says something else, or was made with another reference.
    """
    ledger, since, found = Ledger(reference), 0, []
    for said in sorted(scores, key=lambda score: score.entry):
        if said.since != since:
            ledger, since = Ledger(reference), said.since
        if said.finding.reference is not None:
            references.check_reference(said.finding, reference)
        micro = ledger.charge(said.finding).micro_bits
        if micro != said.micro_bits:
            raise VerificationError(
                Reason.FINDING_MISMATCH, f"entry {said.entry}: {said.micro_bits}, not {micro}"
            )
        found.append(micro)
    return found


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"


def work(meters: list[tuple[str, Meter]], period_s: float, *, once: bool) -> Iterator[str]:
    """Score until told to stop, yielding a line about each round that did something."""
    while True:
        for name, meter in meters:
            started, before = time.monotonic(), meter.tokens
            skipped = meter.skipped.copy()
            try:
                count = meter.round()
            except LyditeError as error:
                yield f"{name}: {error} ({error.reason})"
                continue
            except Exception:  # a bug met with one gateway must not leave the others unmetered
                _logger.exception("%s: a round failed", name)
                yield f"{name}: a round failed"
                continue
            if count:
                rate = (meter.tokens - before) / max(time.monotonic() - started, 1e-9)
                coarse = sum((meter.skipped - skipped).values())
                more = f", {coarse} of them by their size" if coarse else ""
                yield f"{name}: {count} answers scored{more}, {rate:.0f} tokens/s"
        if once:
            return
        time.sleep(period_s)
