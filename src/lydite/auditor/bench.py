"""The bench of verifiers: one receipt and its opening in, Findings out.

Recomputes with its own copy of the declared model. Knows nothing of logs, networks or verdicts.
"""

from lydite.appraisal.examination import examine
from lydite.engines.protocol import Engine
from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.evidence.tokens import claims as tokens
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.reference import KIND, Reference
from lydite.messages import opening as openings
from lydite.messages.commitment import RequestCommitment, sampling_seed
from lydite.messages.finding import Finding
from lydite.messages.opening import Opening
from lydite.messages.receipt import Receipt
from lydite.messages.tier import Tier

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Bench:
    """Verifiers for one declared model."""

    def __init__(self, engine: Engine, reference: Reference) -> None:
        self._engine = engine
        self._reference = reference

    def examine(self, receipt: Receipt, opening: Opening, *, declares_ids: bool) -> list[Finding]:
        """Return the findings of every kind of evidence on one drawn receipt."""
        return [examine(KIND, lambda: self._tokens(receipt, opening, declares_ids=declares_ids))]

    def _tokens(self, receipt: Receipt, opening: Opening, *, declares_ids: bool) -> Finding:
        """Recompute one answer by a teacher-forced pass and record its scores.

        1. The opening is what the receipt commits to; that it is not is the gateway's doing.
        2. The answer names its tokens, as declared.
        3. The tokens spell the text that the client read.
        4. It ends where the model, the request or the context ends it.
        5. The declared model scores each token.
        """
        # 1.
        try:
            openings.check(opening, receipt)
        except VerificationError as error:
            raise UnavailableError(str(error), error.reason) from error
        if not 200 <= opening.status < 300:
            raise UnavailableError(f"answered with HTTP {opening.status}", Reason.UPSTREAM_FAILED)
        # 2.
        try:
            exchange = tokens.from_exchange(
                opening.path, opening.request_bytes(), opening.response_bytes()
            )
        except UnavailableError as error:
            whole = receipt.predicate.response.outcome == "complete"
            if error.reason is Reason.NO_TOKEN_IDS and declares_ids and whole:
                return Finding(kind=KIND, tier=Tier.WARNING, reason=error.reason)
            raise
        seed = sampling_seed(
            opening.salt_bytes(),
            RequestCommitment(bytes.fromhex(receipt.predicate.request.commitment)),
        )
        claimed = tokens.claims(exchange, self._prompt_ids(exchange), seed)
        tokens.check_vocabulary(claimed, self._engine.vocabulary)
        if len(claimed.prompt_ids) + len(claimed.output_ids) > self._engine.context_length:
            raise UnavailableError("longer than the declared model's context", Reason.UNSUPPORTED)
        # 3.
        if not self._spells(exchange):
            return Finding(kind=KIND, tier=Tier.WARNING, reason=Reason.TEXT_DIFFERS)
        # 4.
        if not self._ended(exchange, len(claimed.prompt_ids)):
            return Finding(kind=KIND, tier=Tier.WARNING, reason=Reason.CUT_SHORT)
        # 5.
        logits = self._engine.logits(claimed.prompt_ids, claimed.output_ids)
        return verifier.verify(claimed, logits, self._reference)

    def _prompt_ids(self, exchange: tokens.Exchange) -> list[int]:
        prompt = exchange.prompt
        if isinstance(prompt, str):
            return self._engine.codec.encode(prompt)
        turns = [turn for turn in prompt if isinstance(turn, tokens.Turn)]
        if turns:
            return self._engine.codec.render_chat(
                [{"role": turn.role, "content": turn.content} for turn in turns]
            )
        return [token for token in prompt if isinstance(token, int)]

    def _spells(self, exchange: tokens.Exchange) -> bool:
        """Say whether the ids spell the text; a broken stream may shorten it.

        Some servers write out a character that the last token leaves unfinished, others do not.
        """
        spelt = self._engine.codec.decode(exchange.output_ids)
        text = exchange.text.rstrip(_UNFINISHED)
        if not exchange.complete or _stopped(exchange, spelt):
            return spelt.startswith(text)
        return spelt.rstrip(_UNFINISHED) == text

    def _ended(self, exchange: tokens.Exchange, prompt: int) -> bool:
        """Say whether an answer that is complete had a reason to end; a broken one needs none."""
        count, limit = len(exchange.output_ids), exchange.sampling.max_tokens
        if not exchange.complete:
            return True
        if exchange.finish_reason == "length":
            full = prompt + count >= self._engine.context_length
            return full or (limit is not None and count >= limit)
        spelt = self._engine.codec.decode(exchange.output_ids)
        return self._engine.is_end(exchange.output_ids[-1]) or _stopped(exchange, spelt)


def _stopped(exchange: tokens.Exchange, spelt: str) -> bool:
    """Say whether one of the request's stop strings stands where the text ends."""
    return spelt.startswith(tuple(exchange.text + stop for stop in exchange.sampling.stop))
