"""Tiers of an attestation result (AR4SI, draft-ietf-rats-ar4si), and what a person reads.

A tier has no truth value: ``if tier:`` is a ``TypeError``.
"""

import enum
from typing import NoReturn


class Tier(enum.Enum):
    """How far a relying party may go on this evidence."""

    AFFIRMING = "affirming"
    CONTRAINDICATED = "contraindicated"
    WARNING = "warning"
    NONE = "none"

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth value."""
        raise TypeError("a tier has no truth value; compare it with `is`")

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends in this tier (2 is usage or configuration)."""
        return {"affirming": 0, "contraindicated": 1, "warning": 3, "none": 4}[self.value]

    @property
    def words(self) -> str:
        """What a person reads."""
        return {
            "affirming": "consistent",
            "contraindicated": "inconsistent",
            "warning": "misconfigured",
            "none": "inconclusive",
        }[self.value]
