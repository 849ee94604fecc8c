"""One answer's sketch of its activations, held against the states of the auditor's own pass.

Takes what the bench made of the answer's tokens: where those could not be read, a sketch says
nothing. Knows nothing of logs or verdicts.
"""

import dataclasses

from lydite.engines.protocol import Recomputed
from lydite.errors import Reason, UnavailableError
from lydite.evidence.activations import claims, verifier
from lydite.evidence.activations.reference import Reference
from lydite.evidence.activations.verifier import Taps
from lydite.evidence.tokens.claims import Asked
from lydite.evidence.tokens.claims import Claims as Tokens
from lydite.messages.finding import Finding
from lydite.messages.opening import Opening
from lydite.messages.receipt import Receipt


@dataclasses.dataclass
class Read:
    """What became of one answer, as far as the bench came with its tokens."""

    asked: Asked | None = None
    found: Finding | None = None
    """On its tokens, so far."""
    tokens: Tokens | None = None
    pass_: Recomputed | None = None
    """The declared model in the auditor's arithmetic."""
    second: Recomputed | None = None
    """The same in that of its data type."""
    beside: list[Finding] = dataclasses.field(default_factory=list)
    """What was found beside the scores of its tokens."""


def examine(receipt: Receipt, opening: Opening, read: Read, reference: Reference) -> Finding:
    """Score the sketch that an answer carries.

    Raises:
        UnavailableError: its tokens could not be recomputed (``Reason.UNAVAILABLE``), or it
            carries no sketch (``Reason.NO_SKETCH``).
        FormatError: what it carries is no sketch of these tokens.

    **Does not show** what the verifier of activations does not show.
    """
    asked, tokens, recomputed = read.asked, read.tokens, read.pass_
    if asked is None or tokens is None or recomputed is None:
        raise UnavailableError("the tokens of this answer were not recomputed", Reason.UNAVAILABLE)
    claimed = claims.claims(
        claims.stated(opening.response_bytes(), streamed=asked.streamed),
        reference.spec,
        receipt_id=receipt.predicate.receipt_id,
        weights_root=reference.weights_root,
        prompt_ids=tokens.prompt_ids,
        output_ids=tokens.output_ids,
    )
    finding = verifier.verify(claimed, Taps(recomputed.states, recomputed.inner), reference)
    if read.second is None:
        return finding
    kept = verifier.settled(recomputed.states, read.second.states, reference)
    return verifier.keep(finding, kept)
