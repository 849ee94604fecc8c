"""Runs an audit that has no weights at hand: two endpoints, or one and its own past."""

import argparse
import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lydite.appraisal.report import Fact, Report
from lydite.auditor.probing import baseline as baselines
from lydite.auditor.probing import comparing, prompts
from lydite.auditor.probing.asking import MOST_TOP, Asked, Asker, Style
from lydite.auditor.probing.baseline import Baseline
from lydite.auditor.probing.comparing import Comparison, Observation, Pair, Sides
from lydite.cli.audit_report import LIMITS
from lydite.cli.files import read, write
from lydite.cli.patience import Bar
from lydite.errors import Reason
from lydite.evidence.endpoint.reference import GENERIC, KIND
from lydite.messages.audit import Skip
from lydite.messages.tier import Tier

_CAVEATS = (
    *LIMITS[:2],
    "that either side serves what it names: only whether both answer alike",
    "anything beyond the first token of an answer",
)
Outcome = tuple[Report, dict[str, Any]]
One = TypeVar("One")


def style(arguments: argparse.Namespace, name: str) -> Style:
    """Return how first tokens are asked for."""
    return Style(
        model=name,
        temperature=arguments.temperature,
        answer_tokens=comparing.FIRST_TOKEN,
        plain=arguments.plain,
        top=MOST_TOP,
        without=frozenset({"return_token_ids"}),
    )


def against_second(
    arguments: argparse.Namespace, ours: Asker, theirs: Asker, salt: bytes
) -> Outcome:
    """Compare two endpoints that are asked the same at the same time."""
    chosen = prompts.probes(salt, arguments.probes)
    first = [side.settle(iter(chosen))[0] for side in (ours, theirs)]
    tracked = all(answer.reported for answer in first)
    at_once = arguments.concurrency
    asked = [
        side.all(comparing.rounds(chosen, arguments.max_requests), at_once)
        for side in (ours, theirs)
    ]
    both = zip(*(_observed(side, tracked) for side in asked), strict=False)
    return _compared(arguments, both, Sides(past=False, tracked=tracked), len(chosen))


def against_past(arguments: argparse.Namespace, ours: Asker) -> Outcome:
    """Compare an endpoint with what it said before."""
    past = baselines.parse(read(arguments.baseline))
    chosen = [_prompt(text) for text in past.prompts]
    ours.settle(iter(chosen))
    times = -(-len(past.observations) // len(chosen))
    asked = ours.all(comparing.rounds(chosen, times), arguments.concurrency)
    before = (Reason.UNAVAILABLE if one is None else one for one in past.observations)
    both = zip(_observed(asked, past.tracked), before, strict=False)
    return _compared(arguments, both, Sides(past=True, tracked=past.tracked), len(chosen))


def save(arguments: argparse.Namespace, ours: Asker, salt: bytes) -> Outcome:
    """Ask an endpoint, and keep what it says for later."""
    path: Path = arguments.save_baseline
    chosen = prompts.probes(salt, arguments.probes)
    tracked = bool(ours.settle(iter(chosen))[0].reported)
    asked = ours.all(comparing.rounds(chosen, arguments.max_requests), arguments.concurrency)
    seen = list(_told(_observed(asked, tracked), arguments.max_requests))
    kept = Baseline(
        model=ours.style.model,
        prompts=tuple(one["messages"][0]["content"] for one in chosen),
        tracked=tracked,
        observations=tuple(None if isinstance(one, Reason) else one for one in seen),
    )
    write(path, baselines.encode(kept))
    taught = sum(one is not None for one in kept.observations)
    fact = Fact(name="baseline", value=f"{taught} first tokens, {len(chosen)} prompts, in {path}")
    report = Report(
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        headline="baseline saved",
        detail="nothing is judged yet; compare with --baseline later",
        audited=len(seen),
        scored=taught,
        facts=(fact,),
        skipped=_skips(seen),
        caveats=_CAVEATS,
    )
    return report, {}


def _observed(asked: Iterator[Asked], tracked: bool) -> Iterator[Observation | Reason]:
    return (comparing.observed(one.answer, tracked=tracked) for one in asked)


def _compared(
    arguments: argparse.Namespace,
    both: "Iterator[tuple[Observation | Reason, ...]]",
    sides: Sides,
    prompts_asked: int,
) -> Outcome:
    pairs: list[Pair] = []
    taught: list[Pair | Reason] = []
    for number, (ours, theirs) in enumerate(_told(both, arguments.max_requests)):
        one = comparing.pair(number % prompts_asked, ours, theirs)
        taught.append(one)
        if isinstance(one, Pair):
            pairs.append(one)
    found = comparing.compare(pairs, prompts_asked, GENERIC, arguments.alpha, sides)
    found = comparing.as_far_as_taught(found, taught)
    report = _report(found, _skips(taught), len(taught))
    return report, {"comparison": msgspec.to_builtins(found), "pairs": msgspec.to_builtins(pairs)}


def _told(asked: Iterator[One], whole: int) -> Iterator[One]:
    """Pass on what comes, and say meanwhile how much came."""
    bar = Bar(whole)
    try:
        for count, one in enumerate(asked, 1):
            bar.show(count, f"{count} of at most {whole} answers")
            yield one
    finally:
        bar.end()


def _report(found: Comparison, skipped: tuple[Skip, ...], asked: int) -> Report:
    need = found.alternative
    within = "never" if need.noticed_within is None else f"{need.noticed_within} pairs"
    channels = ", ".join(f"{name} {value / 1000:.2f}" for name, value in found.channels.items())
    what = "log-probabilities of first tokens" if found.tracked else "first tokens as drawn"
    return Report(
        tier=found.tier,
        reason=found.reason,
        detail=found.detail,
        log10_e_milli=found.channels["exact"],
        audited=asked,
        scored=found.pairs,
        facts=(
            Fact(name="compared", value=what),
            Fact(name="pairs", value=f"{found.pairs} of {asked}"),
            Fact(name="log10 E", value=channels),
            Fact(name=f"for 90 % power against {need.name}", value=within),
        ),
        skipped=skipped,
        caveats=_CAVEATS,
    )


def _skips(taught: Sequence[object]) -> tuple[Skip, ...]:
    counts = collections.Counter(one for one in taught if isinstance(one, Reason))
    return tuple(Skip(kind=KIND, reason=r, count=n) for r, n in sorted(counts.items()))


def _prompt(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}
