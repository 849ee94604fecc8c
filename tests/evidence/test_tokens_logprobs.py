"""Log-probabilities that an answer gives: read as any server writes them, measured, or refused.

Whatever a provider writes, none of it affirms, and only numbers that can be true are held against
it.
"""

import json
import math
import random
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.engines.openai_bodies import Answer
from lydite.engines.openai_requests import Request
from lydite.engines.protocol import Piece, TokenLogprobs
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.tokens import logprobs, verifier
from lydite.evidence.tokens.claims import Claims, answered, asked
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.reference import RESIDUAL, RESIDUAL_CAP_MICRO
from lydite.evidence.tokens.sampling import Sampling
from tests.evidence.test_tokens_claims import CHAT, TEXT, dump, sse
from tests.evidence.test_tokens_verifier import SEED, reference, serve, some_logits

IDS = (5, 6, 7)
VALUES = (-0.25, -1.5000001, -0.0004)


class Letters:
    """A tokenizer in which every token is one letter."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([64 + token])


def pieces(values: tuple[float, ...] = VALUES) -> list[Piece]:
    return [
        Piece(
            text=chr(64 + token),
            token_ids=(token,),
            logprobs=(TokenLogprobs(token=token, logprob=value, top=((token, value), (9, -9.0))),),
            finish_reason="length" if token == IDS[-1] else None,
        )
        for token, value in zip(IDS, values, strict=True)
    ]


def body(chat: bool, streamed: bool) -> bytes:
    """What our own server writes."""
    request = Request(
        chat=chat,
        model=None,
        prompt_ids=(1,),
        sampling=Sampling(),
        top_logprobs=2,
        stream=streamed,
        include_usage=True,
    )
    said: Any = Answer(request=request, identity="x", created=1, model="m", codec=Letters())  # type: ignore[arg-type]
    if not streamed:
        return msgspec.json.encode(said.whole(pieces()))
    chunks = [said.opening(), *(said.chunk(p, i) for i, p in enumerate(pieces())), said.closing(3)]
    events = (b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)
    return b"".join(events) + b"data: [DONE]\n\n"


def question(chat: bool, streamed: bool) -> tuple[str, bytes]:
    if chat:
        turn = [{"role": "user", "content": "hi"}]
        return CHAT, dump({"messages": turn, "logprobs": True, "stream": streamed})
    return TEXT, dump({"prompt": "hi", "logprobs": 2, "stream": streamed})


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_log_probabilities_are_read_from_every_form_of_an_answer(
    chat: bool, streamed: bool
) -> None:
    wanted = asked(*question(chat, streamed))
    exchange = answered(wanted, body(chat, streamed))
    assert wanted.scored
    served = logprobs.read(exchange.logprobs, exchange.output_ids, chat=chat)
    assert served == Served(values=VALUES, unit=pytest.approx(1e-7))


def test_an_answer_without_any_has_none_to_read() -> None:
    wanted = asked(TEXT, dump({"prompt": "hi"}))
    answer = {"choices": [{"text": "EFG", "token_ids": IDS, "logprobs": None}]}
    exchange = answered(wanted, dump(answer))
    assert (wanted.scored, exchange.logprobs) == (False, ())


@pytest.mark.parametrize(
    ("more", "scored"), [({"logprobs": 0}, True), ({"logprobs": 3}, True), ({}, False)]
)
def test_a_completion_may_ask_for_those_of_its_own_tokens_alone(
    more: dict[str, int], scored: bool
) -> None:
    assert asked(TEXT, dump({"prompt": "hi"} | more)).scored is scored


def read(chat: bool, *parts: Any) -> Served:
    return logprobs.read(parts, IDS, chat=chat)


def entries(*values: Any, **more: Any) -> dict[str, Any]:
    return {"content": [{"token": "x", "logprob": value} | more for value in values]}


def lists(values: list[Any], **more: Any) -> dict[str, Any]:
    return {"token_logprobs": values, **more}


GOOD = [-0.25, -1.5, -0.125]
TWO_OF_SIX = [{"a": -0.4, "b": -0.5}] * 3

NOTHING = {
    "no part": (True,),
    "null": (True, None),
    "no list": (True, {"content": None}),
    "an empty list": (True, {"content": []}),
    "zeros": (True, entries(0, 0, 0)),
    "zeros in lists": (False, lists([0.0, -0.0, 0.0])),
    "-9999 for every token": (False, lists([-9999, -9999, -9999])),
    "minus infinity in decimals": (False, lists([-1e300, -1e300, -1e300])),
    "whole nats": (False, lists([-1, -2, -3])),
    "tenths": (False, lists([-1.1, -2.0, -3.2])),
}

ODD = {
    "fewer than tokens": (True, entries(*GOOD[:2])),
    "more than tokens": (False, lists([*GOOD, -0.5])),
    "names for others": (False, lists(GOOD, tokens=["a", "b"])),
    "alternatives for others": (False, lists(GOOD, top_logprobs=[{}])),
    "null for a token": (False, lists([None, *GOOD[1:]])),
    "above zero": (True, entries(0.1, *GOOD[1:])),
    "too small to have been drawn": (False, lists([-9999, *GOOD[1:]])),
    "text for numbers": (True, entries("-0.25", *GOOD[1:])),
    "a list for the object": (True, [1, 2, 3]),
    "a number for the list": (False, {"token_logprobs": 3}),
    "alternatives above one": (False, lists(GOOD, top_logprobs=TWO_OF_SIX)),
    "alternatives above one in a chat": (
        True,
        entries(*GOOD, top_logprobs=[{"token": t, "logprob": -0.5} for t in "abc"]),
    ),
    "an alternative above zero": (
        True,
        entries(*GOOD, top_logprobs=[{"token": "a", "logprob": 7}]),
    ),
    "another token by its id": (
        False,
        lists(GOOD, tokens=["token_id:5", "token_id:6", "token_id:8"]),
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_says_nothing_is_no_measure_and_no_fault(case: str) -> None:
    chat, *parts = NOTHING[case]
    with pytest.raises(UnavailableError) as caught:
        read(chat, *parts)
    assert caught.value.reason is Reason.NO_LOGPROBS


@pytest.mark.parametrize("case", ODD)
def test_what_no_honest_server_says_is_named_and_not_measured(case: str) -> None:
    chat, *parts = ODD[case]
    with pytest.raises(FormatError) as caught:
        read(chat, *parts)
    assert caught.value.reason is Reason.BAD_LOGPROBS


def read_whole(response: bytes) -> Served:
    exchange = answered(asked(TEXT, dump({"prompt": "hi", "logprobs": 1})), response)
    return read(False, *exchange.logprobs)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_numbers_that_are_none_never_reach_the_measure(number: bytes) -> None:
    answer = {"text": "EFG", "token_ids": IDS, "logprobs": lists([-0.5, -77, -1.5])}
    broken = dump({"choices": [answer]}).replace(b"-77", number)
    with pytest.raises(FormatError) as caught:
        read_whole(broken)
    assert caught.value.reason in {Reason.MALFORMED, Reason.BAD_LOGPROBS}


def test_a_drawn_token_that_is_listed_twice_is_one() -> None:
    """vllm#42259."""
    twice = [{"token": "x", "logprob": -0.25}] * 2 + [{"token": "y", "logprob": -2.5}]
    assert read(True, entries(*GOOD, top_logprobs=twice)).values == tuple(GOOD)


@pytest.mark.parametrize(
    ("values", "unit"),
    [([-0.25, -1.5, -0.1], 0.01), ([-0.1234, -5, -2.5], 1e-4), ([-1e-05, -1.0, -2.0], 1e-5)],
)
def test_the_finest_decimal_says_how_all_were_rounded(values: list[float], unit: float) -> None:
    assert read(False, lists(values)).unit == pytest.approx(unit)


# The measure.


def obvious_log_p(row: Any, token: int, heat: float = 1.0) -> float:
    return float(row[token] / heat - math.log(math.fsum(math.exp(v / heat) for v in row)))


def residuals(served: Claims, logits: Any, values: list[float], unit: float = 0.0) -> list[int]:
    said = msgspec.structs.replace(served, served=Served(values=tuple(values), unit=unit))
    return list(verifier.verify(said, logits, reference()).values(RESIDUAL))


@given(st.integers(0, 10_000), st.sampled_from([Sampling(), Sampling(temperature=0.7)]))
def test_residuals_are_what_served_and_recomputed_differ_by(seed: int, sampling: Sampling) -> None:
    logits = some_logits(seed)
    served = serve(logits, sampling)
    offs = np.random.default_rng(seed).uniform(-0.01, 0.0, len(logits))
    true = [obvious_log_p(row, t) for row, t in zip(logits, served.output_ids, strict=True)]
    found = residuals(served, logits, [t + o for t, o in zip(true, offs, strict=True)])
    near = zip(found, offs, strict=True)
    assert all(value <= round(-1e6 * off) + 1 for value, off in near)
    if sampling.temperature == 1.0:
        assert found == pytest.approx(list(-1e6 * offs), abs=1)


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(top_k=5, top_p=0.8)]
)
def test_log_probabilities_of_the_draw_itself_are_true_as_well(sampling: Sampling) -> None:
    """vLLM with ``--logprobs-mode processed_logprobs``."""
    logits = some_logits(11)
    served = serve(logits, sampling)
    values = []
    for row, token in zip(logits, served.output_ids, strict=True):
        scaled = row / sampling.temperature
        kept = verifier.support(scaled, sampling, 0.0).certain
        values.append(float(scaled[token] - np.log(np.exp(scaled[kept]).sum())))
    assert max(residuals(served, logits, values)) <= 1


def test_rounding_is_forgiven_and_lies_are_capped() -> None:
    logits = some_logits(3)
    served = serve(logits, Sampling())
    true = [obvious_log_p(row, t) for row, t in zip(logits, served.output_ids, strict=True)]
    rounded = [round(value, 2) for value in true]
    assert max(residuals(served, logits, rounded, 0.01)) <= 1
    assert max(residuals(served, logits, rounded)) > 1000
    assert set(residuals(served, logits, [-9000.0] * len(true))) == {RESIDUAL_CAP_MICRO}


def test_log_probabilities_of_another_number_of_tokens_are_refused() -> None:
    logits = some_logits(3)
    with pytest.raises(FormatError):
        residuals(serve(logits, Sampling()), logits, [-1.0])


def test_only_what_is_served_is_measured() -> None:
    logits = some_logits(3)
    finding = verifier.verify(serve(logits, Sampling()), logits, reference())
    assert finding.values(RESIDUAL) == ()
    assert RESIDUAL not in [measure.name for measure in finding.measures]


# Whatever a provider sends.

ATOMS: list[Any] = [None, True, 0, -1, 2**63, -9999, 0.5, -1e308, 1e308, "", "NaN", [], {}, [[]]]


def mangled(value: Any, dice: random.Random) -> Any:
    """Return a JSON value with one of its parts taken away, doubled or replaced."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        name = dice.choice(list(value))
        if dice.random() < 0.1:
            return {each: v for each, v in value.items() if each != name}
        return value | {name: mangled(value[name], dice)}
    if isinstance(value, list) and value and dice.random() < 0.85:
        index = dice.randrange(len(value))
        some = [mangled(value[index], dice)] if dice.random() < 0.8 else [value[index]] * 2
        return [*value[:index], *some, *value[index + 1 :]]
    return dice.choice([*ATOMS, value])


def fuzz(count: int, seed: int) -> int:
    """Read ``count`` mangled answers; return how many could be read to the end."""
    dice = random.Random(seed)
    ways = product((True, False), repeat=2)
    forms = [(c, s, asked(*question(c, s)), body(c, s)) for c, s in ways]
    whole = 0
    for _ in range(count):
        chat, streamed, wanted, plain = dice.choice(forms)
        if streamed:
            lines = [line for line in plain.split(b"\n\n") if line.startswith(b"data: {")]
            events = [json.loads(line[6:]) for line in lines]
            at = dice.randrange(len(events))
            events[at] = mangled(events[at], dice)
            answer = sse(*events, done=dice.random() < 0.9)
        else:
            answer = dump(mangled(json.loads(plain), dice))
        if dice.random() < 0.2:
            at = dice.randrange(len(answer))
            answer = answer[:at] + bytes([dice.randrange(256)]) + answer[at + 1 :]
        try:
            exchange = answered(wanted, answer)
            served = logprobs.read(exchange.logprobs, exchange.output_ids, chat=chat)
        except (FormatError, UnavailableError):
            continue
        assert len(served.values) == len(exchange.output_ids) > 0
        assert all(-9999 < value <= 0 for value in served.values)
        assert 0 < served.unit <= 0.01
        whole += 1
    return whole


def test_an_answer_by_a_role_that_is_no_word_is_odd() -> None:
    said = {"message": {"role": [], "content": "EFG"}, "token_ids": IDS}
    with pytest.raises(FormatError) as caught:
        answered(asked(*question(True, False)), dump({"choices": [said]}))
    assert caught.value.reason is Reason.ODD_ANSWER


def test_no_mangled_answer_breaks_the_reader() -> None:
    assert 100 < fuzz(10_000, SEED) < 9_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_mangled_answer_of_a_million_breaks_the_reader() -> None:
    assert fuzz(1_000_000, SEED + 1) > 10_000
