"""A Finding: what one verifier established about one piece of Evidence, with its numbers.

Knows nothing of policy: a Finding records, the appraisal judges.
"""

from collections.abc import Sequence

from lydite.errors import Reason, VerificationError
from lydite.messages.canonical import Hex32, Integer, Message, Word
from lydite.messages.tier import Tier


class Measure(Message, frozen=True, kw_only=True):
    """A row of integers with a name and a unit, one value a token (or other unit of work)."""

    name: Word
    unit: Word
    values: tuple[Integer, ...]


class Finding(Message, frozen=True, kw_only=True):
    """One verifier's result on one piece of evidence.

    ``reference`` is the digest of the Reference Value that the scores are to be read against, or
    ``None`` where none was needed. ``measures`` hold the scores, so that others can judge again.
    """

    kind: Word
    tier: Tier
    reason: Reason
    reference: Hex32 | None = None
    measures: tuple[Measure, ...] = ()

    def values(self, name: str) -> tuple[int, ...]:
        """Return the row called ``name``, empty when this finding has none."""
        return next((m.values for m in self.measures if m.name == name), ())


def scored_against(reference: Hex32, kind: Word, findings: Sequence[Finding]) -> list[Finding]:
    """Return those of ``findings`` that hold scores of one kind of evidence, in their order.

    Raises:
        VerificationError: scores made against another Reference Value than ``reference``.
    """
    scored = [f for f in findings if f.kind == kind and any(m.values for m in f.measures)]
    for finding in scored:
        if finding.reference != reference:
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE,
                f"scores made against {finding.reference}, not {reference}",
            )
    return scored
