"""A pattern that says how all of a text looks takes no line feed behind it, as ``$`` would."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lydite.messages.canonical import Hex, Hex32
from lydite.messages.instruction import Action, Name
from lydite.messages.mode import Boot
from lydite.messages.receipt import ReceiptId, Timestamp

SOURCE = Path(__file__).parents[2] / "src"
_DOLLAR = re.compile(r"(?<!\\)(?:\\\\)*\$")


def texts(node: ast.AST) -> Iterator[str]:
    """Every text or bytes in an expression."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str | bytes):
            yield each.value if isinstance(each.value, str) else each.value.decode("latin-1")


def traps(tree: ast.AST) -> Iterator[int]:
    """Lines whose pattern ends at a ``$`` that also stands before a last line feed."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        named = [each.value for each in call.keywords if each.arg == "pattern"]
        called = ast.unparse(call.func)
        if called.startswith("re.") and called != "re.escape" and call.args:
            flags = ast.unparse(call).rpartition(",")[2]
            if "MULTILINE" not in flags and "re.M" not in flags:
                named.append(call.args[0])
        for each in named:
            if any(_DOLLAR.search(text) for text in texts(each)):
                yield call.lineno


def test_no_pattern_ends_at_a_dollar() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line in traps(ast.parse(path.read_text("utf-8")))
    ]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        'x = Meta(pattern="^[0-9a-f]{64}$")',
        're.match("[0-9]+$", text)',
        'KEY = re.compile(rb"^a$")',
    ],
)
def test_the_trap_is_seen(code: str) -> None:
    assert list(traps(ast.parse(code)))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Hex32, "0" * 64),
        (Hex, "00"),
        (ReceiptId, "0" * 32),
        (Boot, "0" * 32),
        (Timestamp, "2026-11-20T00:00:00.000Z"),
        (Action, "stop-serving"),
        (Name, "bits"),
    ],
)
def test_no_word_takes_a_line_feed_behind_it(kind: object, text: str) -> None:
    said = msgspec.json.encode(text)
    assert msgspec.json.decode(said, type=kind) == text
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(text + "\n"), type=kind)


def test_a_time_has_digits_of_one_script() -> None:
    said = msgspec.json.encode("\N{ARABIC-INDIC DIGIT TWO}026-11-20T00:00:00.000Z")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(said, type=Timestamp)
