"""What an appraisal that was not refused amounts to: tier, reason, and the numbers behind them.

The numbers named ``trust/...`` are AR4SI claims (draft-ietf-rats-ar4si, 2.3), one for each part of
the machine that this evidence speaks of. Knows nothing of how they were found.
"""

from typing import NamedTuple

from lydite.errors import Reason
from lydite.evidence.tpm.checkpoint import Before
from lydite.evidence.tpm.claims import KIND
from lydite.evidence.tpm.ima import Place
from lydite.evidence.tpm.judge import Judge
from lydite.evidence.tpm.quote import Quote
from lydite.messages.canonical import SAFE_INTEGER
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

APPROVED, RECOGNISED, UNRECOGNISED = 2, 3, 33
CHANGED, SOFTWARE, VISIBLE, NOTHING = 96, 97, 96, 0


class State(NamedTuple):
    """What was found of a machine whose evidence holds."""

    quoted: Quote
    now_s: int
    until_s: int
    booted: bool
    """Whether its boot was held to a policy."""
    before: Before
    place: Place
    tail: int
    judge: Judge | None
    broad: int

    @property
    def unknown(self) -> int:
        """Files that the policy does not name, since the boot."""
        return self.before.unknown + (0 if self.judge is None else self.judge.unknown)

    @property
    def changed(self) -> int:
        """Files that the policy names with other content, since the boot."""
        return self.before.changed + (0 if self.judge is None else self.judge.changed)

    @property
    def violations(self) -> int:
        """Files that were written while they were measured, since the boot."""
        return self.before.violations + (0 if self.judge is None else self.judge.violations)


def conclude(state: State, reference: str, software: bool) -> Finding:
    """Return the finding: affirming only if every file is known, on a TPM that protects."""
    tier, reason = _judgement(state, software)
    return Finding(
        kind=KIND,
        tier=tier,
        reason=reason,
        reference=reference,
        measures=(*_facts(state), *_vector(state, software)),
    )


def _judgement(state: State, software: bool) -> tuple[Tier, Reason]:
    if state.changed:
        return Tier.CONTRAINDICATED, Reason.IMA_UNKNOWN_FILE
    if state.unknown:
        return Tier.WARNING, Reason.IMA_UNKNOWN_FILE
    if state.violations:
        return Tier.WARNING, Reason.IMA_VIOLATION
    if software:
        return Tier.WARNING, Reason.TPM_SOFTWARE
    return Tier.AFFIRMING, Reason.CONSISTENT


def _facts(state: State) -> list[Measure]:
    quoted, judge = state.quoted, state.judge
    facts = [
        ("time", "second", state.now_s),
        ("valid-until", "second", min(state.until_s, SAFE_INTEGER)),
        ("clock", "millisecond", min(quoted.clock_ms, SAFE_INTEGER)),
        ("resets", "count", quoted.resets),
        ("restarts", "count", quoted.restarts),
        ("rebooted", "flag", int(state.before.rebooted)),
    ]
    if judge is not None:
        facts += [
            ("entries", "entry", state.place.entries),
            ("new-entries", "entry", state.place.entries - state.before.place.entries),
            ("tail", "byte", state.tail),
            ("unknown", "file", state.unknown),
            ("changed", "file", state.changed),
            ("violations", "file", state.violations),
            ("excluded", "entry", judge.excluded),
            ("signed", "entry", judge.signatures),
            ("broad-excludes", "pattern", state.broad),
        ]
    return [Measure(name=name, unit=unit, values=(value,)) for name, unit, value in facts]


def _vector(state: State, software: bool) -> list[Measure]:
    executables = NOTHING if state.judge is None else APPROVED
    if state.booted and state.judge is None:
        executables = RECOGNISED
    if state.unknown or state.violations:
        executables = UNRECOGNISED
    if state.changed:
        executables = CHANGED
    vector = {
        "instance-identity": APPROVED,
        "configuration": APPROVED if state.booted else NOTHING,
        "executables": executables,
        "file-system": NOTHING,
        "hardware": SOFTWARE if software else APPROVED,
        "runtime-opaque": VISIBLE,
        "storage-opaque": NOTHING,
        "sourced-data": NOTHING,
    }
    return [
        Measure(name=f"trust/{name}", unit="ar4si", values=(value,))
        for name, value in vector.items()
    ]
