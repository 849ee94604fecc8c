"""The one place where a foreseen failure becomes a Finding; any other is a bug and rises."""

from collections.abc import Callable

from lydite.errors import FormatError, UnavailableError, VerificationError
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier


def examine(kind: str, check: Callable[[], Finding]) -> Finding:
    """Run ``check`` and return its Finding, or the Finding that its failure amounts to."""
    try:
        return check()
    except VerificationError as error:
        return Finding(kind=kind, tier=Tier.CONTRAINDICATED, reason=error.reason)
    except (FormatError, UnavailableError) as error:  # nothing was learnt
        return Finding(kind=kind, tier=Tier.NONE, reason=error.reason)
