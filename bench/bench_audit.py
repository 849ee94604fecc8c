"""``make bench-audit``: audits against decoding a single stream of the same answers, on one thread.

The same model, the same answers, the same process, in turn: a ratio is of one repeat. An audit
is all that the auditor does of an answer: the pass in its own arithmetic, that in the declared data
type, the scores, and which of them count; "one arithmetic" leaves the second pass and the last out.
Providers decode in bf16, as declared; float32 is there for comparison. Knows nothing of verdicts.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch

from lydite.engines.buckets import Answer
from lydite.engines.protocol import Codec, Engine, Recomputed, one_by_one
from lydite.engines.transformers_engine import TransformersEngine
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import Reference, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.streams import Question, ask, render, seed_of

MODELS = (Path("models/lydite-base"), Path("models/lydite-small"))
DATA = Path("data/reference/tokens")
GOAL = 20
ANSWERS, DECODED, REPEATS = 16, 1, 3
SYSTEM_TOKENS = 256
DRAWN = Sampling(temperature=1.0, max_tokens=128)
Passes = Iterator[tuple[int, Recomputed]]


class Stand(NamedTuple):
    """A model as the auditor has it, as a provider serves it, and what its scores are read by."""

    exact: Engine
    declared: TransformersEngine
    reference: Reference


def rows(model: Path) -> list[dict[str, Any]]:
    """Return the ratios of one model, plain prompts and prompts behind one system prompt."""
    stand = Stand(
        TransformersEngine.load(model, "fp32", 1),
        TransformersEngine.load(model, "bf16", 1),
        parse((DATA / f"{model.name}.json").read_bytes()),
    )
    found = [exact_decoding(model)]
    maker = TransformersEngine.load(model, "bf16", 16)
    for kind, system in (
        ("", ()),
        (f", system prompt of {SYSTEM_TOKENS}", system_of(stand.declared.codec)),
    ):
        questions = asked(stand.declared, system)
        claims = ask(maker, questions, scored=False)
        found += ratios(f"{model.name}{kind}", stand, questions, claims, sharing=bool(system))
    return found


def exact_decoding(model: Path) -> dict[str, Any]:
    """Return what one stream of the model is decoded with in float32."""
    engine = TransformersEngine.load(model, "fp32", 1)
    questions = asked(engine, ())[:DECODED]
    speeds = sorted(decoded(engine, questions) for _ in range(REPEATS))
    engine.close()
    name = f"single-stream decoding, {model.name}, float32"
    return dict(report.row(name, round(speeds[REPEATS // 2]), "tokens/s"))


def system_of(codec: Codec) -> tuple[int, ...]:
    """Return the tokens of a system prompt."""
    text = "You answer in Python, with tests, and say what you do not know. " * 40
    return tuple(codec.encode(text)[:SYSTEM_TOKENS])


def asked(engine: TransformersEngine, system: tuple[int, ...]) -> list[Question]:
    """Return questions with the stored prompts, behind a system prompt."""
    stored = json.loads((DATA / "prompts.json").read_text("utf-8"))[:ANSWERS]
    return [
        Question((*system, *render(engine.codec, each)), DRAWN, seed_of("speed", number))
        for number, each in enumerate(stored)
    ]


def ratios(
    name: str, stand: Stand, questions: Sequence[Question], claims: list[Claims], *, sharing: bool
) -> list[dict[str, Any]]:
    """Measure each way to audit against decoding, repeat by repeat."""
    works: dict[str, Callable[[], object]] = {
        "one by one": lambda: audit(stand, claims, together=False),
        "batched": lambda: audit(stand, claims, together=True, sharing=False),
    }
    if sharing:
        works["batched, shared"] = lambda: audit(stand, claims, together=True)
    works["batched, one arithmetic"] = lambda: audit(stand, claims, together=True, mask=False)
    tokens = sum(len(each.output_ids) for each in claims)
    speeds: dict[str, list[float]] = {way: [] for way in works}
    decoding: list[float] = []
    for repeat in range(REPEATS):
        some = questions[repeat * DECODED : (repeat + 1) * DECODED]
        decoding.append(decoded(stand.declared, some))
        for way, work in works.items():
            speeds[way].append(tokens / seconds(work))
        decoding.append(decoded(stand.declared, some))
    found: list[dict[str, Any]] = []
    for way, measured in speeds.items():
        # Each repeat against the decoding before and after it.
        pairs = zip(decoding[::2], decoding[1::2], measured, strict=True)
        times = [2 * each / (first + last) for first, last, each in pairs]
        one = report.row(
            f"audit / single-stream decoding, {name}, {way}",
            round(statistics.median(times), 2),
            "times",
            goal=GOAL,
        )
        spread = {"least": round(min(times), 2), "most": round(max(times), 2)}
        speed = round(statistics.median(measured))
        found.append({**one, **spread, "repeats": len(times), "audited_tokens_s": speed})
    least, most = min(decoding), max(decoding)
    one = report.row(
        f"single-stream decoding, {name}", round(statistics.median(decoding)), "tokens/s"
    )
    return [*found, {**one, "least": round(least), "most": round(most), "repeats": len(decoding)}]


def decoded(engine: TransformersEngine, questions: Sequence[Question]) -> float:
    """Return how many tokens a second one stream is decoded with, prompts included."""
    started = time.process_time()
    answers = ask(engine, questions, at_once=1, scored=False)
    return sum(len(each.output_ids) for each in answers) / (time.process_time() - started)


def audit(
    stand: Stand,
    claims: Sequence[Claims],
    *,
    together: bool,
    sharing: bool = True,
    mask: bool = True,
) -> None:
    """Audit all of ``claims``, in batches or not; ``mask``: with the declared data type's pass."""
    answers = [Answer(each.prompt_ids, each.output_ids) for each in claims]

    def passes(engine: Engine, *, shared: bool) -> dict[int, Recomputed]:
        if together:
            return dict(engine.recompute_all(answers, sharing=shared))
        return dict(one_by_one(engine, answers))

    others = passes(stand.declared, shared=False) if mask else {}
    for at, one in passes(stand.exact, shared=sharing).items():
        finding = verifier.verify(claims[at], one.logits, stand.reference)
        if mask:
            kept = verifier.settled(one.logits, others[at].logits, stand.reference)
            verifier.keep(finding, kept)


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of ``work``."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Measure both models, print and write ``bench/results/audit.json``."""
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for model in MODELS:
        found += rows(model)
        print(f"{model.name}: done", flush=True)
    report.write("audit", found)


if __name__ == "__main__":
    main()
