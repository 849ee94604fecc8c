"""Structs of inputs as options of a command, and numbers as JSON: both from the struct's fields."""

import argparse
import re
from fractions import Fraction
from typing import Any, TypeVar

import msgspec

from lydite.errors import ConfigurationError

T = TypeVar("T", bound=msgspec.Struct)

_LONGEST = 60
"""Characters of a number."""
_HUGE = re.compile(r"[eE][+-]?0*[1-9][0-9]{2}")
"""An exponent of three digits or more: reading one may take for ever."""
_MOST = Fraction(10**18)
_LEAST = 1 / _MOST
"""Between them products of all inputs fit into a float."""


def add_inputs(parser: argparse.ArgumentParser, kind: type[msgspec.Struct]) -> None:
    """Add an option for each field of ``kind``, with its description and its default."""
    for field in msgspec.structs.fields(kind):
        meta = next(each for each in field.type.__metadata__ if isinstance(each, msgspec.Meta))
        given = field.default is not msgspec.NODEFAULT
        text = f"{meta.description} (default: {field.default})" if given else meta.description
        parser.add_argument(f"--{field.name.replace('_', '-')}", metavar="N", help=_plain(text))


def _plain(text: str | None) -> str:
    return (text or "").replace("%", "%%")


def taken(arguments: argparse.Namespace, kind: type[T]) -> T:
    """Return the inputs that were given, the rest by default.

    Raises:
        ConfigurationError: one is no number of its kind.
    """
    given = {}
    for field in msgspec.structs.fields(kind):
        value = getattr(arguments, field.name)
        if value is not None:
            given[field.name] = _number(field.name, value, field.type.__origin__)
    return kind(**given)


def fraction(option: str, text: str) -> Fraction:
    """Return the number that was given for an option.

    Raises:
        ConfigurationError: it is none, or larger or smaller than anything that is counted here.
    """
    given = f"{option} {text[:_LONGEST]}"
    try:
        if len(text) > _LONGEST or _HUGE.search(text.replace("_", "")):
            raise ValueError("too many digits")
        number = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigurationError(f"{given} is no number: {error}") from error
    if number and not _LEAST <= abs(number) <= _MOST:
        raise ConfigurationError(f"{given} is beyond all that is counted here")
    return number


def _number(name: str, value: object, kind: Any) -> Fraction | int | float | str:
    if kind is str:
        return str(value)
    option = f"--{name.replace('_', '-')}"
    number = fraction(option, str(value))
    if kind is float:
        return float(number)
    if number.denominator == 1:
        return int(number)
    if kind is int:
        raise ConfigurationError(f"{option} {value} is no whole number")
    return number


def numbers(value: msgspec.Struct) -> dict[str, Any]:
    """Return a struct as JSON types: fractions as whole numbers where they are, else as floats."""
    made = msgspec.to_builtins(value, enc_hook=_plain_number)
    return dict(made)


def _plain_number(value: object) -> int | float:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    raise TypeError(type(value).__name__)
