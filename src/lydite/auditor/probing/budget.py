"""What an audit may spend: requests, tokens and money. Knows nothing of what is asked."""

import threading

import msgspec

from lydite.errors import ConfigurationError


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that may be spent; what is spent is known only after an answer."""

    requests: int
    tokens: int
    """Of prompts and answers together, as the servers count them, or as we asked for."""
    cost: float | None = None
    """In the currency of ``price_per_million``."""
    price_per_million: float | None = None
    """For a million tokens, of prompts and answers alike."""

    def check(self) -> None:
        """Refuse what cannot be kept.

        Raises:
            ConfigurationError: a limit that is not positive, or a cost without a price.
        """
        numbers = (self.requests, self.tokens, self.cost, self.price_per_million)
        if any(number is not None and not number > 0 for number in numbers):
            raise ConfigurationError("limits and prices are above 0")
        if self.cost is not None and self.price_per_million is None:
            raise ConfigurationError("--max-cost needs --price-per-million")


class Budget:
    """What was spent so far; requests that are out count with the most that they may cost."""

    def __init__(self, limits: Limits) -> None:
        limits.check()
        self.limits = limits
        self.requests = 0
        self.tokens = 0
        self._held = 0
        self._lock = threading.Lock()

    def reserve(self, tokens: int) -> bool:
        """Set aside one request of at most ``tokens`` tokens, if the budget allows it."""
        with self._lock:
            after = self.tokens + self._held + tokens
            dear = self._cost(after) > (self.limits.cost or float("inf"))
            if self.requests >= self.limits.requests or after > self.limits.tokens or dear:
                return False
            self.requests += 1
            self._held += tokens
            return True

    def settle(self, reserved: int, spent: int) -> None:
        """Replace what was set aside by what was spent."""
        with self._lock:
            self._held -= reserved
            self.tokens += spent

    def cost(self) -> float:
        """Return what was spent, 0 where no price is known."""
        return self._cost(self.tokens)

    def _cost(self, tokens: int) -> float:
        return tokens * (self.limits.price_per_million or 0.0) / 1e6
