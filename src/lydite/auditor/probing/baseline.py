"""What an endpoint said before, kept in a file: prompts, and the first token of each answer."""

import msgspec

from lydite.auditor.probing.comparing import Observation
from lydite.errors import FormatError
from lydite.messages.canonical import Message, Word


class Baseline(
    Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/endpoint-baseline/v1"
):
    """Observations in the order in which they were made, prompt after prompt, round after round."""

    model: Word
    prompts: tuple[str, ...]
    tracked: bool
    observations: tuple[Observation | None, ...]
    """None where an answer taught nothing."""


def encode(baseline: Baseline) -> bytes:
    """Return the file's content. Log-probabilities are floats, so it is not a canonical message."""
    return msgspec.json.encode(baseline)


def parse(content: bytes) -> Baseline:
    """Read a file that ``encode`` wrote.

    Raises:
        FormatError: it is none, or has no prompts.
    """
    try:
        baseline = msgspec.json.decode(content, type=Baseline)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"baseline: {error}") from error
    if not baseline.prompts:
        raise FormatError("baseline: no prompts")
    return baseline
