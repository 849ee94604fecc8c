"""Passports and merged nulls in words and numbers, for ``lydite passport``. Checks no signature."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lydite.errors import FormatError
from lydite.evidence.activations.reference import Covering
from lydite.messages import passport as passports
from lydite.messages.canonical import decode
from lydite.messages.passport import Passport, Sketch
from lydite.numerics import deriving
from lydite.numerics.merging import Merged, Step
from lydite.numerics.sketch_merging import Merged as MergedSketches
from lydite.signing.dsse import Envelope, payload_of
from lydite.statistics import dependence

_STACK = ("engine", "version", "dtype", "kernels", "architecture", "parallelism", "batch")


def payload(content: bytes) -> bytes:
    """Return the passport in a file: the payload of an envelope, or a candidate as it is."""
    try:
        return payload_of(decode(content, Envelope))
    except FormatError:
        return content


def described(known: Sequence[Passport]) -> dict[str, Any]:
    """Return what passports say, without their rows, ready for JSON."""
    return {"passports": [_described(passport) for passport in known]}


def table(known: Sequence[Passport]) -> str:
    """Return one paragraph for each passport, with a line for each channel."""
    return "\n\n".join(_paragraph(passport) for passport in known)


def widening(merged: Merged, sketched: MergedSketches) -> dict[str, Any]:
    """Return how a null came about, ready for JSON."""
    return {
        "reference": merged.reference.name,
        "stacks": [msgspec.to_builtins(stack) for stack in merged.reference.stacks],
        "steps": [
            {
                "added": step.added,
                "passport": step.digest,
                "tollNats": dict(step.tolls),
                "leftOut": list(step.left_out),
                "tokensNeeded": [
                    {"cheat": cheat, "channel": channel, "tokens": tokens}
                    for (cheat, channel), tokens in step.needed.items()
                ],
            }
            for step in merged.steps
        ],
        "notes": [*merged.notes, *sketched.notes],
        "sketches": None if sketched.reference is None else _needed(sketched.reference),
    }


def sketched(merged: MergedSketches) -> list[str]:
    """Return how many tokens of a sketch find each cheat, or why there is no null of sketches."""
    known = merged.reference
    if known is None:
        return list(merged.notes)
    lines = [f"sketches of {known.spec.token_bytes} bytes a token, step {known.spec.delta}"]
    return lines + [
        f"    {one['cheat']} by {one['channel']}: {one['tokens']} tokens" for one in _needed(known)
    ]


def _needed(reference: Covering) -> list[dict[str, Any]]:
    return [
        {"cheat": one.name, "channel": one.channels[0], "tokens": one.tokens}
        for one in reference.alternatives
    ]


def steps(merged: Merged) -> str:
    """Return how each passport widened the null, and what that cost."""
    lines: list[str] = []
    before: Step | None = None
    for step in merged.steps:
        lines.append(f"+ {step.added}  ({step.digest[:16]})")
        tolls = ", ".join(f"{name} {toll:.5f}" for name, toll in step.tolls.items())
        lines.append(f"    every bet pays, in nats a token: {tolls or 'nothing'}")
        lines += [
            f"    {cheat} by {channel}: {_tokens(tokens)}{_lost(before, (cheat, channel), tokens)}"
            for (cheat, channel), tokens in step.needed.items()
        ]
        lines += _silenced(before, step)
        before = step
    return "\n".join([*lines, *merged.notes])


def _silenced(before: Step | None, step: Step) -> list[str]:
    """Return which channels a passport took from all, and how many tokens that costs."""
    lines = [f"    {note}" for note in step.left_out]
    if before is None or not step.left_out:
        return lines
    for cheat in dict.fromkeys(cheat for cheat, _ in before.needed):
        was, now = quickest(before, cheat), quickest(step, cheat)
        if was is not None and was != now:
            lost = "" if now is None else f", {now / was:.2f} times as many"
            lines.append(f"    {cheat}: {_tokens(now)} by what is left, {was} before{lost}")
    return lines


def quickest(step: Step, cheat: str) -> int | None:
    """Return how many tokens find a cheat by the quickest of a step's channels."""
    known = [tokens for (name, _), tokens in step.needed.items() if name == cheat]
    return min((tokens for tokens in known if tokens is not None), default=None)


def _tokens(tokens: int | None) -> str:
    return "not by any number of tokens" if tokens is None else f"{tokens} tokens"


def _lost(before: Step | None, key: tuple[str, str], now: int | None) -> str:
    """Return how many times as many tokens it takes as before the last widening."""
    earlier = None if before is None else before.needed.get(key)
    if earlier is None or now == earlier:
        return ""
    return f", {earlier} before" if now is None else f", {now / earlier:.2f} times as many"


def _described(passport: Passport) -> dict[str, Any]:
    said = passport.predicate
    fields: dict[str, Any] = msgspec.to_builtins(said)
    fields["digest"] = passports.digest(passport)
    fields["channels"] = [_channel(passport, channel.name) for channel in said.channels]
    return fields


def _channel(passport: Passport, name: str) -> dict[str, Any]:
    channel = deriving.channel(passport.predicate, name)
    rows = channel.rows if channel else ()
    measured = deriving.dependence(rows) if len(rows) > 1 else None
    return {
        "name": name,
        "answers": len(rows),
        "tokens": sum(row.tokens for row in rows),
        "rho": None if measured is None else round(measured.rho, 4),
        "judgedBy": None if measured is None else dependence.choose(measured).level.value,
        "quantiles": quantiles(passport, name),
    }


def quantiles(passport: Passport, name: str) -> Mapping[str, int]:
    """Return the cells' edges below which these shares of a channel's scores lie."""
    channel = deriving.channel(passport.predicate, name)
    if channel is None:
        return {}
    shares = (0.5, 0.9, 0.99)
    return {f"{share:g}": deriving.quantile(channel.rows, channel.grid, share) for share in shares}


def _paragraph(passport: Passport) -> str:
    said = passport.predicate
    stack = said.stack
    what = f"cheat {said.cheat} on " if said.cheat else ""
    streams = said.streams
    noise = f"{said.noise_micro / 1e6:.6f} logits, drift {said.drift_micro} ppm"
    alarms = f"{streams.false_alarms} of {streams.run} honest ones accused at log10 E"
    lines = [
        f"{what}{said.model}  weights {said.weights_root[:16]}",
        "  stack     " + ", ".join(getattr(stack, word) for word in _STACK),
        f"            cache {stack.cache_dtype}, {stack.shape}, {stack.decoding}, {stack.sampler}",
        f"  valid     {said.issued[:10]} to {said.expires[:10]}",
        f"  digest    {passports.digest(passport)}",
        f"  noise     {noise}, {said.flips_ppm} ppm of tokens beyond the filters",
        f"  streams   {alarms} {streams.log10_level_milli / 1000:g}, {streams.tokens} tokens each",
        *_sketch(said.sketch),
        "  channel            answers  tokens  half below  90 % below  99 % below     rho  bets on",
    ]
    return "\n".join([*lines, *(_line(passport, channel.name) for channel in said.channels)])


def _sketch(known: Sketch | None) -> list[str]:
    if known is None:
        return []
    taps = "last states and three depths" if known.inner_deltas else "last states"
    noise = f"{known.sigma_micro / 1e6:.6f} rms, {known.noise_micro / 1e6:.6f} at most"
    how = f"{known.coordinates} residues a tap, step {known.delta}, {taps}"
    return [f"  sketch    {how}; noise {noise}; spec {known.spec[:16]}"]


def _line(passport: Passport, name: str) -> str:
    row = _channel(passport, name)
    below = "  ".join(f"{value:>10}" for value in row["quantiles"].values())
    rho = math.nan if row["rho"] is None else row["rho"]
    return (
        f"  {name:<18} {row['answers']:>7} {row['tokens']:>7}  {below}  {rho:>+6.3f}"
        f"  {row['judgedBy']}"
    )
