"""Tokens to a verdict on the real small models, false accusations, and what an audit costs.

    python bench/bench_model.py

Every provider answers the stored prompts on ``models/lydite-base``; every answer is recomputed as
an auditor would, against the committed Reference Value. Level alpha = 0.005, e-value of verdicts
(``laboratory.crossings``, margin and surprisal in equal parts as in the built-in policy), looked at
after every answer, in the first four after every token: the verdict stands whenever one stops.
Every token is scored; an auditor leaves out those on which honest machines differ.

Peers, on the same answers in the same run: (1) the published fixed-length test on the mean capped
margin (Token-DiFR, arXiv 2511.20621) and (2) on GLS (arXiv 2511.02620), each with a threshold at
the 99.5 % quantile of honest windows of that length, the worse of bf16 and fp32, and counted at
the shortest length that convicts the asked share of windows; (3) the anytime-valid e-process on
the bare mismatch rate, a truncated beta mixture. (1) and (2) may be looked at once only.

What auditors take for the same work in batches, ``make bench-audit`` measures.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from report import write
from scipy.special import betaln, log_ndtr
from scipy.stats import beta

from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.noise.murmur import gumbel
from lydite.evidence.tokens.reference import CHANNELS, Reference, channel_log10_e, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.crossings import crossings
from lydite.laboratory.streams import Question, ask, render, seed_of
from lydite.messages.finding import Finding
from lydite.statistics.merging import log_average
from lydite.statistics.power import first_crossing

MODEL, SMALL = Path("models/lydite-base"), Path("models/lydite-small")
DATA = Path("data/reference/tokens")
ALPHA = 0.005
LEVEL = math.log(1 / ALPHA)
LOG10_LEVEL = -math.log10(ALPHA)
STREAM_TOKENS, STREAMS_A_DTYPE = 2500, 5
LENGTHS = sorted({round(1.06**i) for i in range(142)})
"""At which the fixed-length peers are tried, in tokens."""
DRAWN = Sampling(temperature=1.0, max_tokens=128)
HONEST = (
    *(DRAWN,) * 6,
    Sampling(temperature=0.8, top_p=0.95, max_tokens=128),
    Sampling(temperature=1.0, top_p=0.95, max_tokens=128),
    Sampling(temperature=0.6, top_k=40, max_tokens=128),
)
"""What honest streams are asked for, in turn."""


class Trial(NamedTuple):
    """One cheat: how many streams, of how many tokens each, and the goal for the median."""

    cheat: str
    streams: int
    tokens: int
    goal: int | None


TRIALS = (
    Trial("smaller-model", 10, 250, 50),
    Trial("int4-weights", 10, 600, 500),
    Trial("other-temperature", 10, 300, None),
    Trial("replayed-answers", 10, 250, None),
    Trial("mixed-20", 10, 1200, None),
    Trial("injected-prompt", 10, 1500, None),
    Trial("int8-weights", 10, 600, None),
)


class Scored(NamedTuple):
    """One answer: its finding, and for the peers its uncapped margins in logits."""

    finding: Finding
    margins: NDArray[np.float64]
    drawn: bool
    """Whether it was asked for at temperature 1 without filters, like the cheats."""


class Auditor:
    """Recomputes answers, and keeps count of what it costs."""

    def __init__(self, reference: Reference) -> None:
        self.engine = TransformersEngine.load(MODEL, "fp32", 1)
        self.reference = reference
        self.score_s = 0.0
        self.scored = 0

    def score(self, claims: Claims) -> Scored:
        """Recompute one answer and score it."""
        logits = self.engine.logits(claims.prompt_ids, claims.output_ids)
        started = time.process_time()
        finding = verifier.verify(claims, logits, self.reference)
        self.score_s += time.process_time() - started
        self.scored += len(claims.output_ids)
        return Scored(finding, plain_margins(claims, logits), claims.sampling == DRAWN)


def plain_margins(claims: Claims, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the uncapped margins of an answer without filters, in logits, for the peers."""
    first, heat = len(claims.prompt_ids) - 1, claims.sampling.temperature
    gaps = []
    for position, (token, row) in enumerate(zip(claims.output_ids, logits, strict=True), first):
        noisy = row.astype(np.float64)
        if heat:
            noisy = noisy + heat * gumbel(claims.seed, position, len(row))
        gaps.append(noisy.max() - noisy[token])
    return np.array(gaps)


def collect(
    engine: Engine, auditor: Auditor, label: str, mix: Sequence[Sampling], tokens: int, warm_up: int
) -> list[Scored]:
    """Return scored answers of ``engine`` with at least ``tokens`` tokens together."""
    ids = prompts(auditor.engine)
    found: list[Scored] = []
    number = total = 0
    while total < tokens:
        batch = [
            Question(ids[i % len(ids)], mix[i % len(mix)], seed_of("bench", label, i))
            for i in range(number, number + 16)
        ]
        answers = ask(engine, batch)
        number += 16
        if number <= warm_up:
            continue
        found += [auditor.score(answer) for answer in answers]
        total = sum(len(one.margins) for one in found)
    return found


def prompts(engine: TransformersEngine) -> list[tuple[int, ...]]:
    """Return the stored prompts as ids, in an order of their own."""
    stored = json.loads((DATA / "prompts.json").read_text("utf-8"))
    order = sorted(range(len(stored)), key=lambda i: seed_of("order", i))
    return [render(engine.codec, stored[i]) for i in order]


def cut(scored: Sequence[Scored], tokens: int, streams: int) -> list[list[Scored]]:
    """Return disjoint streams of whole answers, each of at least ``tokens`` tokens."""
    result: list[list[Scored]] = [[]]
    for one in scored:
        if sum(len(s.margins) for s in result[-1]) >= tokens:
            result.append([])
        result[-1].append(one)
    complete = [s for s in result if sum(len(one.margins) for one in s) >= tokens]
    if len(complete) < streams:
        raise SystemExit(f"only {len(complete)} of {streams} streams of {tokens} tokens")
    return complete[:streams]


def highest(reference: Reference, stream: Sequence[Scored]) -> float:
    """Return log10 of the highest e-value of a stream, looked at after every answer."""
    findings = [one.finding for one in stream]
    return max(log10_e(reference, findings[: n + 1]) for n in range(len(findings)))


def log10_e(reference: Reference, findings: Sequence[Finding]) -> float:
    """Return log10 of the e-value that a verdict on ``findings`` would have."""
    known = dict(channel_log10_e(reference, findings))
    logs = [known[name] * math.log(10) for name in CHANNELS]
    return log_average(logs, [1 / len(logs)] * len(logs)) / math.log(10)


def crossing(reference: Reference, stream: Sequence[Scored], tokens: int) -> int | None:
    """Return after how many tokens a stream is accused, None: not within ``tokens``."""
    findings = [one.finding for one in stream]
    (found,) = crossings(reference, findings, [CHANNELS], LOG10_LEVEL)
    return None if found is None or found > tokens else found


def honest_rows(
    auditor: Auditor, streams: dict[str, list[list[Scored]]], bare: dict[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """Count false accusations: ours, and those of a fixed-length test looked at all along."""
    rows, everybody = [], [stream for group in streams.values() for stream in group]
    accused = 0
    for name, group in streams.items():
        peaks = [highest(auditor.reference, stream) for stream in group]
        accused += sum(peak >= LOG10_LEVEL for peak in peaks)
        metric = f"highest log10 E, {len(peaks)} honest streams, {name}"
        rows.append(row(metric, max(peaks), "log10", goal=round(LOG10_LEVEL, 3)))
    metric = f"false accusations, {len(everybody)} honest streams of {STREAM_TOKENS} tokens"
    looked = sum(ever_convicted(margins_of(stream), bare) for stream in everybody)
    peer_name = "Token-DiFR, a look at every length"
    counted = row(metric, accused, "streams", goal=0, peer=looked, peer_name=peer_name)
    return [counted, *rows]


def ever_convicted(margins: NDArray[np.float64], bare: dict[str, NDArray[np.float64]]) -> bool:
    """Say whether the fixed-length test convicts at any of the lengths that it might stop at."""
    path = np.cumsum(np.r_[0.0, difr(margins)])
    sums = {name: np.cumsum(np.r_[0.0, difr(values)]) for name, values in bare.items()}
    rng = np.random.default_rng(6)
    return any(
        path[size] / size > threshold(sums, size, rng) for size in LENGTHS if size < len(path)
    )


def threshold(sums: dict[str, NDArray[np.float64]], size: int, rng: np.random.Generator) -> float:
    """Return what the mean over ``size`` honest tokens exceeds with probability alpha."""
    return max(float(np.quantile(means(path, size, rng), 1 - ALPHA)) for path in sums.values())


def first_windows(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    honest: dict[str, NDArray[np.float64]],
    cheat: NDArray[np.float64],
    share: float,
) -> int | None:
    """Return the shortest window whose mean convicts ``share`` of the cheat's windows.

    Windows are runs of consecutive tokens from random starts, 2000 of them.
    """
    rng = np.random.default_rng(5)
    sums = {name: np.cumsum(np.r_[0.0, statistic(values)]) for name, values in honest.items()}
    bad = np.cumsum(np.r_[0.0, statistic(cheat)])
    for size in LENGTHS:
        if size > len(bad) // 4:
            return None
        if (means(bad, size, rng) > threshold(sums, size, rng)).mean() >= share:
            return size
    return None


def means(path: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of 2000 random windows of ``size`` tokens."""
    starts = rng.integers(0, len(path) - size, size=2000)
    return (path[starts + size] - path[starts]) / size


def difr(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Token-DiFR's score of each token: the capped margin."""
    return np.minimum(margins, 0.5)


def gls(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus GLS, the log-likelihood of a margin under Gumbel noise seen with sigma 1."""
    scores: NDArray[np.float64] = -log_ndtr(-margins / math.sqrt(2))
    return scores


def mismatch_crossing(stream: Sequence[Scored], p0: float) -> int | None:
    """Return when the anytime e-process on the mismatch rate (statistics.md, 2) accuses."""
    hits = np.concatenate([one.margins for one in stream]) > 0
    n = np.arange(1, len(hits) + 1)
    k = np.cumsum(hits)
    a = b = 0.5
    log_e = betaln(k + a, n - k + b) + beta.logsf(p0, k + a, n - k + b)
    log_e -= betaln(a, b) + beta.logsf(p0, a, b) + k * math.log(p0) + (n - k) * math.log1p(-p0)
    return first_crossing(np.nan_to_num(log_e, nan=-np.inf).tolist(), LEVEL)


def cheat_rows(
    auditor: Auditor, trial: Trial, scored: list[Scored], bare: dict[str, NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """Return tokens to a verdict on one cheat, beside the peers."""
    streams = cut(scored, trial.tokens, trial.streams)
    found = [crossing(auditor.reference, stream, trial.tokens) for stream in streams]
    mine = np.concatenate([one.margins for one in scored])
    p0 = max(upper_rate(values) for values in bare.values())
    rates = [mismatch_crossing(s, p0) for s in streams]
    name = f"tokens to verdict, {trial.cheat}"
    ours = middle(found)
    medians = {
        "Token-DiFR, fixed length": first_windows(difr, bare, mine, 0.5),
        "GLS, fixed length": first_windows(gls, bare, mine, 0.5),
        "mismatch rate e-process": middle(rates),
    }
    rows = [
        row(f"{name}, median", ours, "tokens", goal=trial.goal, peer=peer, peer_name=peer_name)
        for peer_name, peer in medians.items()
    ]
    peer = first_windows(difr, bare, mine, 0.9)
    late = worst(found, 0.9)
    rows.append(row(f"{name}, 90 %", late, "tokens", peer=peer, peer_name=next(iter(medians))))
    last = worst(found, 1.0)
    return [*rows, row(f"{name}, worst of {len(streams)}", last, "tokens")]


def margins_of(answers: Sequence[Scored]) -> NDArray[np.float64]:
    """Return the margins of answers without filters, which is what the cheats are asked for."""
    return np.concatenate([one.margins for one in answers if one.drawn])


def upper_rate(margins: NDArray[np.float64]) -> float:
    """Return a 99.9 % upper bound on an honest mismatch rate."""
    hits = int((margins > 0).sum())
    return float(beta.ppf(0.999, hits + 1, len(margins) - hits))


def middle(found: Sequence[int | None]) -> float | None:
    """Return the median, None if half never crossed."""
    value = statistics.median(c if c is not None else math.inf for c in found)
    return None if math.isinf(value) else value


def worst(found: Sequence[int | None], share: float) -> int | None:
    """Return by when ``share`` of the streams had crossed."""
    ordered = sorted(found, key=lambda c: math.inf if c is None else c)
    return ordered[math.ceil(share * len(ordered)) - 1]


def cost_rows(auditor: Auditor) -> list[dict[str, Any]]:
    """Compare the audit of some answers with making them."""
    ids = prompts(auditor.engine)
    questions = [Question(ids[i], DRAWN, seed_of("cost", i)) for i in range(16)]
    rows = []
    for batch in (1, 16):
        engine = TransformersEngine.load(MODEL, "bf16", batch)
        started = time.process_time()
        answers = ask(engine, questions)
        tokens = sum(len(answer.output_ids) for answer in answers)
        made = (time.process_time() - started) / tokens
        engine.close()
        started = time.process_time()
        for answer in answers:
            logits = auditor.engine.logits(answer.prompt_ids, answer.output_ids)
            verifier.verify(answer, logits, auditor.reference)
        audited = (time.process_time() - started) / tokens
        metric = f"audit (fp32 pass, scores) against bf16 decode, batch {batch}"
        peer_name = "making the same tokens"
        rows.append(row(metric, 1e6 * audited, "us/token", peer=1e6 * made, peer_name=peer_name))
    scoring = 128e3 * auditor.score_s / auditor.scored
    return [*rows, row("scores of 128 tokens, vocabulary 2048", scoring, "ms", goal=50)]


def row(
    metric: str,
    ours: float | None,
    unit: str,
    *,
    goal: float | None = None,
    peer: float | None = None,
    peer_name: str | None = None,
) -> dict[str, Any]:
    """Return one row; the goal is a greatest value, and what was never reached misses it."""
    return {
        "metric": metric,
        "ours": None if ours is None else round(ours, 3),
        "peer": peer,
        "peer_name": peer_name,
        "ratio": round(ours / peer, 3) if peer and ours is not None else None,
        "unit": unit,
        "goal": goal,
        "holds": None if goal is None else ours is not None and ours <= goal,
    }


def main() -> None:
    """Run the honest providers, then the cheats, then the clock; print and write the rows."""
    torch.set_num_threads(1)
    reference = parse((DATA / f"{MODEL.name}.json").read_bytes())
    auditor = Auditor(reference)
    honest: dict[str, list[Scored]] = {}
    for dtype in ("bf16", "fp32"):
        engine = TransformersEngine.load(MODEL, dtype, 16)
        tokens = STREAMS_A_DTYPE * (STREAM_TOKENS + 128)
        honest[dtype] = collect(engine, auditor, dtype, HONEST, tokens, 0)
        engine.close()
        print(f"honest {dtype}: {tokens} tokens", flush=True)
    streams = {name: cut(h, STREAM_TOKENS, STREAMS_A_DTYPE) for name, h in honest.items()}
    bare = {name: margins_of(answers) for name, answers in honest.items()}
    rows = honest_rows(auditor, streams, bare)
    workshop = Workshop(model=MODEL, small_model=SMALL)
    for trial in TRIALS:
        engine = CHEATS[trial.cheat](workshop)
        warm_up = 16 if trial.cheat == "replayed-answers" else 0
        tokens = trial.streams * (trial.tokens + 128)
        scored = collect(engine, auditor, trial.cheat, (DRAWN,), tokens, warm_up)
        rows += cheat_rows(auditor, trial, scored, bare)
        print(f"{rows[-5]['metric']}: {rows[-5]['ours']}", flush=True)
    rows += cost_rows(auditor)
    write("model", rows)


if __name__ == "__main__":
    main()
