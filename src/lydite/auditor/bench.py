"""The bench of verifiers: one receipt and its opening in, Findings out.

Recomputes with its own copy of the declared model, several answers together where there are
several. Knows nothing of logs, networks or verdicts.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lydite.appraisal.examination import examine
from lydite.appraisal.references import Reference, check_set, of_kind
from lydite.auditor import reading, sketching
from lydite.auditor.sketching import Read
from lydite.engines.buckets import Answer
from lydite.engines.protocol import Engine, Recomputed
from lydite.errors import FormatError, LyditeError, Reason, UnavailableError, VerificationError
from lydite.evidence.activations import reference as activations
from lydite.evidence.tokens import claims as tokens
from lydite.evidence.tokens import logprobs, verifier
from lydite.evidence.tokens import reference as tokens_reference
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.reference import KIND, check_covered
from lydite.messages import opening as openings
from lydite.messages.finding import Finding
from lydite.messages.opening import Opening
from lydite.messages.receipt import Receipt
from lydite.messages.tier import Tier

_Passes = tuple[Recomputed, Recomputed | None]
"""In the auditor's arithmetic and, where that is at hand, in that of the declared data type."""
_Recompute = Callable[[tokens.Claims], _Passes]
_PENDING = Finding(kind=KIND, tier=Tier.NONE, reason=Reason.PENDING)


class Case(NamedTuple):
    """One drawn receipt, and what the gateway opened for it."""

    receipt: Receipt
    opening: Opening


class Bench:
    """Verifiers for one declared model."""

    def __init__(
        self, engine: Engine, references: tuple[Reference, ...], second: Engine | None = None
    ) -> None:
        """Take the declared model in the auditor's arithmetic, and in that of its data type.

        Tokens before which the two disagree are not scored. Without ``second`` all of them are.

        Raises:
            VerificationError: the references do not go together, or none is for tokens.
        """
        check_set(references)
        self.references = references
        self._engine = engine
        self._reference = of_kind(references, tokens_reference.Reference)
        self._sketches = next((r for r in references if isinstance(r, activations.Reference)), None)
        self._second = second

    def examine(self, receipt: Receipt, opening: Opening, *, declares_ids: bool) -> list[Finding]:
        """Return the findings of every kind of evidence on one drawn receipt.

        Of the log-probabilities that an answer gives a finding of their own tells, if they cannot
        be read: its tokens are scored all the same.
        """
        case = Case(receipt, opening)
        read = self._read(case, declares_ids=declares_ids)
        return self._findings(case, read, self._alone)

    def examine_all(self, cases: Sequence[Case], *, declares_ids: bool) -> list[list[Finding]]:
        """Return what ``examine`` finds on each of several receipts, recomputed together.

        An answer that cannot be recomputed, or a pass that fails, leaves the others to be
        recomputed one by one, so that nobody's finding depends on who stands beside it.
        """
        reads = [self._read(case, declares_ids=declares_ids) for case in cases]
        found: dict[int, list[Finding]] = {}
        waiting = [place for place, read in enumerate(reads) if read.tokens is not None]
        claimed = [read.tokens for read in reads if read.tokens is not None]
        with contextlib.suppress(LyditeError, RuntimeError):  # the latter are torch's: no memory
            for at, passes in self._together(claimed):
                place = waiting[at]
                found[place] = self._findings(cases[place], reads[place], lambda _, p=passes: p)  # type: ignore[misc]
                reads[place] = Read()  # logits are large
        for place, read in enumerate(reads):
            if place not in found:
                found[place] = self._findings(cases[place], read, self._alone)
        return [found[place] for place in range(len(cases))]

    def _read(self, case: Case, *, declares_ids: bool) -> Read:
        """Return what can be said of an answer before it is recomputed."""
        read = Read()
        read.found = examine(KIND, lambda: self._tokens(case, read, declares_ids=declares_ids))
        return read

    def _findings(self, case: Case, read: Read, recompute: _Recompute) -> list[Finding]:
        """Score an answer, if it is one to score, by the passes that ``recompute`` returns."""
        claimed = read.tokens
        if claimed is not None:
            read.found = examine(KIND, lambda: self._scored(claimed, read, recompute(claimed)))
        found, sketches = [read.found or _PENDING, *read.beside], self._sketches
        if sketches is not None:
            kind = activations.KIND
            found.append(examine(kind, lambda: sketching.examine(*case, read, sketches)))
        return found

    def _alone(self, claimed: tokens.Claims) -> _Passes:
        both = (claimed.prompt_ids, claimed.output_ids)
        second = self._second
        return self._engine.recompute(*both), None if second is None else second.recompute(*both)

    def _together(self, claimed: Sequence[tokens.Claims]) -> Iterator[tuple[int, _Passes]]:
        """Yield the passes over each answer as they come, the two engines side by side.

        The second shares no beginnings: its digits decide which tokens count, and are not to hang
        on who else is there.
        """
        answers = [Answer(each.prompt_ids, each.output_ids) for each in claimed]
        if self._second is None:
            yield from ((at, (one, None)) for at, one in self._engine.recompute_all(answers))
            return
        others, ahead = self._second.recompute_all(answers, sharing=False), {}
        for at, one in self._engine.recompute_all(answers):
            while at not in ahead:
                place, other = next(others)
                ahead[place] = other
            yield at, (one, ahead.pop(at))

    def _tokens(self, case: Case, read: Read, *, declares_ids: bool) -> Finding:
        """Read the tokens of one answer; those that are to be scored are then in ``read``.

        1. The opening is what the receipt commits to; that it is not is the gateway's doing.
        2. The request is one that can be recomputed; that it is not is the client's doing.
        3. The answer is one to this request and names its tokens, as declared.
        4. The tokens spell the text that the client read.
        5. It ends where the model, the request or the context ends it.
        """
        # 1. and 2.
        receipt, opening = case
        read.asked = asked = self._asked(receipt, opening)
        if not 200 <= opening.status < 300:
            return _failed(opening)
        prompt_ids = reading.prompt_ids(self._engine, asked)
        # 3. From here on a fault is the answer's doing, so it may not pass in silence.
        try:
            exchange = tokens.answered(asked, opening.response_bytes())
        except (FormatError, UnavailableError) as error:
            return _odd(error, receipt, asked, declares_ids=declares_ids)
        if not exchange.output_ids:
            raise UnavailableError("an answer of no tokens", Reason.NO_TOKEN_IDS)
        seed = reading.seed(opening, receipt.predicate.request.commitment)
        claimed = tokens.claims(exchange, prompt_ids, seed, _served(asked, exchange, read.beside))
        # 4. and 5.
        fault = self._fault(exchange, claimed)
        if fault is not None:
            return _warning(fault)
        read.tokens = claimed
        return _PENDING

    def _asked(self, receipt: Receipt, opening: Opening) -> tokens.Asked:
        try:
            openings.check(opening, receipt)
        except VerificationError as error:
            raise UnavailableError(str(error), error.reason) from error
        asked = tokens.asked(opening.path, opening.request_bytes())
        check_covered(self._reference, asked.sampling)
        return asked

    def _fault(self, exchange: tokens.Exchange, claimed: tokens.Claims) -> Reason | None:
        """Return what is wrong with an answer as such, None if nothing is."""
        try:
            tokens.check_vocabulary(claimed, self._engine.vocabulary)
        except VerificationError as error:  # another tokenizer is a mistake before it is a lie
            return error.reason
        if len(claimed.prompt_ids) + len(claimed.output_ids) > self._engine.context_length:
            return Reason.ODD_ANSWER
        if not reading.spells(self._engine, exchange):
            return Reason.TEXT_DIFFERS
        broken = not exchange.complete  # such an answer needs no reason to end
        if broken or reading.ended(self._engine, exchange, len(claimed.prompt_ids)):
            return None
        return Reason.CUT_SHORT

    def _scored(self, claimed: tokens.Claims, read: Read, passes: _Passes) -> Finding:
        """Score the tokens before which honest machines agree."""
        read.pass_, read.second = passes
        logits = read.pass_.logits
        finding = verifier.verify(claimed, logits, self._reference)
        if read.second is None:
            return finding
        kept = verifier.settled(logits, read.second.logits, self._reference)
        return verifier.keep(finding, kept)


def _served(asked: tokens.Asked, exchange: tokens.Exchange, beside: list[Finding]) -> Served | None:
    """Return the log-probabilities of an answer; add to ``beside`` why there are none to be read.

    Where nobody asked for any, an answer may well have none. One that gives what no honest server
    gives is odd whoever asked.
    """
    try:
        return logprobs.read(exchange.logprobs, exchange.output_ids, chat=asked.chat)
    except UnavailableError as error:
        if asked.scored:
            beside.append(Finding(kind=KIND, tier=Tier.NONE, reason=error.reason))
    except FormatError as error:
        beside.append(Finding(kind=KIND, tier=Tier.WARNING, reason=error.reason))
    return None


def _odd(
    error: FormatError | UnavailableError,
    receipt: Receipt,
    asked: tokens.Asked,
    *,
    declares_ids: bool,
) -> Finding:
    """Return the finding on an answer that cannot be read as one to its request.

    Excused are ids that were never declared, and an answer in one piece that did not arrive;
    nothing else: what a client could read has to be accounted for.
    """
    served = receipt.predicate.response
    if error.reason is Reason.NO_TOKEN_IDS:
        if declares_ids:
            return _warning(Reason.NO_TOKEN_IDS)
        raise UnavailableError(str(error), error.reason) from error
    if served.outcome != "complete" and not (asked.streamed or served.streamed):
        raise UnavailableError("the answer did not arrive", Reason.UPSTREAM_FAILED) from error
    return _warning(Reason.ODD_ANSWER)


def _failed(opening: Opening) -> Finding:
    """Return the finding on an error: no answer, unless it is one under another status."""
    if b'"choices"' in opening.response_bytes():
        return _warning(Reason.ODD_ANSWER)
    raise UnavailableError(f"answered with HTTP {opening.status}", Reason.UPSTREAM_FAILED)


def _warning(reason: Reason) -> Finding:
    return Finding(kind=KIND, tier=Tier.WARNING, reason=reason)
