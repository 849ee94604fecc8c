"""Holds a gateway to every receipt in the journal that a verified client kept."""

import time
from pathlib import Path

from lydite.appraisal import promises
from lydite.appraisal.promises import Kept
from lydite.appraisal.report import Report, refused
from lydite.appraisal.trust import Trust
from lydite.auditor.gateway_client import GatewayClient
from lydite.cli.files import read
from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.messages.tier import Tier

_TIMEOUT_S = 10.0


def settle(journal: Path, trust: Trust, deadline_s: float) -> Report:
    """Fetch the statement of each receipt, check it, and sum up.

    A gateway that gives no whole answer in time is not asked again.

    Raises:
        FormatError: a line of the journal is not in its form.
        ConfigurationError: a line names no gateway's URL.
    """
    book = _Book(trust, int(deadline_s * 1000))
    return promises.summed([book.settle(kept) for kept in promises.parse_journal(read(journal))])


class _Book:
    """What is known while a journal is read."""

    def __init__(self, trust: Trust, deadline_ms: int) -> None:
        self._trust = trust
        self._deadline_ms = deadline_ms
        self._seen: set[str] = set()
        self._silent: dict[str, Report] = {}

    def settle(self, kept: Kept) -> Report:
        """Return what became of one promise; that of one broken hides none of the others."""
        if kept.url in self._silent:
            return self._silent[kept.url]
        try:
            if kept.compact.id in self._seen:
                raise VerificationError(
                    Reason.REPLAYED, f"receipt {kept.compact.id} came with two answers"
                )
            self._seen.add(kept.compact.id)
            served = GatewayClient(kept.url, "", timeout_s=_TIMEOUT_S).statement(kept.compact.id)
            return promises.settle(
                kept,
                served,
                self._trust,
                now_ms=int(time.time() * 1000),
                deadline_ms=self._deadline_ms,
            )
        except UnavailableError as error:  # the network may be to blame: nothing was learnt
            report = refused(Tier.NONE, error.reason, str(error))
            self._silent[kept.url] = report
            return report
        except (FormatError, VerificationError) as error:
            return refused(Tier.CONTRAINDICATED, error.reason, str(error))
