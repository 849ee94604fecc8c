"""What a person reads of an audit of an endpoint: the numbers, and what they cannot show."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from lydite.appraisal.report import Fact, Report
from lydite.errors import LyditeError, Reason
from lydite.messages.tier import Tier

if TYPE_CHECKING:
    from lydite.auditor.probing.weighing import Outcome

LIMITS = (
    "what is served to others: an endpoint that recognises an audit may serve that one honestly",
    "who computed the answer: text and log-probabilities can be made up by whoever has the model",
    "anything that the named alternatives do not stand for, such as a slighter quantisation",
)
BLIND = "quantisation or a fine-tune, if the endpoint returns no log-probabilities"
STANDS_OUT = "whether requests for token ids and logprobs were recognised; --plain asks for none"
COVERED = "that the reference covers the endpoint's stack: an honest one beyond it may be accused"
UNCOVERED = "that a passport is of the endpoint's stack: none accuses unless --stack names one"
NO_RESIDUALS = "slight changes of numerics: the reference holds no residuals of honest machines"
UNCALIBRATED = (
    "slight changes of numerics: without --reference only what no honest numerics explains accuses"
)


def of_weights(outcome: "Outcome", arguments: argparse.Namespace) -> Report:
    """Return the report on an endpoint that was held against open weights."""
    verdict, plan = outcome.verdict, outcome.plan
    declared = verdict.levels[0]
    channels = ", ".join(f"{name} {value / 1000:.2f}" for name, value in declared.channels.items())
    facts = [
        Fact(name="declared", value=str(arguments.model)),
        Fact(
            name="tokens",
            value=f"{verdict.tokens} in {verdict.scored} of {verdict.answers} answers",
        ),
        Fact(name="tokens are", value=_ways(plan.tokens, verdict.masked)),
        Fact(name="log10 E", value=f"{declared.merged / 1000:.2f} ({channels})"),
        *_explained(verdict.levels),
        *(_needed(one) for one in verdict.alternatives),
    ]
    if plan.logprobs:
        counts = ", ".join(f"{name} {count}" for name, count in outcome.lattice.items())
        facts.append(Fact(name="log10 E, numerics", value=f"{declared.numerics / 1000:.2f}"))
        facts.append(Fact(name="bf16 lattice (a hint, no evidence)", value=counts))
    caveats = list(LIMITS)
    caveats += [STANDS_OUT] if plan.logprobs else [BLIND]
    if arguments.reference is None and not arguments.passport:
        caveats.append(UNCALIBRATED)
    else:
        covered = COVERED if outcome.covered else UNCOVERED
        caveats.append(covered if outcome.calibrated else NO_RESIDUALS)
    return Report(
        tier=verdict.tier,
        reason=verdict.reason,
        detail=verdict.detail,
        log10_e_milli=declared.merged,
        audited=verdict.answers,
        scored=verdict.scored,
        tokens=verdict.tokens,
        facts=tuple(facts),
        skipped=verdict.skipped,
        caveats=tuple(caveats),
    )


def unlearnt(error: LyditeError) -> Report:
    """Return the report on an endpoint of which nothing was learnt."""
    return Report(tier=Tier.NONE, reason=error.reason, detail=str(error), caveats=LIMITS)


def with_spent(report: Report, spent: Mapping[str, Any]) -> Report:
    """Return the report with what the audit cost."""
    words = f"{spent['requests']} requests, {spent['tokens']} tokens"
    words += f", {spent['cost']:.4f} in money" if spent["cost"] else ""
    return msgspec.structs.replace(report, facts=(*report.facts, Fact(name="spent", value=words)))


def record(report: Report, spent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report ready for JSON, with its numbers as such; what is unknown is left out."""
    known: dict[str, Any] = msgspec.to_builtins(report)
    counts = {"answers": known.pop("audited"), "weighed": known.pop("scored")}
    known = {name: value for name, value in known.items() if value != ""}
    return {"headline": report.tier.words, **known, **counts, "spent": dict(spent)}


def _ways(tokens: str, masked: int) -> str:
    words = {
        "named": "those that the answers name",
        "spelt": "found by the spelling beside each log-probability",
        "found": "found again from the text",
    }
    return words[tokens] + (f", {masked} left out" if masked else "")


def _explained(levels: Any) -> list[Fact]:
    """Return which habit fits best, where what was asked for does not fit."""
    best = min(levels[1:], key=lambda one: one.merged, default=None)
    if best is None or levels[0].merged <= best.merged + 1000:
        return []
    value = f"{best.draw}, log10 E {best.merged / 1000:.2f}"
    return [Fact(name="nearest habit of servers", value=value)]


def _needed(one: Any) -> Fact:
    accused = "never" if one.accused_within is None else f"{one.accused_within} tokens"
    noticed = "never" if one.noticed_within is None else f"{one.noticed_within} tokens"
    return Fact(
        name=f"for 90 % power against {one.name}",
        value=f"{noticed} to be noticed, {accused} to be called {Reason.INCONSISTENT_TOKENS}",
    )
