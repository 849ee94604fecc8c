"""What share of all pairs has to be recomputed, for a confidence and a size of cluster.

Three ways to look at the same traffic: pairs drawn from the cluster as a whole, from each server,
or each by itself at a rate, as a gateway's log draws. Two kinds of evidence: decisive (one cheated
pair that is recomputed shows it, with some power), and gathered (tokens of one server's pairs add
up to a verdict). Knows nothing of who cheats or how evidence is made.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated

import msgspec

from lydite.economics import chances, evidence_power
from lydite.economics.evidence_power import ACCUSED_AT_NATS, MEASURED_AT_NATS, Strength
from lydite.errors import ConfigurationError


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, a cheat and a confidence. ``pairs`` are those of one server within the period."""

    servers: Annotated[int, msgspec.Meta(description="servers in the cluster")] = 1_000
    pairs: Annotated[
        int, msgspec.Meta(description="pairs that a server answers within the period")
    ] = 100_000
    cheating_servers: Annotated[int, msgspec.Meta(description="servers that cheat")] = 1
    share: Annotated[
        float, msgspec.Meta(description="share of a cheating server's pairs that are cheated")
    ] = 0.01
    confidence: Annotated[
        float, msgspec.Meta(description="chance with which the cheat has to be caught")
    ] = 0.99
    power: Annotated[
        float, msgspec.Meta(description="chance that recomputing a cheated pair shows it")
    ] = 1.0
    tokens: Annotated[int, msgspec.Meta(description="tokens in an answer, on average")] = 250
    cheat: Annotated[
        str, msgspec.Meta(description="measured cheat whose tokens to a verdict are used")
    ] = "smaller-model"


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """One way to draw: pairs a period in the whole cluster, and their share of all pairs.

    ``approximate`` is the share by 1 - (1 - share)^n, which forgets that pairs run out. ``None``:
    no number of pairs would do.
    """

    way: str
    pairs: int | None
    fraction: float | None
    approximate: float | None
    basis: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be drawn, way by way, and how long a cheat lasts at a rate.

    ``mean_audits`` pairs are recomputed until the first that shows the cheat, in the mean, drawing
    from the whole cluster; ``mean_cheats`` are served by then if pairs are drawn at the rate.
    """

    bad: int
    draws: tuple[Draw, ...]
    mean_audits: float
    mean_cheats: float | None
    gathered_tokens: float | None


def answer(question: Question, strengths: Mapping[str, Strength]) -> Answer:
    """Return how much to recompute.

    Raises:
        ConfigurationError: an input is out of range.
        FormatError: the cheat was not measured.
    """
    _check(question)
    bad_here = max(1, round(question.share * question.pairs))
    bad, everything = bad_here * question.cheating_servers, question.pairs * question.servers
    rate = chances.least_rate(bad, question.confidence, question.power)
    tokens = _tokens(question, strengths)
    return Answer(
        bad=bad,
        draws=(
            _cluster(question, bad, everything),
            _server(question, bad_here),
            _by_itself("each pair by itself, cluster-wide", rate, everything),
            _by_itself(
                "each pair by itself, on every server",
                chances.least_rate(bad_here, question.confidence, question.power),
                everything,
            ),
            _gathered(question, tokens),
        ),
        mean_audits=chances.mean_draws(everything, bad, question.power),
        mean_cheats=None if rate is None else 1 / (rate * question.power),
        gathered_tokens=None if tokens is None else tokens.count,
    )


def _cluster(question: Question, bad: int, everything: int) -> Draw:
    drawn = chances.least_draw(everything, bad, question.confidence, question.power)
    return Draw(
        way="a fixed number, from the whole cluster",
        pairs=drawn,
        fraction=None if drawn is None else drawn / everything,
        approximate=_approximate(question, bad / everything, everything),
        basis="one shows it; hypergeometric, exact",
    )


def _server(question: Question, bad: int) -> Draw:
    drawn = chances.least_draw(question.pairs, bad, question.confidence, question.power)
    return Draw(
        way="a fixed number, from every server",
        pairs=None if drawn is None else drawn * question.servers,
        fraction=None if drawn is None else drawn / question.pairs,
        approximate=_approximate(question, bad / question.pairs, question.pairs),
        basis="one shows it; hypergeometric, exact",
    )


def _approximate(question: Question, share: float, pairs: int) -> float:
    """Return the share of ``pairs`` to draw if drawing one left the others as they were."""
    shown = share * question.power
    if shown >= 1:
        return 1 / pairs
    return math.ceil(math.log1p(-question.confidence) / math.log1p(-shown)) / pairs


def _by_itself(way: str, rate: float | None, everything: int) -> Draw:
    return Draw(
        way=way,
        pairs=None if rate is None else math.ceil(rate * everything),
        fraction=rate,
        approximate=rate,
        basis="one shows it; binomial, exact",
    )


def _tokens(question: Question, strengths: Mapping[str, Strength]) -> evidence_power.Tokens | None:
    """Return the tokens of one server that a verdict takes, all servers sharing one error budget.

    What was measured convicts nine in ten. For more, the evidence is gathered afresh, r times over,
    each time missing one in ten. S servers, r times each, share one budget: the level lies ln(S r)
    nats above that of a single accusation, and tokens grow in proportion to the level.
    """
    found = evidence_power.tokens_at(strengths, question.cheat, question.share)
    if found is None:
        return None
    times = max(1, math.ceil(math.log10(1 / (1 - question.confidence)) - 1e-9))
    level = ACCUSED_AT_NATS + math.log(question.servers * times)
    more = level / MEASURED_AT_NATS
    return evidence_power.Tokens(count=found.count * more * times, basis=found.basis)


def _gathered(question: Question, tokens: evidence_power.Tokens | None) -> Draw:
    way = f"gathered tokens of every server, {question.cheat}"
    if tokens is None:
        return Draw(
            way=way, pairs=None, fraction=None, approximate=None, basis="never seen when measured"
        )
    each = math.ceil(tokens.count / question.tokens)
    enough = each <= question.pairs
    return Draw(
        way=way,
        pairs=each * question.servers if enough else None,
        fraction=each / question.pairs if enough else None,
        approximate=None,
        basis=tokens.basis,
    )


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The same question at another size of cluster: shares of all pairs to recompute."""

    servers: int
    one_server_cheats: float | None
    one_in_hundred_cheat: float | None
    every_server_watched: float | None
    gathered: float | None


def scale(
    question: Question, sizes: tuple[int, ...], strengths: Mapping[str, Strength]
) -> tuple[Scale, ...]:
    """Return how the share to recompute changes with the number of servers.

    With one cheating server it stays, since the cheated share shrinks as the cluster grows; with a
    fixed share of servers cheating the *number* of pairs stays, and the share shrinks; watching
    every server costs the same share at every size; gathered evidence pays a logarithm more.
    """
    return tuple(_at(question, size, strengths) for size in sizes)


def _at(question: Question, servers: int, strengths: Mapping[str, Strength]) -> Scale:
    one = msgspec.structs.replace(question, servers=servers, cheating_servers=1)
    some = msgspec.structs.replace(one, cheating_servers=max(1, servers // 100))
    of_one, of_some = answer(one, strengths), answer(some, strengths)
    return Scale(
        servers=servers,
        one_server_cheats=of_one.draws[0].fraction,
        one_in_hundred_cheat=of_some.draws[0].fraction,
        every_server_watched=of_one.draws[1].fraction,
        gathered=of_one.draws[4].fraction,
    )


def audits_for_proof(
    share: float, mismatch: float, *, budget: float, power: float = 1.0, misses: float = 0.05
) -> int | None:
    """Return the audits until an e-process convicts, where honest machines mismatch too.

    ``share`` of the pairs is cheated, recomputing one shows it with chance ``power``; honest pairs
    mismatch with chance ``mismatch``, the declared null; ``budget`` is the chance of accusing an
    honest provider, ``misses`` that of missing a cheating one. The least m with
    m KL(p1 || p0) - z sqrt(m V) - ln(m)/2 - 1/2 >= ln(1/budget). ``None`` where the cheat is no
    more frequent than honest mismatches: such evidence never convicts.
    """
    if not (0 < mismatch < 1 and 0 < share <= 1 and 0 < power <= 1 and 0 < budget < 1):
        raise ConfigurationError("share, power, mismatch and budget lie between 0 and 1")
    seen = share * power + (1 - share) * mismatch
    if seen <= mismatch:
        return None
    if seen >= 1:
        return math.ceil(math.log(1 / budget) / math.log(1 / mismatch))
    gain = seen * math.log(seen / mismatch) + (1 - seen) * math.log((1 - seen) / (1 - mismatch))
    ratio = math.log(seen * (1 - mismatch) / (mismatch * (1 - seen)))
    spread = math.sqrt(seen * (1 - seen)) * ratio
    z = NormalDist().inv_cdf(1 - misses)

    def short_by(audits: int) -> float:
        sure = audits * gain - z * spread * math.sqrt(audits) - math.log(audits) / 2 - 0.5
        return math.log(1 / budget) - sure

    most = 1
    while short_by(most) > 0:
        most *= 2
    low = most // 2
    while low + 1 < most:
        middle = (low + most) // 2
        low, most = (middle, most) if short_by(middle) > 0 else (low, middle)
    return most


def _check(question: Question) -> None:
    if min(question.servers, question.pairs, question.tokens, question.cheating_servers) < 1:
        raise ConfigurationError("servers, pairs, tokens and cheating servers are one or more")
    if question.cheating_servers > question.servers:
        raise ConfigurationError(
            f"{question.cheating_servers} of {question.servers} servers cannot cheat"
        )
    if not (0 < question.share <= 1 and 0 < question.confidence < 1 and 0 <= question.power <= 1):
        raise ConfigurationError("share, confidence and power lie between 0 and 1")
