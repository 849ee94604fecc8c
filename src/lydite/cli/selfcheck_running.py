"""Runs the build that ``lydite selfcheck`` names, and gathers what its report says."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lydite.cli.passport_making import server_stack, timestamp, way_of, workshop_of
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError, LyditeError
from lydite.evidence.tokens import reference as tokens
from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.cheats import CHEATS
from lydite.messages import passport as passports
from lydite.messages.passport import Passport
from lydite.messages.stack import Stack
from lydite.numerics import asking, causes, measuring, prompts, reporting, selfchecking
from lydite.numerics.asking import Ask
from lydite.numerics.local import start
from lydite.numerics.measuring import Measured, Subjects
from lydite.numerics.prompts import SAMPLINGS, Prompts
from lydite.numerics.reporting import Context, Report
from lydite.numerics.scoring import by_residuals
from lydite.numerics.selfchecking import Checked, Limits
from lydite.numerics.watching import Outcome
from lydite.numerics.web import Server

_RESERVE = 0.15
"""Share of the time that is kept for what comes after the last answer."""
_VALID_MS = 90 * 86_400_000


class Build(NamedTuple):
    """What is checked: how to ask it, what it is, and what to end afterwards."""

    ask: Ask
    stack: Stack
    engine: Engine | None


def checked(
    arguments: argparse.Namespace,
    accepted: Sequence[Passport],
    references: Sequence[Reference],
    started_s: float,
) -> tuple[Report, Passport | None]:
    """Return the report on a build, and a candidate passport of it if it could be measured.

    Raises:
        ConfigurationError: other weights than the passports are for, or no such build.
        UnavailableError: the build does not answer at all.
    """
    until_s = started_s + (1 - _RESERVE) * arguments.time
    root = measure(arguments.model).root
    expected = references[0].weights_root
    if root != expected:
        raise ConfigurationError(
            f"{arguments.model} has weights {root[:16]}, the passports are for {expected[:16]}"
        )
    known = prompts.read(arguments.prompts)
    auditor = TransformersEngine.load(arguments.model, "fp32", 1)
    asked = prompts.questions(known, auditor.codec, auditor.context_length, arguments.answers)
    build = _build(arguments, until_s)
    limits = Limits(until_s, arguments.level, arguments.batch)
    found = selfchecking.check(auditor, build.ask, asked, references, limits, _tell)
    outside = found.outcome is Outcome.OUTSIDE
    context = Context(
        stack=build.stack,
        level=arguments.level,
        passports=[passports.digest(each) for each in accepted],
        references=[tokens.digest(reference) for reference in references],
        took_s=time.monotonic() - started_s,
    )
    likely = causes.likely(found.scored, accepted) if outside else ()
    said = reporting.report(found, likely, context)
    return said, _candidate(arguments, found, build.stack, known, root)


def spelling(said: Report) -> bytes:
    """Return the report as one JSON object."""
    return msgspec.json.encode(said, order="sorted")


def lines(said: Report) -> list[str]:
    """Return what a person reads below the headline."""
    scores = ", ".join(f"{name} {value:+.2f}" for name, value in said.channels.items())
    return [
        f"  log10 E {said.log10_e:+.2f} at its highest: {scores}",
        f"  {said.answers} answers, {said.tokens} tokens in {said.took_s} s",
        *(f"  likely cause: {cause.name}: {cause.why}" for cause in said.causes),
        *(f"  {note}" for note in said.notes),
    ]


def _build(arguments: argparse.Namespace, until_s: float) -> Build:
    if arguments.server is not None:
        server = Server(arguments.server, arguments.served, until_s=until_s)
        return Build(asking.remote(server, arguments.batch), server_stack(arguments), None)
    way = way_of(arguments)
    if arguments.plant is not None:
        if arguments.plant not in CHEATS:
            raise ConfigurationError(f"--plant is one of {', '.join(sorted(CHEATS))}")
        planted = CHEATS[arguments.plant](workshop_of(arguments.model))
        return Build(asking.in_process(planted, tapped=False), way.stack(), planted)
    local = start(arguments.model, way)
    return Build(asking.in_process(local.engine, tapped=False), way.stack(), local.engine)


def _candidate(
    arguments: argparse.Namespace,
    found: Checked,
    stack: Stack,
    known: Prompts,
    root: str,
) -> Passport | None:
    """Return what a verifier may measure again and endorse; None if too little was learnt."""
    told = [value for one in found.scored for value in one.residuals]
    subjects = Subjects(arguments.model.resolve().name, root, stack, known)
    now_ms = int(time.time() * 1000)
    valid = (timestamp(now_ms), timestamp(now_ms + _VALID_MS))
    try:
        difference = by_residuals(told, SAMPLINGS)
        said = measuring.predicate(subjects, Measured(difference, found.scored), valid)
    except LyditeError as error:
        sys.stderr.write(f"lydite: no candidate passport: {error}\n")
        return None
    return measuring.passport(said)


def _tell(done: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} answers scored")
