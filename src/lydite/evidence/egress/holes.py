"""Where a body holds what is known without it: taken out, and put back from what is known alone.

What is put back is computed from request, receipt, tokens and what was charged, never read. So a
body that does not come out byte for byte held something else, and is charged. Knows no costs.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

TAKEN = "\0"
_Put = Callable[[Any, Any], Any]


class Expected(NamedTuple):
    """What one body holds if it holds nothing else; None where nothing is expected."""

    receipt_id: str
    values: Mapping[str, Any]
    """At the top: the model, the prompt's ids, the date."""
    usage: Mapping[str, int | None]
    finish: str | None
    """Why the answer ends, if it ends here."""
    token_ids: list[int] | None
    text: str | None


def take(fields: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """Return a body without what was expected: equal to the last digit, or left where it is."""
    left = _walk(fields, expected, _taken)
    name = left.get("id")
    if isinstance(name, str) and name.endswith(expected.receipt_id):
        left["id"] = name.removesuffix(expected.receipt_id) + TAKEN
    return left


def fill(left: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """Return the body that ``take`` left this of, if it was one that ``take`` can be undone for."""
    fields = _walk(left, expected, _filled)
    name = fields.get("id")
    if isinstance(name, str) and name.endswith(TAKEN):
        fields["id"] = name.removesuffix(TAKEN) + expected.receipt_id
    return fields


def _taken(given: Any, value: Any) -> Any:
    """Compare spellings: to Python 1, 1.0 and true are the same."""
    return TAKEN if json.dumps(given) == json.dumps(value) else given


def _filled(given: Any, value: Any) -> Any:
    return value if given == TAKEN else given


def _walk(fields: Mapping[str, Any], expected: Expected, put: _Put) -> dict[str, Any]:
    left = _put(fields, expected.values, put)
    if isinstance(left.get("usage"), dict):
        left["usage"] = _put(left["usage"], expected.usage, put)
    choices = left.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        left["choices"] = [_choice(choices[0], expected, put), *choices[1:]]
    return left


def _choice(choice: Mapping[str, Any], expected: Expected, put: _Put) -> dict[str, Any]:
    left = _put(choice, {"finish_reason": expected.finish}, put)
    if expected.token_ids is None:
        return left
    left = _put(left, {"token_ids": expected.token_ids}, put)
    for holder in ("message", "delta"):
        if isinstance(left.get(holder), dict) and "content" in left[holder]:
            left[holder] = _put(left[holder], {"content": expected.text}, put)
            return left
    return _put(left, {"text": expected.text}, put)


def _put(fields: Mapping[str, Any], values: Mapping[str, Any], put: _Put) -> dict[str, Any]:
    return {
        name: put(given, values[name]) if name in values else given
        for name, given in fields.items()
    }


def said(choice: Mapping[str, Any]) -> Any:
    """Return what stands where the text of a choice is expected."""
    for holder in ("message", "delta"):
        inner = choice.get(holder)
        if isinstance(inner, dict) and "content" in inner:
            return inner["content"]
    return choice.get("text")
