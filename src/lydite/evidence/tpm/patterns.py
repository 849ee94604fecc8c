"""Patterns of a policy by somebody else, held to forms that cannot take long.

Python's patterns backtrack: nested or neighbouring repetitions take exponential or polynomial
time. What is left here is linear in practice: repetitions of single characters, few of them.
Knows nothing of what is matched.
"""

import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from typing import Any

from lydite.errors import Reason, Refusal

MOST_LETTERS = 1024
MOST_REPEATS = 2
"""Repetitions without a bound in one alternative: more of them take cubic time."""
_SINGLE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)
_SHORT = 64
"""A bounded repetition up to this is as good as what it spells."""


def compile_pattern(text: str, what: str) -> re.Pattern[str]:
    """Return a pattern that takes no longer than the square of what it is matched with.

    Raises:
        Refusal: ``ima.regex-cost``.
    """
    if len(text) > MOST_LETTERS:
        raise _costly(what, f"{len(text)} letters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spellings that a later Python reads in another way
            tree = parser.parse(text)
            compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _costly(what, f"{text[:80]!r}: {error}") from error
    if _repeats(tree, what, text) > MOST_REPEATS:
        raise _costly(what, f"{text[:80]!r}: more than {MOST_REPEATS} repetitions")
    return compiled


def _repeats(tree: Any, what: str, text: str) -> int:
    """Return how many unbounded repetitions one way through ``tree`` meets."""
    found = 0
    for operator, argument in tree:
        if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            found += _repeated(argument[1], argument[2], what, text)
        elif operator is sre.SUBPATTERN:
            found += _repeats(argument[3], what, text)
        elif operator is sre.BRANCH:
            found += max(_repeats(each, what, text) for each in argument[1])
        elif operator not in (*_SINGLE, sre.AT):
            raise _costly(what, f"{text[:80]!r}: {operator}")
    return found


def _repeated(most: Any, inner: Any, what: str, text: str) -> int:
    """Return 1 for a repetition without a bound, 0 for a short one."""
    if most <= _SHORT:
        if _repeats(inner, what, text):
            raise _costly(what, f"{text[:80]!r}: a repetition within another")
        return 0
    if len(inner) != 1 or inner[0][0] not in _SINGLE:
        raise _costly(what, f"{text[:80]!r}: a repetition of more than one character")
    return 1


def _costly(what: str, got: str) -> Refusal:
    return Refusal(Reason.IMA_REGEX_COST, what, "a pattern of bounded cost", got)
