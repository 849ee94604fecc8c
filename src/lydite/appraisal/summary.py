"""What a relying party is told of a bundle that stood every check. Checks nothing itself."""

from datetime import UTC, datetime
from typing import NamedTuple

from lydite.appraisal.policy import Policy
from lydite.appraisal.report import Fact, Report
from lydite.appraisal.selection import Draw, Witnessed
from lydite.appraisal.trust import Anchor
from lydite.errors import Reason
from lydite.messages import epoch
from lydite.messages.audit import ResultPredicate, Verdict
from lydite.messages.declaration import Declaration
from lydite.sampling import beacon
from lydite.sampling.beacon import Chain

CAVEATS = (
    "which machine ran the model",
    "anything about requests that were not drawn, beyond the drawn share's weight of evidence",
    "anything about answers that were drawn and could not be scored",
    "cheats weaker than those whose power the policy asks for",
    "what was found after the last draw: ask for --max-age to bound how long ago that is",
    "that the auditor measured honestly: its records are signed, and others can repeat them",
    "that this is the log's first pledge of each epoch: that takes the whole log, as auditors read",
)


class Checked(NamedTuple):
    """The parts of a bundle, each verified."""

    anchor: Anchor
    accepted: Witnessed
    declared: Declaration
    epochs: tuple[epoch.Predicate, ...]
    draws: tuple[Draw, ...]
    silent: int
    """Of how many epochs the gateway has not said what it destroyed."""
    policy: Policy
    verdict: Verdict
    result: ResultPredicate


def summarise(checked: Checked, chain: Chain) -> Report:
    """Return the report on a verified bundle."""
    verdict = checked.verdict
    return Report(
        tier=verdict.tier,
        reason=verdict.reason,
        provider=checked.anchor.name,
        log10_e_milli=verdict.log10_e_milli,
        audited=verdict.audited,
        scored=verdict.scored,
        tokens=verdict.tokens,
        facts=(
            *_whose(checked),
            *_drawn(checked),
            *_weighed(checked),
            Fact(name="beacon", value=beacon.describe(chain)),
            Fact(name="scores", value="judged again as recorded; lydite[auditor] measures them"),
        ),
        skipped=verdict.skipped,
        caveats=CAVEATS,
    )


def _whose(checked: Checked) -> tuple[Fact, ...]:
    anchor, model, accepted = checked.anchor, checked.declared.predicate, checked.accepted
    log = accepted.checkpoint
    names = ", ".join(accepted.witnesses)
    return (
        Fact(name="provider", value=f"{anchor.name} ({anchor.provider})"),
        Fact(name="declares", value=f"{model.model}, weights {model.weights_root[:16]}"),
        Fact(name="log", value=f"{log.origin}, {log.size} entries, witnessed by {names}"),
    )


def _drawn(checked: Checked) -> tuple[Fact, ...]:
    if not checked.epochs:
        return (Fact(name="drawn from", value="nothing yet"),)
    covered, size = checked.epochs[-1].tree_size, checked.accepted.checkpoint.size
    rates = sorted({each.epsilon_ppm for each in checked.epochs})
    at = f"{datetime.fromtimestamp(checked.draws[-1].cosigned_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return (
        Fact(
            name="drawn from",
            value=f"entries 1 to {covered}, epochs 1 to {len(checked.epochs)}, the last at {at}; "
            f"{size - covered} later entries are not covered",
        ),
        Fact(name="drawn at", value=", ".join(f"{rate / 10_000:g} %" for rate in rates)),
        Fact(name="undrawn", value=_destroyed(checked)),
    )


def _destroyed(checked: Checked) -> str:
    told = len(checked.epochs) - checked.silent
    said = f"declared destroyed for {told} of {len(checked.epochs)} epochs"
    return f"{said}; which they are takes the whole log to recount"


def _weighed(checked: Checked) -> tuple[Fact, ...]:
    verdict, against = checked.verdict, ", ".join(checked.policy.alternatives)
    return (
        Fact(
            name="audited",
            value=f"{verdict.audited} receipts, {verdict.scored} scored, {verdict.tokens} tokens",
        ),
        Fact(name="tokens for 90 % power", value=f"{verdict.tokens_needed} against {against}"),
        Fact(name="log10 E", value=f"{verdict.log10_e_milli / 1000:.3f}"),
        Fact(name="issued", value=checked.result.issued),
        *(
            Fact(name=f"{skip.kind} skipped", value="no extra of this version verifies it")
            for skip in verdict.skipped
            if skip.reason is Reason.NEEDS_EXTRA
        ),
    )
