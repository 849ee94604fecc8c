"""What a server may do to be believed on less than was asked for, and what honest ones do."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from odd_server import Said, Script, answer, serving

from lydite.auditor.probing import power, verdict
from lydite.auditor.probing.asking import Asker, Style
from lydite.auditor.probing.budget import Budget, Limits
from lydite.auditor.probing.comparing import Pair, Sides, as_far_as_taught, compare, observed
from lydite.auditor.probing.line import Manners, Server
from lydite.auditor.probing.power import Seen
from lydite.auditor.probing.reading import Reader
from lydite.auditor.probing.verdict import NUMERICS, Alternative, Evidence, Verdict
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import LyditeError, Reason
from lydite.evidence.endpoint.claims import MOST_BESIDE, Answer, Draw, Reported, parse
from lydite.evidence.endpoint.reference import ASKED, GENERIC, HABITS, Plan, habits, levels
from lydite.evidence.endpoint.verifier import distribution, verify
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

NONCE = bytes(32)
NAMED = Plan(greedy=False, logprobs=True, tokens="named")
SPELT = msgspec.structs.replace(NAMED, tokens="spelt")
INT4 = Alternative(
    name="int4",
    accused_within=None,
    noticed_within=40,
    channels={"surprisal": None, "pit": None, "residual": None, NUMERICS: 40},
)
SMALLER = msgspec.structs.replace(
    INT4, name="smaller", channels={"surprisal": 200, "pit": None, "residual": 10, NUMERICS: 10}
)


def scored(tokens: int, *, reported: bool) -> Finding:
    """The scores of an answer that is as likely as it should be."""
    rows = {
        "surprisal": [50_000, -50_000] * (tokens // 2),
        "pit": [at * 618_034 % 1_000_000 for at in range(tokens)],
    }
    rows |= {"residual": [0] * tokens} if reported else {}
    measures = tuple(Measure(name=n, unit="u", values=tuple(v)) for n, v in rows.items())
    return Finding(kind="endpoint", tier=Tier.NONE, reason=Reason.RECORDED, measures=measures)


def judged(
    findings: list[Finding],
    *alternatives: Alternative,
    skipped: Counter[Reason] | None = None,
) -> Verdict:
    quiet = sum(not one.values("residual") for one in findings)
    evidence = Evidence(
        plan=NAMED,
        draws=(ASKED,),
        findings=findings,
        tokens=sum(len(one.values("surprisal")) for one in findings),
        answers=len(findings) + (skipped or Counter()).total(),
        skipped=skipped or Counter(),
        unread=Counter({Reason.BAD_LOGPROBS: quiet} if quiet else {}),
    )
    found = verdict.levels(GENERIC, evidence)
    return verdict.decide(evidence, found, alternatives, 0.001)


@pytest.mark.parametrize("quiet", [2, 8, 19])
def test_logprobs_of_the_first_answers_alone_affirm_nothing(quiet: int) -> None:
    findings = [scored(64, reported=n >= quiet) for n in range(20)]
    got = judged(findings, INT4)
    if quiet <= 2:
        assert (got.tier, got.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)
    else:
        assert (got.tier, got.reason) == (Tier.NONE, Reason.BAD_LOGPROBS)
        assert f"{quiet} of 20 answers" in got.detail


def test_logprobs_of_the_short_answers_alone_affirm_nothing() -> None:
    findings = [scored(4, reported=True)] * 95 + [scored(64, reported=False)] * 5
    got = judged(findings, INT4)
    assert (got.tier, got.reason) == (Tier.NONE, Reason.BAD_LOGPROBS)


def test_what_the_tokens_show_by_themselves_needs_no_logprobs() -> None:
    assert judged([scored(64, reported=False)] * 20, SMALLER).tier is Tier.AFFIRMING
    assert judged([scored(64, reported=False)] * 20, SMALLER, INT4).tier is Tier.NONE


@pytest.mark.parametrize(("skipped", "tier"), [(2, Tier.AFFIRMING), (3, Tier.NONE)])
def test_more_than_a_tenth_that_cannot_be_weighed_affirms_nothing(skipped: int, tier: Tier) -> None:
    counts = Counter({Reason.RETOKENISED: skipped})
    got = judged([scored(64, reported=True)] * (20 - skipped), INT4, skipped=counts)
    assert got.tier is tier
    assert got.reason is (Reason.CONSISTENT if tier is Tier.AFFIRMING else Reason.RETOKENISED)


def test_pairs_that_are_hidden_affirm_nothing() -> None:
    row = {"a": -0.5, "b": -1.0}
    one = observed(answered(2, ["a"], row), tracked=True)
    assert not isinstance(one, Reason)
    pairs = [Pair(prompt="prompt 1", ours=one, theirs=one)] * 90
    sides = Sides(past=False, tracked=True)
    found = compare(pairs, 1, GENERIC, 0.001, sides)
    assert found.tier is Tier.AFFIRMING
    assert as_far_as_taught(found, [*pairs, *[Reason.UNAVAILABLE] * 10]).tier is Tier.AFFIRMING
    hidden = as_far_as_taught(found, [*pairs, *[Reason.UNAVAILABLE] * 11])
    assert (hidden.tier, hidden.reason) == (Tier.NONE, Reason.UNAVAILABLE)
    assert "11 of 101" in hidden.detail


def answered(
    decimals: int, tokens: list[str], row: dict[str, float] | None = None, **changes: Any
) -> Answer:
    reported = tuple(
        Reported(token=t, raw=t.encode(), logprob=-0.5, top=tuple((row or {}).items()))
        for t in tokens
    )
    said = Answer(
        text="".join(tokens),
        token_ids=None,
        prompt_ids=None,
        reported=reported,
        fault=None,
        decimals=decimals,
        finish_reason="length",
        prompt_tokens=None,
        completion_tokens=None,
    )
    return msgspec.structs.replace(said, **changes)


def spelt(engine: TransformersEngine, count: int) -> list[str]:
    """So many tokens, one after the other, each with a spelling of its own."""
    text = "the cat sat on the mat and then went home to sleep a little while it rained " * 8
    ids = engine.codec.encode(text)[len(engine.codec.encode("")) :]
    return [engine.codec.token_bytes(token).decode() for token in ids[:count]]


def test_a_glued_entry_hides_no_tail(declared: TransformersEngine) -> None:
    reader, words = Reader(declared), spelt(declared, 40)
    whole = reader.served(answered(6, words), (1, 2), SPELT)
    assert (len(whole.ids), whole.masked) == (40, 0)
    glued = [*words[:2], "".join(words[2:])]
    for counted in (None, 3, 40):  # whatever the server counts
        with pytest.raises(LyditeError) as caught:
            reader.served(answered(6, glued, completion_tokens=counted), (1, 2), SPELT)
        assert caught.value.reason is Reason.RETOKENISED


@pytest.mark.parametrize(("hidden", "weighed"), [(4, True), (5, False)])
def test_a_tenth_of_the_tokens_may_be_left_out(
    hidden: int, weighed: bool, declared: TransformersEngine
) -> None:
    reader, words = Reader(declared), spelt(declared, 40)
    odd = [*words[: 40 - hidden], *["\N{SNOWMAN}x"] * hidden]
    said = answered(6, odd, text="".join(words[: 40 - hidden]))
    if weighed:
        assert reader.served(said, (1, 2), SPELT).masked == hidden
        return
    with pytest.raises(LyditeError) as caught:
        reader.served(said, (1, 2), SPELT)
    assert caught.value.reason is Reason.RETOKENISED


def test_tokens_that_are_counted_and_not_named_are_left_out(declared: TransformersEngine) -> None:
    words = spelt(declared, 20)
    ids = tuple(declared.codec.encode("".join(words))[len(declared.codec.encode("")) :])
    said = answered(6, [], text=declared.codec.decode(ids), token_ids=ids)
    counted = msgspec.structs.replace(said, completion_tokens=2 * len(ids))
    assert Reader(declared).served(said, (1, 2), NAMED).ids == ids
    with pytest.raises(LyditeError) as caught:
        Reader(declared).served(counted, (1, 2), NAMED)
    assert caught.value.reason is Reason.RETOKENISED


def test_an_answer_may_end_with_a_new_line_and_count_its_end(declared: TransformersEngine) -> None:
    words = [*spelt(declared, 3), "\n"]
    said = answered(6, words, finish_reason="stop", completion_tokens=5)
    assert len(Reader(declared).served(said, (1, 2), SPELT).ids) >= 4


@pytest.mark.parametrize(("decimals", "read"), [(0, False), (1, False), (2, True), (6, True)])
def test_logprobs_that_are_rounded_away_are_not_read(
    decimals: int, read: bool, declared: TransformersEngine
) -> None:
    said = answered(decimals, spelt(declared, 20), {"a": -0.5})
    assert (Reader(declared).served(said, (1, 2), SPELT).logprobs is not None) is read
    seen = observed(said, tracked=True)
    assert seen is Reason.BAD_LOGPROBS if not read else not isinstance(seen, Reason)


def test_rounding_makes_the_same_alternative_harder_to_see() -> None:
    dice = np.random.default_rng(5)
    row = dice.normal(0.0, 3.0, (40, 30))
    pairs = [(row, row + dice.normal(0.0, 0.08, row.shape))]
    fine, coarse = (
        power.needed(GENERIC, Seen(NAMED, Draw(), half), pairs, 0.001).channels[NUMERICS]
        for half in (0.0, 0.02)
    )
    assert fine is not None
    assert coarse is None or coarse > fine
    assert power.needed(GENERIC, Seen(NAMED, Draw(), 0.5), pairs, 0.001).channels[NUMERICS] is None


def drawn(asked: float, really: Draw, model: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """The verdict on a server that draws ``really``, from logits that are ``model`` of ours."""
    dice = np.random.default_rng(7)
    plan = Plan(greedy=asked == 0.0, logprobs=False, tokens="named")
    draws = {ASKED: Draw(temperature=asked), **habits(asked)}
    evidence = Evidence(plan=plan, draws=tuple(draws))
    for number in range(25):
        rows = dice.normal(0.0, 2.5, (40, 24))
        chances = [distribution(model(row), really) for row in rows]
        ids = [int(dice.choice(24, p=chance)) for chance in chances]
        nonce = NONCE[:28] + number.to_bytes(4, "big")
        evidence.findings.append(verify(ids, rows, draws, None, nonce))
        evidence.tokens += len(ids)
        evidence.answers += 1
    return verdict.decide(evidence, verdict.levels(GENERIC, evidence), (), 0.001)


def declared_model(row: np.ndarray) -> np.ndarray:
    return row


def another_model(row: np.ndarray) -> np.ndarray:
    return np.roll(row, 1)


@pytest.mark.parametrize(
    ("asked", "really", "told"),
    [
        (0.8, Draw(temperature=0.6, top_p=0.9), True),
        (0.8, Draw(), False),
        (1.5, Draw(), False),
        (0.0, Draw(), True),
        (0.0, Draw(temperature=0.7), True),
        (0.0, Draw(temperature=0.1), False),
    ],
    ids=["override", "ignored", "clamped", "zero", "zero is .7", "zero is .1"],
)
def test_a_careless_server_is_not_another_model_at_any_temperature(
    asked: float, really: Draw, told: bool
) -> None:
    got = drawn(asked, really, declared_model)
    assert got.tier in {Tier.WARNING, Tier.NONE}, got.levels
    if told:
        assert got.reason is Reason.SAMPLING_DIFFERS, got.levels


@pytest.mark.parametrize("asked", [0.0, 0.8, 1.0])
def test_another_model_is_told_from_every_habit(asked: float) -> None:
    for really in (Draw(), Draw(temperature=0.6, top_p=0.9)):
        assert drawn(asked, really, another_model).tier is Tier.CONTRAINDICATED


def test_the_habits_at_temperature_one_are_those_that_are_listed() -> None:
    assert habits(1.0) == HABITS
    for asked in (0.0, 0.3, 0.8, 2.0):
        assert HABITS.items() < habits(asked).items()
        assert all(draw.temperature > 0.0 for draw in habits(asked).values())
        assert Draw() in habits(asked).values()


def test_a_habit_of_a_greedy_audit_is_weighed_by_what_it_draws() -> None:
    rows = np.random.default_rng(1).normal(0.0, 2.0, (10, 9))
    plan = Plan(greedy=True, logprobs=False, tokens="named")
    draws = {ASKED: Draw(temperature=0.0), "temperature-1": Draw()}
    found = [verify([0] * 10, rows, draws, None, NONCE)]
    assert set(levels(GENERIC, plan, found, ASKED).channels) == {"margin"}
    assert set(levels(GENERIC, plan, found, "temperature-1").channels) == {"surprisal", "pit"}


def content(entries: int, beside: int) -> bytes:
    top = [{"token": str(n), "logprob": -9.0 - n} for n in range(beside)]
    one = {"token": "a", "logprob": -0.25, "top_logprobs": top}
    choice = {"message": {"content": "a"}, "logprobs": {"content": [one] * entries}}
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("entries", "beside", "read"),
    [(40, 5, True), (41, 5, False), (1, MOST_BESIDE, True), (1, MOST_BESIDE + 1, False)],
)
def test_no_more_logprobs_are_read_than_were_asked_for(
    entries: int, beside: int, read: bool
) -> None:
    said = parse(content(entries, beside), chat=True, tokens=16)
    assert (said.fault, len(said.reported)) == (
        (None, entries) if read else (Reason.BAD_LOGPROBS, 0)
    )


def counting(prompt: int, completion: int) -> Script:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}

    def script(_: dict[str, Any]) -> Said:
        return answer(usage=usage)

    return script


def test_a_server_cannot_spend_the_budget_by_what_it_counts() -> None:
    for said, most in (((7, 9), 16), ((10**9, 10**9), 2000)):
        budget = Budget(Limits(requests=9, tokens=100_000))
        with serving(counting(*said)) as url:
            asker = Asker(Server(url, Manners()), Style(model="m", answer_tokens=16), budget)
            asker.one({"messages": [{"role": "user", "content": "hello"}]})
        assert budget.tokens <= most
