"""From several passports to one Reference Value: in every bin, the worst of the honest stacks.

Each passport widens the null, and so takes power away; how much is part of the result. Pure: keys
and time are arguments. Knows nothing of how passports are made.

**Does not show** that the stacks were honest, or measured well: who signed stands for that.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.evidence.tokens import reference as tokens
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL, Reference
from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.calibration import Alternative, Binned, Cheat, Provenance
from lydite.messages.grid import LOG
from lydite.messages.passport import Passport, Predicate
from lydite.numerics import deriving
from lydite.signing.dsse import KeyId, PublicKey, open_envelope
from lydite.statistics import composite, dependence, nearest, sizing
from lydite.statistics.conformal import pool_needed
from lydite.statistics.dependence import Level
from lydite.statistics.sizing import Goal

ERROR_PPM = 1000
QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Where bins of residuals begin: these shares of the tokens of all honest stacks lie below."""
BINNED = (f"tokens/{MARGIN}", f"tokens/{RESIDUAL}")
MAX_PASSPORTS = 64
BETS = 3
"""A channel averages so many ways to bet (``statistics.channel``), each with an equal share."""


class Step(NamedTuple):
    """The null after one more passport."""

    added: str
    """The stack in words."""
    digest: str
    tolls: Mapping[str, float]
    """For each channel ln(sum of its ceilings): nats a token that every bet pays."""
    needed: Mapping[tuple[str, str], int | None]
    """By cheat and channel: tokens to the level in nine runs of ten; None: never."""
    left_out: tuple[str, ...] = ()
    """Channels that the passport took away from all, with why."""


class Merged(NamedTuple):
    """A Reference Value, how it came about, and what was left out of it."""

    reference: Reference
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def accept(
    envelopes: Iterable[bytes], keys: Mapping[KeyId, PublicKey], now_ms: int
) -> tuple[Passport, ...]:
    """Open passports that accepted keys signed and that are valid now.

    1. Every signature is by a key in ``keys``, and verifies.
    2. The payload is a passport in its one spelling, and whole.
    3. It is valid at ``now_ms``, milliseconds since 1970.

    Raises:
        FormatError, VerificationError: a step fails; ``unknown-key`` for a signer that is not
            accepted, ``stale`` for one that has expired.
    """
    opened = []
    for envelope in envelopes:
        passport = passports.parse(open_envelope(envelope, keys, ()))
        passports.check_current(passport, now_ms)
        opened.append(passport)
    return tuple(opened)


def merge(
    honest: Sequence[Passport], cheats: Sequence[Passport], name: str, level: float
) -> Merged:
    """Return the Reference Value of the honest stacks that ``honest`` describe.

    1. They go together: one model, one sampler, one way to recompute; none describes a cheat.
    2. Each has as many answers as ``level`` takes (``statistics.conformal.pool_needed``).
    3. Channels whose tokens follow each other are left out (``statistics.dependence``).
    4. In every bin the null is the worst of them, each with its clustered calibration error.
    5. Power against each of ``cheats`` follows by arithmetic (``statistics.sizing``).

    Raises:
        VerificationError: step 1 fails (``Reason.UNKNOWN_REFERENCE``).
        UnavailableError: step 2 fails (``Reason.POOL_TOO_SMALL``).
        FormatError: the level is not between 0 and 1.
    """
    # 1. and 2.
    check_together([*honest, *cheats])
    _check_roles(honest, cheats)
    _check_pools(honest, pool_needed(level))
    # 3.
    notes = _left_out(honest)
    whole = {name: len(honest) if at is None else at for name, (at, _) in notes.items()}
    known = [passport.predicate for passport in honest]
    every = {name: _edges(known[:count], name) for name, count in whole.items() if count}
    edges = {name: at for name, at in every.items() if whole[name] == len(honest)}
    # 4. and 5.
    goal = Goal(log_level=-math.log(level), weight=1 / BETS, onset=0)
    against = [passport.predicate for passport in cheats]
    steps = []
    for count in range(1, len(honest) + 1):
        left = {name: at for name, at in every.items() if whole[name] >= count}
        lost = tuple(why for at, why in notes.values() if at == count - 1)
        steps.append(_step(honest[:count], against, left, goal)._replace(left_out=lost))
    made = _reference(honest, against, edges, name)
    found = tuple(_alternatives(made, against, edges, goal))
    reference = msgspec.structs.replace(made, alternatives=found)
    tokens.check(reference)
    return Merged(reference, tuple(steps), tuple(why for _, why in notes.values() if why))


def check_together(every: Sequence[Passport]) -> None:
    """Refuse passports that are not of one model, one sampler and one way to recompute.

    Raises:
        VerificationError: they are not, one is there twice, or there are none or too many.
    """
    if not 0 < len(every) <= MAX_PASSPORTS or len(set(every)) != len(every):
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE, f"{len(every)} passports, or one of them twice"
        )
    for what, of in _COMMON.items():
        values = sorted({of(passport.predicate) for passport in every})
        if len(values) != 1:
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE, f"passports of different {what}: {', '.join(values)}"
            )


def widest(every: Sequence[Passport], of: str) -> int:
    """Return the largest of a number that all predicates have: ``noise_micro``, say."""
    return max(int(getattr(passport.predicate, of)) for passport in every)


def margin_edges(noise_micro: int) -> tuple[int, ...]:
    """Return where bins of margins begin: at the largest that the noise can make of a tie.

    Honest margins are smaller, and how often they occur hangs on the prompts, which a client picks.

    Raises:
        FormatError: the noise is beyond the grid.
    """
    return (grids.edge_from(LOG, max(1, 2 * noise_micro)),)


def rows_of(said: Predicate, name: str, edges: Sequence[int]) -> list[tuple[int, ...]]:
    """Return for each answer of a passport how many tokens fall into each bin of a channel."""
    channel = deriving.channel(said, name)
    if channel is None:
        return []
    table = deriving.tables(channel.rows, channel.grid, edges)
    outside = name == BINNED[0]  # residuals are never outside, so they have no bin for it
    return table if outside else [row[:-1] for row in table]


def _arithmetic(said: Predicate) -> str:
    by = said.auditor
    return " ".join((by.engine, by.dtype, by.kernels, by.batch, by.shape, by.decoding))


_COMMON = {
    "weights": lambda said: said.weights_root,
    "samplers": lambda said: said.stack.sampler,
    "auditors": _arithmetic,
}


def _check_roles(honest: Sequence[Passport], cheats: Sequence[Passport]) -> None:
    named = [passport for passport in honest if passport.predicate.cheat is not None]
    if named or not honest:
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE, "a null is made of honest stacks, and of at least one"
        )
    if any(passport.predicate.cheat is None for passport in cheats):
        raise VerificationError(Reason.UNKNOWN_REFERENCE, "power is stated against cheats only")


def _check_pools(honest: Sequence[Passport], needed: int) -> None:
    for passport in honest:
        said = passport.predicate
        whole = sum(row.tokens == passports.TOKENS for row in said.channels[0].rows)
        if whole < needed:
            raise UnavailableError(
                f"passport of {passports.name_of(said.stack)}: {whole} answers of "
                f"{passports.TOKENS} tokens; this level takes {needed}: "
                f"see `lydite passport make --answers {needed}`",
                Reason.POOL_TOO_SMALL,
            )


def _left_out(honest: Sequence[Passport]) -> dict[str, tuple[int | None, str]]:
    """Return for each binned channel the first passport that takes it from all, and why.

    It lacks it, or its tokens follow each other and may not be bet on. None: the channel stays.
    """
    found: dict[str, tuple[int | None, str]] = {}
    for name in BINNED:
        whys = [_unfit(passport, name) for passport in honest]
        at = next((number for number, why in enumerate(whys) if why), None)
        found[name] = (None, "") if at is None else (at, f"{name}: left out, {whys[at]}")
        others = sum(map(bool, whys)) - 1
        if others > 0:
            found[name] = (at, f"{found[name][1]}; and {others} more")
    return found


def _unfit(passport: Passport, name: str) -> str:
    """Return why nobody may bet on a channel if ``passport`` counts; empty if one may."""
    channel = deriving.channel(passport.predicate, name)
    choice = dependence.choose(deriving.dependence(channel.rows)) if channel else None
    if choice is not None and choice.level is not Level.RESPONSES:
        return ""
    whose = f"{passports.name_of(passport.predicate.stack)} ({passports.digest(passport)[:16]})"
    return f"{whose} does not have it" if choice is None else f"{whose}: {choice.why}"


def _edges(known: Sequence[Predicate], name: str) -> tuple[int, ...]:
    if name == BINNED[0]:
        return margin_edges(max(said.noise_micro for said in known))
    rows = [
        row
        for said in known
        if (channel := deriving.channel(said, name)) is not None
        for row in channel.rows
    ]
    return deriving.quantile_edges(rows, LOG, QUANTILES)


def _binned(
    every: Sequence[Passport], name: str, edges: Sequence[int], cheats: Sequence[Predicate] = ()
) -> Binned:
    """Return one histogram for each passport, and what is bet on beside: that of each cheat."""
    return Binned(
        edges=tuple(edges),
        cheats=tuple(
            Cheat(
                name=str(cheat.cheat),
                counts=tuple(map(sum, zip(*rows_of(cheat, name, edges), strict=True))),
            )
            for cheat in cheats
            if deriving.channel(cheat, name) is not None
        ),
        histograms=tuple(
            deriving.histogram(
                passports.name_of(passport.predicate.stack)[:200],
                rows_of(passport.predicate, name, edges),
            )
            for passport in every
        ),
    )


def null_of(every: Sequence[Passport], name: str, edges: Sequence[int]) -> tuple[float, ...]:
    """Return the ceiling of every bin of a channel: the worst of the passports, with its error."""
    size = len(edges) + (2 if name == BINNED[0] else 1)
    return composite.ceilings(_binned(every, name, edges), size, ERROR_PPM)


def _step(
    every: Sequence[Passport],
    cheats: Sequence[Predicate],
    edges: Mapping[str, Sequence[int]],
    goal: Goal,
) -> Step:
    nulls = {name: null_of(every, name, at) for name, at in edges.items()}
    return Step(
        added=passports.name_of(every[-1].predicate.stack),
        digest=passports.digest(every[-1]),
        tolls={name: math.log(math.fsum(null)) for name, null in nulls.items()},
        needed={
            (str(cheat.cheat), name): tokens_needed(
                rows_of(cheat, name, edges[name]), null, goal, len(cheats)
            )
            for cheat in cheats
            for name, null in nulls.items()
        },
    )


def tokens_needed(
    table: Sequence[Sequence[int]], null: Sequence[float], goal: Goal, several: int
) -> int | None:
    """Return how many tokens of a cheat reach the goal, None if never or nothing was counted.

    By the quicker of the bet that learns and the one on the very cheat, one of ``several``.
    """
    if len(table) < 2:
        return None
    share = nearest.smoothed([sum(column) for column in zip(*table, strict=True)])
    logs = [math.log(q / p) for q, p in zip(share, null, strict=True)]
    effect = sizing.design_effect(table, logs)
    bets = (
        sizing.learnt(share, null, goal, effect),
        sizing.wagered(share, null, goal._replace(weight=goal.weight / several), effect),
    )
    return min((tokens for tokens in bets if tokens is not None), default=None)


def _alternatives(
    reference: Reference,
    cheats: Sequence[Predicate],
    edges: Mapping[str, Sequence[int]],
    goal: Goal,
) -> Iterable[Alternative]:
    """Yield how many tokens show each cheat: by a channel alone, and in an even average."""
    nulls = {BINNED[0]: tokens.null(reference), BINNED[1]: tokens.residual_null(reference)}
    beside = f"tokens/{tokens.SURPRISAL}"
    for cheat in cheats:
        for name, at in edges.items():
            table = rows_of(cheat, name, at)
            for channels in ((name,), (name, beside)):
                shared = goal._replace(weight=1 / (BETS * len(channels)))
                needed = tokens_needed(table, nulls[name], shared, len(cheats))
                if needed is not None:
                    yield Alternative(
                        name=str(cheat.cheat),
                        channels=channels,
                        log10_level_milli=round(1000 * goal.log_level / math.log(10)),
                        tokens=needed,
                    )


def _reference(
    honest: Sequence[Passport],
    cheats: Sequence[Predicate],
    edges: Mapping[str, Sequence[int]],
    name: str,
) -> Reference:
    known = [passport.predicate for passport in honest]
    by = known[0].auditor
    margin, residual = (
        _binned(honest, channel, edges[channel], cheats) if channel in edges else None
        for channel in BINNED
    )
    return Reference(
        name=name,
        weights_root=known[0].weights_root,
        sampler=known[0].stack.sampler,
        auditor=f"{by.engine} {by.dtype} {by.kernels}, {by.shape}, {by.decoding}, {by.batch}",
        margin=margin or _unread(honest),
        residual=residual,
        error_ppm=ERROR_PPM,
        drift_micro=widest(honest, "drift_micro"),
        noise_micro=widest(honest, "noise_micro"),
        temperature_min_milli=widest(honest, "temperature_min_milli"),
        top_p_min_ppm=widest(honest, "top_p_min_ppm"),
        alternatives=(),
        provenance=Provenance(
            script=digest_of(said.script for said in known),
            data=digest_of(passports.digest(passport) for passport in honest),
            prompts=digest_of(said.prompts for said in known),
            versions=tuple(sorted({word for said in known for word in said.versions})),
        ),
        stacks=tuple(dict.fromkeys(said.stack for said in known)),
    )


def _unread(honest: Sequence[Passport]) -> Binned:
    """Return the bins of a channel that says nothing, where a sampler has no seed to repeat.

    Every token may fall anywhere, so that no bet on it ever gains.
    """
    name = passports.name_of(honest[0].predicate.stack)
    anywhere = ([(2, 0), (2, 0)], [(0, 2), (0, 2)])
    return Binned(edges=(), histograms=tuple(deriving.histogram(name, table) for table in anywhere))


def digest_of(digests: Iterable[str]) -> str:
    """Return the one digest, or SHA-256 over the sorted ones if there are several."""
    several = sorted(set(digests))
    if len(several) == 1:
        return several[0]
    return hashlib.sha256(b"".join(map(bytes.fromhex, several))).hexdigest()
