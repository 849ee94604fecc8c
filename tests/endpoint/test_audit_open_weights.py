"""``lydite audit URL --model DIR`` against real servers of the small model, honest and not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from odd_server import serving, through

from lydite.cli.main import main
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.endpoint.reference import GENERIC, HABITS, Plan, levels
from lydite.laboratory.cheats.weights import quantise
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding

SMALL = Path(__file__).parents[2] / "models" / "lydite-small"
QUICK = ["--max-requests", "7", "--answer-tokens", "40", "--timeout-s", "60"]
Serve = Callable[[Engine], str]


def made(levels: int | None = None) -> TransformersEngine:
    model = load_model(SMALL, "bf16")
    if levels:
        quantise(model, levels, 32)
    return TransformersEngine(model, DirectoryCodec(SMALL), 8)


@pytest.fixture(scope="module")
def honest(served: Serve) -> Iterator[str]:
    engine = made()
    yield served(engine)
    engine.close()


@pytest.fixture(scope="module")
def int4(served: Serve) -> Iterator[str]:
    engine = made(7)
    yield served(engine)
    engine.close()


@pytest.fixture(scope="module")
def other(served: Serve) -> Iterator[str]:
    """A model that is hardly the declared one: its weights are rounded to three values."""
    engine = made(1)
    yield served(engine)
    engine.close()


def audit(
    url: str, tmp_path: Path, *options: str, capsys: pytest.CaptureFixture[str] | None = None
) -> dict[str, Any]:
    """Run the command; return its record, with the exit code under ``code``."""
    out = tmp_path / "record.json"
    out.unlink(missing_ok=True)
    words = ["audit", url, "--model", str(SMALL), "--out", str(out), *QUICK, *options]
    code = main(words)
    record: dict[str, Any] = json.loads(out.read_text())
    return {**record, "code": code, **record["report"]}


def test_an_honest_endpoint_is_consistent(honest: str, tmp_path: Path) -> None:
    got = audit(honest, tmp_path)
    assert (got["code"], got["tier"], got["reason"]) == (0, "affirming", "consistent"), got
    assert got["plan"] == {"greedy": False, "logprobs": True, "tokens": "named"}
    assert got["tokens"] > 100
    assert got["spent"]["requests"] == 7
    facts = {fact["name"]: fact["value"] for fact in got["facts"]}
    power = facts["for 90 % power against int4"]
    assert 0 < int(power.partition(" ")[0]) < 100, power
    assert any("recognises an audit" in caveat for caveat in got["caveats"])


def test_the_verdict_follows_from_the_record(honest: str, tmp_path: Path) -> None:
    got = audit(honest, tmp_path, "--max-requests", "4")
    findings = msgspec.convert(got["findings"], list[Finding])
    plan = msgspec.convert(got["plan"], Plan)
    for level in got["verdict"]["levels"]:
        again = levels(GENERIC, plan, findings, level["draw"])
        assert json.loads(encode(again)) == level
    assert {level["draw"] for level in got["verdict"]["levels"]} == {"", *HABITS}


def test_planted_int4_is_found_by_its_logprobs_and_not_accused_without_a_reference(
    int4: str, tmp_path: Path
) -> None:
    got = audit(int4, tmp_path)
    assert (got["code"], got["tier"], got["reason"]) == (3, "warning", "numerics-differ"), got


def test_another_model_is_inconsistent(other: str, tmp_path: Path) -> None:
    got = audit(other, tmp_path)
    assert (got["code"], got["tier"], got["reason"]) == (
        1,
        "contraindicated",
        "inconsistent-tokens",
    )
    assert got["spent"]["requests"] < 7, "an audit ends with the accusation"


def test_text_alone_never_affirms_against_int4(honest: str, tmp_path: Path) -> None:
    got = audit(honest, tmp_path, "--plain")
    assert (got["code"], got["tier"], got["reason"]) == (4, "none", "underpowered"), got
    assert "no number of tokens would show int4" in got["detail"]


def test_tokens_are_found_again_by_their_spelling(honest: str, tmp_path: Path) -> None:
    def unnamed(_: dict[str, Any], said: dict[str, Any]) -> None:
        said.pop("prompt_token_ids", None)
        for choice in said.get("choices", []):
            choice.pop("token_ids")

    with serving(through(honest, unnamed)) as url:
        got = audit(url, tmp_path)
    assert got["plan"]["tokens"] == "spelt"
    assert got["tier"] == "affirming", got


def test_at_temperature_zero_margins_speak(honest: str, other: str, tmp_path: Path) -> None:
    got = audit(honest, tmp_path, "--temperature", "0")
    assert got["plan"]["greedy"] is True
    assert got["tier"] == "affirming", got
    got = audit(other, tmp_path, "--temperature", "0")
    assert got["tier"] == "contraindicated", got


@pytest.mark.slow
def test_a_default_filter_of_a_server_is_a_misconfiguration(honest: str, tmp_path: Path) -> None:
    def colder(asked: dict[str, Any], said: dict[str, Any]) -> None:
        if not said:
            asked |= {"temperature": 0.7, "top_p": 0.8, "top_k": 20}

    with serving(through(honest, colder)) as url:
        got = audit(url, tmp_path, "--max-requests", "30")
    assert (got["code"], got["reason"]) == (3, "sampling-differs"), got
    assert "temperature-0.7-top-p-0.8-top-k-20" in got["detail"]


def faults(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(asked: dict[str, Any], said: dict[str, Any]) -> None:
        if not said:
            asked.update({"seed": 1} if name == "fixed seed" else {})
            return
        choice = said["choices"][0]
        {
            "fixed seed": lambda: None,
            "out of range": lambda: choice.update(token_ids=[1 << 30]),
            "foreign": lambda: choice.update(token_ids=[5] * len(choice["token_ids"])),
            "other prompt": lambda: said.update(prompt_token_ids=[1, 2]),
            "other count": lambda: (
                said.pop("prompt_token_ids"),
                said["usage"].update(prompt_tokens=9),
            ),
            "empty": lambda: choice.update(message={"content": ""}, token_ids=[]),
            "two": lambda: said["choices"].append(choice),
        }[name]()

    return change


@pytest.mark.parametrize(
    ("name", "tier", "reason"),
    [
        ("fixed seed", "none", "not-random"),
        ("out of range", "none", "unknown-token"),
        ("foreign", "none", "text-differs"),
        ("other prompt", "warning", "prompt-differs"),
        ("other count", "warning", "prompt-differs"),
        ("empty", "none", "empty-answer"),
        ("two", "none", "odd-answer"),
    ],
)
def test_odd_answers_have_a_reason_and_neither_affirm_nor_accuse(
    name: str, tier: str, reason: str, honest: str, tmp_path: Path
) -> None:
    with serving(through(honest, faults(name))) as url:
        got = audit(url, tmp_path, "--max-requests", "4", "--answer-tokens", "32")
    assert (got["tier"], got["reason"]) == (tier, reason), got


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: [one.update(logprob=-9999.0) for one in content],
        lambda content: content.pop(),
        lambda content: [one.update(logprob=0.7) for one in content],
    ],
    ids=["-9999", "one short", "above one"],
)
def test_logprobs_that_are_none_teach_nothing_and_hide_nothing(
    spoil: Callable[[list[dict[str, Any]]], object], honest: str, tmp_path: Path
) -> None:
    asked_for = 0

    def change(_: dict[str, Any], said: dict[str, Any]) -> None:
        nonlocal asked_for
        if said:
            asked_for += 1
            if asked_for > 2:  # the first two settle how the endpoint is audited
                spoil(said["choices"][0]["logprobs"]["content"])

    with serving(through(honest, change)) as url:
        got = audit(url, tmp_path, "--max-requests", "5", "--answer-tokens", "32")
    assert (got["tier"], got["reason"]) == ("none", "bad-logprobs"), got
    assert {"kind": "endpoint/residual", "reason": "bad-logprobs", "count": 3} in got["skipped"]
