"""Which of many providers to name, when every one of them may be named by chance.

Knows nothing of providers: e-values by name, one each.
"""

import math
from collections.abc import Mapping

from lydite.errors import FormatError


def e_bh(log_es: Mapping[str, float], target: float) -> tuple[str, ...]:
    """Return whom to name, highest e-value first: the e-BH procedure.

    The k largest of m e-values, for the largest k such that the k-th is at least m / (k target).

    Guarantee: of those named, at most the share ``target`` is honest on average (the false
    discovery rate), however the e-values depend on each other, and also if each was stopped at a
    time of its own (Wang and Ramdas, arXiv 2009.02824). It says nothing about any single name:
    accuse by that provider's own e-value.

    Raises:
        FormatError: an e-value is NaN, or the target not in (0, 1].
    """
    if not 0.0 < target <= 1.0 or any(math.isnan(value) for value in log_es.values()):
        raise FormatError("a target between 0 and 1, and e-values that are numbers")
    ranked = sorted(log_es, key=lambda name: (-log_es[name], name))
    size = len(ranked)
    enough = [
        k for k, name in enumerate(ranked, 1) if log_es[name] >= math.log(size / (k * target))
    ]
    return tuple(ranked[: max(enough, default=0)])
