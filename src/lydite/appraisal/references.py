"""The Reference Values of a verdict: at most one for each kind of evidence that is judged.

The one place that knows which kinds those are. Knows nothing of providers or levels.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from lydite.appraisal.trust import Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.activations import reference as activations
from lydite.evidence.tokens import reference as tokens
from lydite.evidence.tokens.reference import UNSEEDED
from lydite.messages.calibration import Alternative, Method
from lydite.messages.canonical import decode, encode
from lydite.messages.declaration import Declaration
from lydite.messages.finding import Finding
from lydite.messages.stack import Stack

T = TypeVar("T")


class _Room(NamedTuple):
    """How one kind of evidence is read: its name, its checks, and its channels."""

    kind: str
    check: Callable[[Any], None]
    levels: Callable[[Any, Sequence[Finding], Method], tuple[tuple[str, float], ...]]


Reference = tokens.Reference | activations.Reference | activations.Covering
"""A Reference Value of some kind; its ``format`` says which."""

KINDS: Mapping[type, _Room] = {
    tokens.Reference: _Room(tokens.KIND, tokens.check, tokens.channel_log10_e),
    **dict.fromkeys(
        (activations.Reference, activations.Covering),
        _Room(activations.KIND, activations.check, activations.channel_log10_e),
    ),
}
"""What reads the records of each kind."""


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value of any kind, at most 1 MiB, and check that it is whole.

    Raises:
        FormatError: it is none, or its histograms do not fit its bins.
    """
    reference: Reference = decode(payload, Reference, limit=1 << 20)  # type: ignore[arg-type]
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value can be read against.

    Raises:
        FormatError: its histograms do not fit its bins.
    """
    KINDS[type(reference)].check(reference)


def digest(reference: Reference) -> str:
    """Return what findings and trust files name a Reference Value by."""
    return hashlib.sha256(encode(reference)).hexdigest()


def digests(references: Sequence[Reference]) -> tuple[str, ...]:
    """Return the digests of all of them, in their order."""
    return tuple(digest(reference) for reference in references)


def kinds(references: Sequence[Reference]) -> frozenset[str]:
    """Return the kinds of evidence that ``references`` are for."""
    return frozenset(KINDS[type(reference)].kind for reference in references)


def check_set(references: Sequence[Reference]) -> None:
    """Check that Reference Values can be used together.

    Raises:
        VerificationError: there is none, there are two of one kind, or they are for different
            weights.
    """
    kinds = [KINDS[type(reference)].kind for reference in references]
    roots = {reference.weights_root for reference in references}
    if len(roots) != 1 or len(set(kinds)) != len(kinds):
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE,
            f"{len(references)} references of {len(set(kinds))} kinds for {len(roots)} models, "
            "expected one of each kind for one model",
        )


def of_kind(references: Sequence[Reference], kind: type[T]) -> T:
    """Return the Reference Value of one kind.

    Raises:
        VerificationError: there is none.
    """
    for reference in references:
        if isinstance(reference, kind):
            return reference
    raise VerificationError(Reason.UNKNOWN_REFERENCE, f"no reference is a {kind.__module__}")


def check_pinned(references: Sequence[Reference], trust: Trust) -> None:
    """Check that the trust file names every one of ``references``, and that they are whole.

    Raises:
        VerificationError: it does not, or they do not go together.
        FormatError: one is not whole.
    """
    check_set(references)
    for reference in references:
        if digest(reference) not in trust.references:
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE, f"reference {reference.name} is not a pinned one"
            )
        check(reference)


def check_fit(declared: Declaration, references: Sequence[Reference]) -> None:
    """Refuse to judge a declaration by references that are for something else.

    Raises:
        VerificationError: a reference is for other weights or another sampler, or repeats draws
            that nobody can repeat (``Reason.SPECULATIVE``).

    **Does not show** that the provider runs what it declares.
    """
    said = declared.predicate
    if said.decoding == "speculative" and said.sampler != UNSEEDED:
        raise VerificationError(
            Reason.SPECULATIVE,
            f"no seed repeats drafts, so the sampler is none, not {said.sampler}",
        )
    for reference in references:
        sampler = getattr(reference, "sampler", said.sampler)
        if (said.weights_root, said.sampler) != (reference.weights_root, sampler):
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE,
                f"reference {reference.name} is for weights {reference.weights_root[:16]} and "
                f"sampler {sampler}, declared are {said.weights_root[:16]} and {said.sampler}",
            )


def covered(references: Sequence[Reference], declared: Declaration | None) -> frozenset[str]:
    """Return the kinds of evidence whose reference was measured on the declared stack.

    A reference that names no stacks covers any. One that does covers a declaration of the same
    engine, with or without its version, and data type; without a declaration, none.
    """
    return frozenset(
        KINDS[type(reference)].kind
        for reference in references
        if not (stacks := getattr(reference, "stacks", ()))
        or any(
            declared is not None
            and covers(stack, declared.predicate.engine, declared.predicate.dtype)
            for stack in stacks
        )
    )


def covers(stack: Stack, engine: str, dtype: str) -> bool:
    """Say whether a stack is of this engine, with or without its version, and data type."""
    return engine in {stack.engine, f"{stack.engine} {stack.version}"} and dtype == stack.dtype


def levels(
    references: Sequence[Reference], findings: Sequence[Finding], method: Method
) -> dict[str, float]:
    """Return log10 of the e-value of every channel that ``references`` read, from the records.

    ``method`` is the arithmetic that the policy names.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    found: dict[str, float] = {}
    for reference in references:
        found |= KINDS[type(reference)].levels(reference, findings, method)
    return found


def seeded(references: Sequence[Reference], findings: Sequence[Finding]) -> dict[str, float]:
    """Return log10 of the e-values that an engine which ignores its seed cannot raise, by channel.

    Empty where the records do not tell, so that margins accuse as they are.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    known = next((one for one in references if isinstance(one, tokens.Reference)), None)
    level = None if known is None else tokens.seeded_log10_e(known, findings)
    return {} if level is None else {f"{tokens.KIND}/{tokens.MARGIN}": level}


def alternatives(references: Sequence[Reference], name: str, method: Method) -> list[Alternative]:
    """Return what the references say of the power of ``method`` against the cheat called ``name``.

    Raises:
        FormatError: nothing, so that nothing could ever affirm.
    """
    told = (one for r in references for one in r.alternatives if one.name == name)
    known = [one for one in told if one.method == method]
    if not known:
        raise FormatError(f"reference has no power against {name} by {method}")
    return known
