"""What runs beside the gateway: declared work, put together from what it signed.

Only whoever declares imports this. Invents no count: a request without tokens is left out, and how
many were is returned beside the claims.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from lydite.evidence.power import claims as declared
from lydite.evidence.power.claims import Claims, Request


class Answered(NamedTuple):
    """One answer as a gateway knows it."""

    receipt: str
    tenant: str
    received_us: int
    first_us: int
    completed_us: int
    prompt_tokens: int
    output_tokens: int


def declare(frame: Claims, answers: Iterable[Answered]) -> tuple[Claims, int]:
    """Return the run ``frame`` with the answers that it holds, and how many were left out.

    Left out are answers without tokens (refused, broken off) and those that no part of the run
    holds; one that reaches beyond it stays.

    Raises:
        FormatError: nothing is left, or an answer's times do not ascend.
    """
    kept, left_out = [], 0
    for one in answers:
        inside = frame.start_us < one.completed_us and one.received_us < frame.end_us
        if one.output_tokens < 1 or not inside:
            left_out += 1
            continue
        kept.append(Request(**one._asdict()))
    kept.sort(key=lambda one: (one.received_us, one.receipt))
    made = msgspec.structs.replace(frame, requests=tuple(kept))
    declared.check(made)
    return made, left_out
