"""``lydite plan``: what verification costs and buys, for inputs of your own."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lydite.cli import plan_tables
from lydite.cli.files import read
from lydite.cli.plan_inputs import add_inputs, fraction, numbers, taken
from lydite.economics import checklist, coverage, evidence_power, preparation, rollout, upload
from lydite.errors import ConfigurationError
from lydite.messages.tier import Tier

_SUMMARIES = {
    "rollout": "servers, teams, weeks and dollars of fitting verification devices to a world",
    "coverage": "what share of all answers has to be recomputed, and how that scales",
    "upload": "how long a model takes to upload and hash, and what can be tried meanwhile",
    "checklist": "physical measures that no software checks: who attests them, and what is overdue",
}
_RESULTS = {
    "coverage": Path("bench/results/model.json"),
    "upload": Path("bench/results/hashing.json"),
}
_LINKS = (1.0, 10.0, 25.0, 100.0, 400.0)
_SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
_TRIAL_BYTES = 64 * 1024 * 1024


class Series(NamedTuple):
    """One input varied: its name, its values, and each figure that follows, value by value."""

    name: str
    values: Sequence[float]
    figures: dict[str, Sequence[float | None]]


class Result(NamedTuple):
    """What a step found: as one JSON object, as a person reads it, and its exit code."""

    document: dict[str, Any]
    text: str
    code: int = 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite plan``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    made = {
        name: steps.add_parser(name, help=text, description=text)
        for name, text in _SUMMARIES.items()
    }
    add_inputs(made["rollout"], rollout.Rollout)
    add_inputs(made["rollout"], preparation.Preparation)
    made["rollout"].add_argument(
        "--prepare", action="store_true", help="simulate the weeks until enough devices are made"
    )
    add_inputs(made["coverage"], coverage.Question)
    add_inputs(made["upload"], upload.Upload)
    for name, text in (
        ("coverage", "results of make bench-model, for the tokens that a verdict takes"),
        ("upload", "results of make bench-hashing; without that file, this machine is measured"),
    ):
        made[name].add_argument("--results", type=Path, default=_RESULTS[name], help=text)
    for name in ("rollout", "coverage", "upload"):
        made[name].add_argument(
            "--vary", metavar="INPUT=V,V,...", help="an input, and the values to give it in turn"
        )
        made[name].add_argument("--plot", type=Path, help="draw what --vary gives: PNG, SVG or PDF")
    made["checklist"].add_argument(
        "--attested", type=Path, help="JSON list of what was attested: measure, by, on"
    )
    made["checklist"].add_argument(
        "--on", type=date.fromisoformat, metavar="DATE", help="the day to look at (default: today)"
    )
    for each in made.values():
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Compute, print, and return 0, or 4 where the checklist lacks attestations."""
    steps: dict[str, Callable[[argparse.Namespace], Result]] = {
        "rollout": _rollout,
        "coverage": _coverage,
        "upload": _upload,
        "checklist": _checklist,
    }
    result = steps[arguments.step](arguments)
    print(json.dumps(result.document) if arguments.json else result.text)
    return result.code


def _rollout(arguments: argparse.Namespace) -> Result:
    inputs = taken(arguments, rollout.Rollout)
    if arguments.vary:
        return _varied(arguments, inputs, _rollout_figures)
    once, end = rollout.costs(inputs), rollout.totals(inputs)
    rows, doubts = rollout.rows(inputs), rollout.contradictions(inputs)
    document = {
        "inputs": numbers(inputs),
        "costs": numbers(once),
        "phases": [numbers(row) for row in rows],
        "totals": numbers(end),
        "contradictions": [msgspec.to_builtins(each) for each in doubts],
    }
    text = plan_tables.rollout(inputs, once, rows, end, doubts)
    if arguments.prepare:
        plan = taken(arguments, preparation.Preparation)
        buffer = preparation.simulate(inputs, plan)
        document |= {"preparation": numbers(plan), "buffer": numbers(buffer)}
        text += "\n\n" + plan_tables.preparation(plan, buffer)
    return Result(document, text)


def _rollout_figures(inputs: rollout.Rollout) -> dict[str, float]:
    once = rollout.costs(inputs)
    return {
        "weeks": float(once.weeks),
        "dollars": float(once.total),
        "share of a month's revenue": float(once.share_of_revenue),
    }


def _coverage(arguments: argparse.Namespace) -> Result:
    if not arguments.results.exists():
        raise ConfigurationError(
            f"there are no results at {arguments.results}; run this in a clone of the repository, "
            "or name its file with --results"
        )
    results = read(arguments.results)
    strengths = evidence_power.parse(results)
    question = taken(arguments, coverage.Question)
    if arguments.vary:
        return _varied(arguments, question, lambda each: _coverage_figures(each, strengths))
    answer = coverage.answer(question, strengths)
    scales = coverage.scale(question, _SIZES, strengths)
    cost = evidence_power.recompute_share(results)
    document = {
        "inputs": numbers(question),
        "answer": numbers(answer),
        "scale": [numbers(each) for each in scales],
        "recomputingCost": cost,
        "measured": {name: numbers(each) for name, each in strengths.items()},
    }
    return Result(document, plan_tables.coverage(question, answer, scales, cost, strengths))


def _coverage_figures(
    question: coverage.Question, strengths: dict[str, evidence_power.Strength]
) -> dict[str, float | None]:
    answer = coverage.answer(question, strengths)
    return {draw.way: draw.fraction for draw in answer.draws}


def _upload(arguments: argparse.Namespace) -> Result:
    rates = _rates(arguments)
    if arguments.hash_rate is None:
        whole = [rate for rate in rates if rate.name.startswith("upload")]
        arguments.hash_rate = max(rate.bytes_per_s for rate in whole or rates)
    inputs = taken(arguments, upload.Upload)
    if arguments.vary:
        return _varied(arguments, inputs, _upload_figures)
    own = upload.times(inputs)
    table = [
        (rate, link, upload.times(_over(inputs, rate, link)))
        for rate in rates
        for link in sorted({*_LINKS, inputs.link})
    ]
    document = {
        "inputs": numbers(inputs),
        "times": numbers(own),
        "table": [
            {"rate": numbers(rate), "link": link, **numbers(each)} for rate, link, each in table
        ],
        "attacks": [attack._asdict() for attack in upload.ATTACKS],
    }
    return Result(document, plan_tables.upload(inputs, own, table, upload.ATTACKS))


def _over(inputs: upload.Upload, rate: upload.Rate, link: float) -> upload.Upload:
    return msgspec.structs.replace(inputs, hash_rate=rate.bytes_per_s, link=link)


def _upload_figures(inputs: upload.Upload) -> dict[str, float]:
    times = upload.times(inputs)
    return {"hashed on the way, s": times.streamed_s, "hashed afterwards, s": times.afterwards_s}


def _rates(arguments: argparse.Namespace) -> tuple[upload.Rate, ...]:
    """Return the rates that the user gave, that a benchmark measured, or that we measure now."""
    if arguments.hash_rate is not None:
        return (upload.Rate(name="given", bytes_per_s=float(arguments.hash_rate)),)
    if arguments.results != _RESULTS["upload"] or arguments.results.exists():
        found = upload.rates(read(arguments.results))
        if not found:
            raise ConfigurationError(f"{arguments.results} holds no rate of hashing")
        return found
    return (_measured(),)


def _measured() -> upload.Rate:
    """Hash for a moment with one thread of this machine, and return the best of three rates."""
    block = bytes(_TRIAL_BYTES)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        hashlib.sha256(block).digest()
        best = min(best, time.perf_counter() - started)
    name = "SHA-256, one thread of this machine, now"
    return upload.Rate(name=name, bytes_per_s=_TRIAL_BYTES / best)


def _checklist(arguments: argparse.Namespace) -> Result:
    today = arguments.on or datetime.now(UTC).date()
    attested = () if arguments.attested is None else checklist.parse(read(arguments.attested))
    states = checklist.states(attested, today)
    owed = [state for state in states if state.missing]
    document = {
        "on": today.isoformat(),
        "measures": [
            {**msgspec.to_builtins(measure), **msgspec.to_builtins(state)}
            for measure, state in zip(checklist.MEASURES, states, strict=True)
        ],
        "owed": len(owed),
    }
    text = plan_tables.checklist(checklist.MEASURES, states, today)
    code = Tier.NONE.exit_code if owed and arguments.attested is not None else 0
    return Result(document, text, code)


def _varied(
    arguments: argparse.Namespace, inputs: Any, figures: Callable[[Any], dict[str, Any]]
) -> Result:
    """Return the figures for each value of one input, and draw them if that is asked for."""
    name, _, given = arguments.vary.partition("=")
    field = name.replace("-", "_")
    if field not in inputs.__struct_fields__ or not given:
        known = ", ".join(each.replace("_", "-") for each in inputs.__struct_fields__)
        raise ConfigurationError(f"--vary wants INPUT=V,V,...; an INPUT is one of: {known}")
    values = [fraction(f"--vary {name}", each) for each in given.split(",")]
    found = [figures(_changed(inputs, field, value)) for value in values]
    series = Series(
        name=name,
        values=[float(value) for value in values],
        figures={each: [row[each] for row in found] for each in found[0]},
    )
    if arguments.plot is not None:
        from lydite.cli import plan_figure

        plan_figure.draw(series.name, series.values, series.figures, arguments.plot)
    document = {"input": name, "values": series.values, "figures": series.figures}
    return Result(document, plan_tables.varied(name, series.values, series.figures))


def _changed(inputs: Any, field: str, value: Fraction | float) -> Any:
    """Return the inputs with one of them changed, as the type that it is of."""
    old = getattr(inputs, field)
    if isinstance(old, str):
        raise ConfigurationError(f"{field} is no number")
    new = float(value) if isinstance(old, float) else Fraction(value)
    if isinstance(new, Fraction) and new.denominator == 1:
        new = int(new)
    return msgspec.structs.replace(inputs, **{field: new})
