"""How much each session and each day may carry out, and which of those bounds is reached.

Budgets come from the settings and from what officers ordered, which the log keeps. Charges nothing.
"""

import hashlib

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.evidence.egress import attester
from lydite.evidence.egress.code import MICRO
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.settings import Egress as Limits
from lydite.messages import egress


class Allowance:
    """The bounds of one gateway.

    Raises:
        ConfigurationError: they leave known clients nothing.
    """

    def __init__(self, settings: Limits) -> None:
        if settings.clients and settings.budget_bits_anonymous >= settings.budget_bits_day:
            raise ConfigurationError("budget_bits_anonymous leaves known clients nothing of a day")
        self._settings = settings
        self._clients = frozenset(settings.clients)
        self._ordered: dict[tuple[egress.Scope, str], int] = {}

    def session_of(self, authorization: bytes, salt: bytes) -> str:
        """Return whose account an ``Authorization`` is charged to."""
        known = hashlib.sha256(authorization).hexdigest() in self._clients
        if self._clients and not known:
            return attester.ANONYMOUS
        return attester.session_of(authorization, salt)

    def set_budget(self, scope: egress.Scope, session: str, bits: int) -> None:
        """Set the budget of a session, or of the day (``session`` is empty)."""
        self._ordered[scope, session] = MICRO * bits

    def budget(self, scope: egress.Scope, session: str) -> int:
        """Return the budget of a session, or of the day (``session`` is empty), in micro-bits."""
        limits = self._settings
        bits = limits.budget_bits_day if scope == "day" else limits.budget_bits_session
        if self._clients and session == attester.ANONYMOUS:
            bits = limits.budget_bits_anonymous
        return self._ordered.get((scope, session), MICRO * bits)

    def reached(
        self, accounts: Accounts, day: int, session: str, *, beyond: bool = False
    ) -> UnavailableError | None:
        """Return which bound a session has reached; with ``beyond``, unscored ones it has passed.

        The latter is for answers that are charged already, and may fill an allowance to the brim.
        """
        spent = accounts.charged(day, session) >= self.budget("session", session)
        if spent or self._day_spent(accounts, day, session):
            whose = "this session" if spent else "this gateway's day"
            return UnavailableError(
                f"the egress budget of {whose} is spent; its operator may raise it",
                Reason.EGRESS_BUDGET,
            )
        limits, least = self._settings, int(beyond)
        full = accounts.waiting(session) >= MICRO * limits.unscored_bits_session + least
        if full or accounts.waiting() >= MICRO * limits.unscored_bits + least:
            return UnavailableError(
                "too many answers wait for the egress meter; try again later",
                Reason.EGRESS_WAITING,
            )
        return None

    def _day_spent(self, accounts: Accounts, day: int, session: str) -> bool:
        """Return whether the part of the day's budget that a session draws on is spent.

        With known clients all others have a part of their own, and spend no other.
        """
        charged, budget = accounts.charged_by_all(day), self.budget("day", "")
        if not self._clients or session == attester.ANONYMOUS:
            return charged >= budget
        others = accounts.charged(day, attester.ANONYMOUS)
        return charged - others >= budget - self.budget("session", attester.ANONYMOUS)
