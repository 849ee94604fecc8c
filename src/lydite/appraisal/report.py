"""What a relying party is told after a bundle was checked. Knows nothing of how it is printed."""

from lydite.errors import Reason
from lydite.messages.audit import Skip
from lydite.messages.canonical import Count, Integer, Message
from lydite.messages.tier import Tier


class Fact(Message, frozen=True, kw_only=True):
    """One line of the report."""

    name: str
    value: str


class Report(Message, frozen=True, kw_only=True):
    """The outcome, what it rests on, what was skipped, and what it does not show."""

    tier: Tier
    reason: Reason
    headline: str = ""
    """What a person reads first; the tier's words if empty."""
    detail: str = ""
    provider: str = ""
    log10_e_milli: Integer = 0
    audited: Count = 0
    scored: Count = 0
    tokens: Count = 0
    facts: tuple[Fact, ...] = ()
    skipped: tuple[Skip, ...] = ()
    caveats: tuple[str, ...] = ()


def refused(tier: Tier, reason: Reason, detail: str) -> Report:
    """Return the report on evidence that ended before a verdict could be recomputed."""
    headline = "evidence refused" if tier is Tier.CONTRAINDICATED else ""
    return Report(tier=tier, reason=reason, headline=headline, detail=detail)
