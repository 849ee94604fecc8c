"""Runs the build that ``lydite selfcheck`` names, and gathers what its report says."""

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from lydite.cli.passport_making import server_stack, timestamp, way_of, workshop_of
from lydite.cli.patience import Bar
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError, LyditeError, Reason, UnavailableError
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


def checked(
    arguments: argparse.Namespace,
    accepted: Sequence[Passport],
    references: Sequence[Reference],
    started_s: float,
) -> tuple[Report, Passport | None]:
    """Return the report on a build, and a candidate passport of it if it could be measured.

    A build that gives no answer, or none in time, ends in a report that says so.

    Raises:
        ConfigurationError: other weights than the passports are for, or no such build.
        FormatError: no prompts.
    """
    known = prompts.read(arguments.prompts)
    about = Context(
        stack=_stack(arguments),
        level=arguments.level,
        passports=[passports.digest(each) for each in accepted],
        references=[tokens.digest(reference) for reference in references],
        took_s=0.0,
    )
    try:
        found = _found(arguments, references, known, started_s)
    except ConfigurationError:
        raise
    except LyditeError as error:  # nothing was learnt; CI is told where it looks for the outcome
        return reporting.unlearnt(error, _timed(about, started_s)), None
    outside = found.outcome is Outcome.OUTSIDE
    likely = causes.likely(found.scored, accepted) if outside else ()
    said = reporting.report(found, likely, _timed(about, started_s))
    candidate = _candidate(arguments, found, about.stack, known, references[0].weights_root)
    if candidate is None:
        return said, None
    return msgspec.structs.replace(said, candidate=passports.digest(candidate)), candidate


def spelling(said: Report) -> bytes:
    """Return the report as one JSON object."""
    return msgspec.json.encode(said, order="sorted")


def lines(said: Report) -> list[str]:
    """Return what a person reads below the headline, which says why nothing was learnt."""
    if not said.answers:
        return [f"  no answer in {said.took_s} s"]
    scores = ", ".join(f"{name} {value:+.2f}" for name, value in said.channels.items())
    return [
        f"  log10 E {said.log10_e:+.2f} at its highest: {scores}",
        f"  {said.answers} answers, {said.tokens} tokens in {said.took_s} s",
        *(f"  likely cause: {cause.name}: {cause.why}" for cause in said.causes),
        *(f"  {note}" for note in said.notes),
    ]


def _found(
    arguments: argparse.Namespace,
    references: Sequence[Reference],
    known: Prompts,
    started_s: float,
) -> Checked:
    """Ask the build, which is there before any model is loaded, for as long as there is time."""
    until_s = started_s + (1 - _RESERVE) * arguments.time
    _check_time(started_s, until_s)
    server = None
    if arguments.server is not None:
        server = Server(arguments.server, arguments.served, until_s=until_s)
        server.reach()
    root, expected = measure(arguments.model).root, references[0].weights_root
    if root != expected:
        raise ConfigurationError(
            f"{arguments.model} has weights {root[:16]}, the passports are for {expected[:16]}"
        )
    auditor = TransformersEngine.load(arguments.model, "fp32", 1)
    asked = prompts.questions(known, auditor.codec, auditor.context_length, arguments.answers)
    ask = _local(arguments) if server is None else asking.remote(server, arguments.batch)
    _check_time(started_s, until_s)
    limits, bar = Limits(until_s, arguments.level, arguments.batch), Bar(len(asked))
    try:
        return selfchecking.check(
            auditor,
            ask,
            asked,
            references,
            limits,
            lambda done: bar.show(done, f"{done} of at most {len(asked)} answers scored"),
        )
    finally:
        bar.end()


def _check_time(started_s: float, until_s: float) -> None:
    now_s = time.monotonic()
    if now_s >= until_s:
        raise UnavailableError(
            f"no time was left after loading for {now_s - started_s:.0f} s; raise --time",
            Reason.UNDERPOWERED,
        )


def _stack(arguments: argparse.Namespace) -> Stack:
    return way_of(arguments).stack() if arguments.server is None else server_stack(arguments)


def _timed(about: Context, started_s: float) -> Context:
    return about._replace(took_s=time.monotonic() - started_s)


def _local(arguments: argparse.Namespace) -> Ask:
    """Return how the build in this process is asked: the model, or a regression of it."""
    if arguments.plant is None:
        return asking.in_process(start(arguments.model, way_of(arguments)).engine, tapped=False)
    if arguments.plant not in CHEATS:
        raise ConfigurationError(f"--plant is one of {', '.join(sorted(CHEATS))}")
    planted = CHEATS[arguments.plant](workshop_of(arguments.model))
    return asking.in_process(planted, tapped=False)


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
