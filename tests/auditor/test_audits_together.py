"""Audits in batches find what audits one by one find, and no verdict hangs on which it was."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from lydite.appraisal import decision
from lydite.appraisal.policy import DEFAULT
from lydite.auditor.bench import Bench, Case
from lydite.auditor.sketching import Read
from lydite.engines.buckets import Answer
from lydite.engines.protocol import Recomputed, one_by_one
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import UnavailableError
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import MARGIN, SURPRISAL, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.streams import Question, ask
from lydite.laboratory.world import World
from lydite.messages.finding import Finding

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models" / "lydite-small"
NUDGE_MICRO = 100
"""What the order of sums moves in a score, at most: a seven-hundredth of the reference's noise."""


def cases(world: World) -> list[Case]:
    """Every drawn receipt with its opening; the third was cut, the fifth has bytes of no answer."""
    world.traffic(12)
    world.auditor.open_epoch(1_000_000)
    found = []
    for place, number in enumerate(world.auditor.case.pending()):
        case = Case(world.auditor.case.receipt(number), world.opening(number))
        if place in {2, 4}:
            case = case._replace(opening=replace(case.opening, status=500 if place == 2 else 200))
        found.append(case)
    return found


def test_findings_together_are_those_of_each_alone() -> None:
    world = World()
    bench, some = Bench(world.model, (world.reference,), Bigram()), cases(world)
    together = bench.examine_all(some, declares_ids=True)
    assert together == [bench.examine(*case, declares_ids=True) for case in some]
    assert bench.examine_all([], declares_ids=True) == []


@pytest.mark.parametrize("error", [RuntimeError("no memory"), UnavailableError("gone")])
def test_a_pass_that_fails_leaves_every_answer_its_own_finding(error: Exception) -> None:
    class Failing(Bigram):
        def recompute_all(
            self, answers: Sequence[Answer], *, sharing: bool = True
        ) -> Iterator[tuple[int, Recomputed]]:
            yield from one_by_one(self, answers[:3])
            raise error

    world = World()
    some = cases(world)
    alone = Bench(world.model, (world.reference,)).examine_all(some, declares_ids=True)
    assert Bench(Failing(), (world.reference,)).examine_all(some, declares_ids=True) == alone
    second = Bench(world.model, (world.reference,), Failing())
    assert second.examine_all(some, declares_ids=True) == alone


def test_two_engines_may_each_have_an_order_of_their_own() -> None:
    class Backwards(Bigram):
        def recompute_all(
            self, answers: Sequence[Answer], *, sharing: bool = True
        ) -> Iterator[tuple[int, Recomputed]]:
            yield from reversed(list(one_by_one(self, answers)))

    world = World()
    some = cases(world)
    bench = Bench(world.model, (world.reference,), Backwards())
    assert bench.examine_all(some, declares_ids=True) == [
        bench.examine(*case, declares_ids=True) for case in some
    ]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    engines = [TransformersEngine.load(SMALL, dtype) for dtype in ("fp32", "bf16")]
    stored = ROOT / "data" / "reference" / "tokens" / "lydite-small.json"
    yield Bench(engines[0], (parse(stored.read_bytes()),), engines[1])
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def answers(bench: Bench) -> list[Claims]:
    """Answers of very unlike lengths, half of them behind a system prompt of 220 tokens."""
    codec = bench._engine.codec
    stored = json.loads((ROOT / "data/reference/tokens/prompts.json").read_text("utf-8"))[:24]
    system = codec.encode("the module that reads settings from a file and checks them. " * 16)[:220]
    asked = []
    for number, prompt in enumerate(stored):
        plain = codec.encode(prompt.get("prompt") or prompt["messages"][0]["content"])
        ids = [*system, *plain] if number % 2 else plain
        tokens = 1 if number % 7 == 0 else 10 + 4 * number
        asked.append(Question(tuple(ids), Sampling(max_tokens=tokens), number))
    return ask(bench._second or bench._engine, asked, scored=False)


def judged(bench: Bench, findings: Sequence[Finding]) -> decision.Verdict:
    return decision.decide(DEFAULT, bench.references, [[each] for each in findings])


def test_scores_and_verdict_do_not_hang_on_the_batch(bench: Bench, answers: list[Claims]) -> None:
    alone = [bench._alone(each) for each in answers]
    together = dict(bench._together(answers))
    for place, claimed in enumerate(answers):
        mine, theirs = (
            verifier.verify(claimed, passes[0].logits, bench._reference)
            for passes in (alone[place], together[place])
        )
        for name in (MARGIN, SURPRISAL):
            pairs = zip(mine.values(name), theirs.values(name), strict=True)
            assert max(abs(a - b) for a, b in pairs) < NUDGE_MICRO
    one, other = (
        judged(bench, [bench._scored(c, Read(), passes[at]) for at, c in enumerate(answers)])
        for passes in (alone, together)
    )
    assert (one.tier, one.reason, one.scored) == (other.tier, other.reason, other.scored)
    assert abs(one.log10_e_milli - other.log10_e_milli) < 100


def test_what_decides_which_tokens_count_shares_nothing(
    bench: Bench, answers: list[Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours would move digits of bfloat16 by as much as the noise they are held against."""
    asked = []

    def listening(*_: object, sharing: bool = True) -> Iterator[tuple[int, Recomputed]]:
        asked.append(sharing)
        return iter(())

    monkeypatch.setattr(bench._second, "recompute_all", listening)
    with pytest.raises(RuntimeError):
        list(bench._together(answers))
    assert asked == [False]
