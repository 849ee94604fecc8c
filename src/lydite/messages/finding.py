"""A Finding: what one verifier established about one piece of Evidence, with its numbers.

Knows nothing of policy: a Finding records, the appraisal judges.
"""

from lydite.errors import Reason
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
