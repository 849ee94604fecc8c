"""How strong the evidence is, from measurements: tokens until a verdict, cheat by cheat.

Reads the rows of the committed benchmark (``bench/results/model.json``). Where only a share of the
answers is cheated, the tokens are those of the one mixture that was measured, or what one over the
share squared asks for (the law of weak signals), whichever is more; what is not measured is said to
be projected. Knows no servers.
"""

import math
import re
from collections.abc import Mapping

import msgspec

from lydite.errors import FormatError
from lydite.messages.canonical import UNREADABLE

MEASURED_AT_NATS = math.log(200)
"""The log e-value at which the measured verdicts were reached."""
ACCUSED_AT_NATS = math.log(10_000)
"""That at which a server is accused, as by the built-in policy: an error budget of 1 in 10,000."""
_METRIC = re.compile(r"tokens to verdict, ([\w-]+), (median|90 %|worst of (\d+))")
MIXED, MIXED_SHARE = "mixed-20", 0.2
"""The measured cheat that serves a share of its answers with another model."""


class Strength(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens by which half, nine in ten, and all of ``streams`` measured runs had a verdict.

    ``None`` where they had none within what was measured.
    """

    cheat: str
    median: float | None
    ninety: float | None
    worst: float | None
    streams: int


def single_answer(strength: Strength, tokens: int) -> float:
    """Return the measured chance that one answer of so many tokens, all cheated, shows it alone.

    A lower bound, in the steps that were measured: none, half, nine in ten.
    """
    if strength.ninety is not None and tokens >= strength.ninety:
        return 0.9
    return 0.5 if strength.median is not None and tokens >= strength.median else 0.0


class _Row(msgspec.Struct):
    metric: str
    ours: float | None


class _Results(msgspec.Struct):
    rows: list[_Row]


def parse(results: bytes) -> dict[str, Strength]:
    """Return what was measured, by cheat.

    Raises:
        FormatError: not the results of ``make bench-model``, or nothing in them speaks of verdicts.
    """
    found: dict[str, dict[str, float | None]] = {}
    streams: dict[str, int] = {}
    for row in _rows(results):
        match = _METRIC.fullmatch(row.metric)
        if match is None:
            continue
        cheat, which, runs = match.groups()
        found.setdefault(cheat, {})[which.split()[0]] = row.ours
        if runs:
            streams[cheat] = int(runs)
    if not found:
        raise FormatError("benchmark: no row says how many tokens a verdict took")
    return {
        cheat: Strength(
            cheat=cheat,
            median=values.get("median"),
            ninety=values.get("90"),
            worst=values.get("worst"),
            streams=streams.get(cheat, 0),
        )
        for cheat, values in found.items()
    }


def recompute_share(results: bytes) -> dict[str, float]:
    """Return what recomputing one token costs as a share of making it, by how it was made."""
    prefix = "audit (fp32 pass, scores) against bf16 decode, "
    try:
        rows = msgspec.json.decode(results)["rows"]
        return {
            row["metric"].removeprefix(prefix): float(row["ratio"])
            for row in rows
            if row["metric"].startswith(prefix)
        }
    except (*UNREADABLE, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"benchmark: {error}") from error


def _rows(results: bytes) -> list[_Row]:
    try:
        return msgspec.json.decode(results, type=_Results).rows
    except UNREADABLE as error:
        raise FormatError(f"benchmark: {error}") from error


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one server that have to be recomputed, and what that figure rests on."""

    count: float
    basis: str


def tokens_at(strengths: Mapping[str, Strength], cheat: str, share: float) -> Tokens | None:
    """Return the tokens by which nine in ten runs have a verdict if ``share`` of them is cheated.

    ``None`` where the measurement ended without one: the evidence does not see this cheat.

    Raises:
        FormatError: that cheat was not measured.
    """
    if cheat not in strengths:
        raise FormatError(f"{cheat} was not measured; there are {', '.join(sorted(strengths))}")
    whole, mixed = strengths[cheat].ninety, strengths.get(MIXED)
    if whole is None:
        return None
    if cheat == MIXED or share >= 1:
        return Tokens(count=whole, basis=f"measured, {strengths[cheat].streams} runs")
    if mixed is None or mixed.ninety is None:
        return None
    floor = mixed.ninety * max(1.0, MIXED_SHARE / share) ** 2
    weak = whole / share**2
    if weak > floor:
        return Tokens(count=weak, basis="projected: one over share squared")
    if share >= MIXED_SHARE:
        return Tokens(count=floor, basis=f"measured at {MIXED_SHARE:.0%}")
    return Tokens(count=floor, basis=f"projected from {MIXED_SHARE:.0%}: one over share squared")
