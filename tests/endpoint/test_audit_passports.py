"""Audits with passports, which keep honest numerics from being accused and name weights."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_server import answer, serving

from lydite.cli.main import main
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.laboratory.cheats.weights import INT4_GROUP, quantise

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models" / "lydite-small"
MADE = ROOT / "data" / "reference" / "passports" / "lydite-small"
Serve = Callable[[Engine], str]
BF16, FP32 = "lydite transformers,bfloat16", "lydite transformers,float32"


def passport(name: str) -> str:
    return str(MADE / f"{name}.passport.json")


def signer() -> list[str]:
    return ["--signer", (MADE / "signer.pub").read_text().strip()]


@pytest.fixture(scope="module")
def bf16(served: Serve) -> Iterator[str]:
    engine = TransformersEngine.load(SMALL, "bf16", 8)
    yield served(engine)
    engine.close()


@pytest.fixture(scope="module")
def eager(served: Serve) -> Iterator[str]:
    model = load_model(SMALL, "fp32")
    model.set_attn_implementation("eager")
    engine = TransformersEngine(model, DirectoryCodec(SMALL), 3)
    yield served(engine)
    engine.close()


@pytest.fixture(scope="module")
def int4(served: Serve) -> Iterator[str]:
    model = quantise(load_model(SMALL, "bf16"), 7, INT4_GROUP)
    engine = TransformersEngine(model, DirectoryCodec(SMALL), 8)
    yield served(engine)
    engine.close()


def audit(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    quick = ["--max-requests", "5", "--answer-tokens", "32", "--timeout-s", "60", "--json"]
    code = main(["audit", url, *signer(), *quick, *options])
    said = capsys.readouterr()
    report: dict[str, Any] = json.loads(said.out) if said.out else {"error": said.err}
    return {**report, "code": code}


def weights(*passports: str) -> list[str]:
    named = [word for name in passports for word in ("--passport", passport(name))]
    return ["--model", str(SMALL), *named]


def test_the_passport_of_its_path_keeps_an_honest_provider_from_being_accused(
    bf16: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held against fp32 alone as if that were its stack, an honest bf16 server is accused."""
    got = audit(bf16, capsys, *weights("fp32"), "--stack", FP32)
    assert (got["code"], got["reason"]) == (1, "inconsistent-tokens"), got
    got = audit(bf16, capsys, *weights("fp32", "bf16"), "--stack", BF16)
    assert (got["code"], got["reason"]) == (0, "consistent"), got


@pytest.mark.parametrize("stack", [[], ["--stack", BF16]])
def test_numerics_that_no_passport_covers_are_never_inconsistent(
    bf16: str, stack: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    got = audit(bf16, capsys, *weights("fp32"), *stack)
    assert (got["code"], got["reason"]) == (3, "other-numerics"), got
    assert any("--stack" in caveat for caveat in got["caveats"])


def test_other_kernels_and_batches_are_within_the_passport_of_their_data_type(
    eager: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got = audit(eager, capsys, *weights("fp32", "bf16"), "--stack", FP32)
    assert (got["code"], got["reason"]) == (0, "consistent"), got


def test_planted_int4_is_inconsistent_where_passports_cover_it_and_warned_of_elsewhere(
    int4: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got = audit(int4, capsys, *weights("bf16", "fp32"), "--stack", BF16)
    assert (got["code"], got["reason"]) == (1, "inconsistent-tokens"), got
    got = audit(int4, capsys, *weights("bf16", "fp32"))
    assert (got["code"], got["reason"]) == (3, "other-numerics"), got


def test_a_passport_may_stand_for_the_model_if_its_weights_are_given(
    bf16: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", passport("bf16"), "--weights", str(SMALL), "--stack", BF16]
    got = audit(bf16, capsys, *words)
    assert (got["code"], got["reason"]) == (0, "consistent"), got


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--model", passport("bf16")], 2, "--weights DIR"),
        (["--model", str(ROOT / "absent")], 2, "no such directory or passport"),
        (["--model", str(ROOT / "README.md")], 2, "neither a directory of weights, nor a passport"),
        (["--model", str(SMALL), "--weights", str(SMALL)], 2, "--weights goes with a passport"),
        (["--model", str(SMALL), "--stack", "vllm"], 2, "ENGINE,DTYPE"),
        (
            ["--model", passport("bf16"), "--weights", str(ROOT / "models" / "lydite-base")],
            2,
            "has weights",
        ),
    ],
)
def test_what_cannot_be_the_model_is_refused_with_what_to_do(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _: answer(message={"content": "a"})) as url:
        got = audit(url, capsys, *words, *(["--passport", passport("bf16")] * ("--stack" in words)))
    assert got["code"] == code, got
    assert says in str(got)


def test_a_passport_without_an_accepted_signer_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", passport("bf16"), "--weights", str(SMALL)]
    with serving(lambda _: answer(message={"content": "a"})) as url:
        assert main(["audit", url, *words]) == 2
        assert main(["audit", url, *words, "--signer", "00" * 32]) == 1
    assert "unknown-key" in capsys.readouterr().err


def test_a_url_as_the_model_is_a_second_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: answer(message={"content": "a"})) as url:
        got = audit(url, capsys, "--model", url, "--probes", "1")
    assert got["tier"] in {"none", "affirming"}
    assert "declared" not in {fact["name"] for fact in got["facts"]}
