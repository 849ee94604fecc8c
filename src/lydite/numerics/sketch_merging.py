"""From several passports with sketches to one Reference Value of activations, and whom it covers.

As ``merging`` does for tokens: in every bin the worst of the honest stacks, and what each cheat
takes. Pure: knows nothing of keys, clocks or models.

**Does not show** that the stacks were honest, or measured well: who signed stands for that.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.activations import reference as activations
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.reference import Covering
from lydite.evidence.activations.spec import Spec
from lydite.messages import passport as passports
from lydite.messages.calibration import Alternative, Binned, Cheat, Provenance
from lydite.messages.passport import Passport, Predicate, Sketch
from lydite.numerics import deriving, merging
from lydite.numerics.merging import BETS, ERROR_PPM
from lydite.statistics import composite, dependence
from lydite.statistics.dependence import Level
from lydite.statistics.sizing import Goal

QUANTILES = (0.98, 0.995)
"""Where bins begin: these shares of the scores of the noisiest stack lie below."""


class Merged(NamedTuple):
    """A Reference Value of activations, None where there is none, and why, or what it lacks."""

    reference: Covering | None
    notes: tuple[str, ...]


def merge(
    honest: Sequence[Passport], cheats: Sequence[Passport], name: str, level: float
) -> Merged:
    """Return the Reference Value of the sketches that passports hold which ``merging`` accepts.

    1. All of them hold sketches, by one spec and of states of one width.
    2. The digest of the spec is that of its fields.
    3. Nothing is bet on token by token whose tokens follow each other.
    4. In every bin the null is the worst of them; half a turn exceeds four times the worst noise.
    5. Power against each of ``cheats`` follows by arithmetic.

    Raises:
        VerificationError: sketches by several specs, or a digest that is not the spec's
            (``Reason.UNKNOWN_SPEC``).
        FormatError: step 4 fails: the step of the spec is too small for one of the stacks.
    """
    known = [passport.predicate for passport in honest]
    made = [said.sketch for said in known if said.sketch is not None]
    # 1. and 2.
    if len(made) < len(known):
        return Merged(None, (f"activations: {len(known) - len(made)} passports hold no sketches",))
    against = [one.predicate for one in cheats if one.predicate.sketch is not None]
    spec = _spec([*made, *(one.sketch for one in against if one.sketch is not None)])
    # 3.
    taps = [passports.SKETCH, *([passports.INNER] if spec.inner_deltas else [])]
    tied = [f"{tap}: left out, {why}" for tap in taps if (why := _tied(known, tap)) is not None]
    if tied:
        return Merged(None, tuple(tied))
    # 4. and 5.
    digests = [passports.digest(passport) for passport in honest]
    reference = _reference(known, against, spec, (name, digests), taps)
    goal = Goal(log_level=-math.log(level), weight=1 / BETS, onset=0)
    found = tuple(_alternatives(reference, against, taps, goal))
    reference = msgspec.structs.replace(reference, alternatives=found)
    activations.check(reference)
    return Merged(reference, ())


def _spec(made: Sequence[Sketch]) -> Spec:
    kinds = {(one.spec, one.coordinates, one.delta, one.inner_deltas, one.width) for one in made}
    if len(kinds) != 1:
        raise VerificationError(Reason.UNKNOWN_SPEC, "sketches by several specs, or of two widths")
    first = made[0]
    fields = {
        "coordinates": first.coordinates,
        "delta": first.delta,
        "innerDeltas": first.inner_deltas,
    }
    try:
        spec = msgspec.convert(fields, Spec)
    except msgspec.ValidationError as error:
        raise FormatError(f"passport: its sketches: {error}") from error
    specs.check(spec)
    if specs.digest(spec) != first.spec:
        raise VerificationError(
            Reason.UNKNOWN_SPEC, "the digest of a spec is not that of its fields"
        )
    return spec


def _tied(known: Sequence[Predicate], tap: str) -> str | None:
    """Return why a tap may not be bet on token by token, None if it may."""
    for said in known:
        channel = deriving.channel(said, tap)
        rows = () if channel is None else channel.rows
        choice = dependence.choose(deriving.dependence(rows))
        if choice.level is Level.RESPONSES:
            return choice.why
    return None


def _rows(said: Predicate, tap: str, edges: Sequence[int]) -> list[tuple[int, ...]]:
    """Return for each answer how many tokens fall into each bin; no score is outside."""
    channel = deriving.channel(said, tap)
    if channel is None:
        return []
    return [row[:-1] for row in deriving.tables(channel.rows, channel.grid, edges)]


def _edges(known: Sequence[Predicate], tap: str) -> tuple[int, ...]:
    channels = [c for said in known if (c := deriving.channel(said, tap)) is not None]
    noisiest = max(channels, key=lambda one: deriving.quantile(one.rows, one.grid, QUANTILES[0]))
    return deriving.quantile_edges(noisiest.rows, noisiest.grid, QUANTILES)


def _binned(known: Sequence[Predicate], cheats: Sequence[Predicate], tap: str) -> Binned:
    edges = _edges(known, tap)
    return Binned(
        edges=edges,
        histograms=tuple(
            deriving.histogram(passports.name_of(said.stack)[:200], _rows(said, tap, edges))
            for said in known
        ),
        cheats=tuple(
            Cheat(
                name=str(cheat.cheat),
                counts=tuple(map(sum, zip(*_rows(cheat, tap, edges), strict=True))),
            )
            for cheat in cheats
        ),
    )


def _reference(
    known: Sequence[Predicate],
    cheats: Sequence[Predicate],
    spec: Spec,
    named: tuple[str, Sequence[str]],
    taps: Sequence[str],
) -> Covering:
    name, digests = named
    by, made = known[0].auditor, [said.sketch for said in known if said.sketch is not None]
    binned = [_binned(known, cheats, tap) for tap in taps]
    return Covering(
        name=name,
        weights_root=known[0].weights_root,
        width=made[0].width,
        spec=spec,
        auditor=f"{by.engine} {by.dtype} {by.kernels}, {by.shape}, {by.decoding}, {by.batch}",
        sketch=binned[0],
        inner=binned[1] if len(binned) > 1 else None,
        error_ppm=ERROR_PPM,
        sigma_micro=max(one.sigma_micro for one in made),
        noise_micro=max(one.noise_micro for one in made),
        alternatives=(),
        provenance=Provenance(
            script=merging.digest_of(said.script for said in known),
            data=merging.digest_of(digests),
            prompts=merging.digest_of(said.prompts for said in known),
            versions=tuple(sorted({word for said in known for word in said.versions})),
        ),
        stacks=tuple(dict.fromkeys(said.stack for said in known)),
    )


def _alternatives(
    reference: Covering, cheats: Sequence[Predicate], taps: Sequence[str], goal: Goal
) -> Iterator[Alternative]:
    """Yield how many tokens show each cheat by each tap alone."""
    for tap, binned in zip(taps, (reference.sketch, reference.inner), strict=False):
        if binned is None:
            continue
        null = composite.ceilings(binned, len(binned.edges) + 1, reference.error_ppm)
        for cheat in cheats:
            table = _rows(cheat, tap, binned.edges)
            needed = merging.tokens_needed(table, null, goal, len(cheats))
            if needed is not None:
                yield Alternative(
                    name=str(cheat.cheat),
                    channels=(tap,),
                    log10_level_milli=round(1000 * goal.log_level / math.log(10)),
                    tokens=needed,
                )
