"""Where a token falls in its own distribution: uniform if it was drawn from it.

Needs neither seed nor calibration. Knows nothing of models: masses and a tie come in, a bin goes
out, and ``statistics.bins`` bets on it.
"""

from lydite.errors import FormatError

MICRO = 1_000_000
BINS = 10


def value_micro(above: float, tied: float, tie: float) -> int:
    """Return ``above + tie * tied`` in millionths: the probability integral transform.

    ``above``: probability of all tokens likelier than the served one; ``tied``: of all as likely,
    itself included; ``tie``: as ``statistics.ties`` makes it, one a token. A token outside of the
    support (``tied`` = 0) is no draw at all: score it elsewhere.

    Guarantee: exactly uniform, up to rounding to millionths, if the token was drawn from the
    distribution whose masses these are and the tie is uniform.

    Raises:
        FormatError: not masses of one distribution, or a tie that is not between 0 and 1.
    """
    if not (above >= 0.0 and tied > 0.0 and above + tied <= 1.0 + 1e-6 and 0.0 < tie < 1.0):
        raise FormatError(f"no place in a distribution: {above} above, {tied} tied, tie {tie}")
    return min(int((above + tie * tied) * MICRO), MICRO - 1)


def bin_of(value: int) -> int:
    """Return which of the ten bins a recorded value falls into.

    Raises:
        FormatError: no value of ``value_micro``.
    """
    if not 0 <= value < MICRO:
        raise FormatError(f"transform of {value} millionths, expected 0 to {MICRO - 1}")
    return value * BINS // MICRO


def null(drift_micro: int = 0) -> tuple[float, ...]:
    """Return the ceiling of each bin: exactly 1/10, or that plus the drift of honest machines.

    ``drift_micro`` bounds, in millionths, the total variation between the provider's distribution
    and the one that the masses are of. With 0 the null is exact and costs nothing a token.

    Raises:
        FormatError: a drift outside [0, 1/2].
    """
    if not 0 <= drift_micro <= MICRO // 2:
        raise FormatError(f"drift of {drift_micro} millionths, expected 0 to {MICRO // 2}")
    return (1 / BINS + drift_micro / MICRO,) * BINS
