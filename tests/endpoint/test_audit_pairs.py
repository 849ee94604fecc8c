"""Two endpoints, or one and its past: equals pass, others are told, nobody by accident."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from odd_server import Said, Script, answer, serving

from lydite.auditor.probing.comparing import Observation, Pair, Sides, compare, pair
from lydite.cli.main import main
from lydite.errors import Reason
from lydite.evidence.endpoint.reference import GENERIC
from lydite.messages.tier import Tier

DRAWN, TRACKED = Sides(past=False, tracked=False), Sides(past=False, tracked=True)


def drawing(seed: int, weights: list[float]) -> Script:
    """A server that says one of some words, by dice of its own."""
    dice = random.Random(seed)

    def script(_: dict[str, Any]) -> Said:
        [word] = dice.choices("abcdefgh"[: len(weights)], weights)
        return answer(message={"content": word})

    return script


def reporting(noise: float, shift: float = 0.0) -> Script:
    """A server that reports log-probabilities, a little apart each time."""
    dice = random.Random(noise)

    def script(_: dict[str, Any]) -> Said:
        logs = [-0.7, -1.5 - shift, -2.0 + shift, -3.0]
        top = [
            {"token": name, "logprob": value + dice.gauss(0, noise), "top_logprobs": []}
            for name, value in zip("abcd", logs, strict=True)
        ]
        return answer(
            message={"content": "a"}, logprobs={"content": [{**top[0], "top_logprobs": top}]}
        )

    return script


def audit(
    ours: Script, theirs: Script, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, Any]:
    with serving(ours) as url, serving(theirs) as other:
        words = ["audit", url, "--second", other, "--json", "--probes", "2", "--timeout-s", "20"]
        code = main([*words, *more])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {**report, "code": code}


def test_equals_that_report_logprobs_are_consistent(capsys: pytest.CaptureFixture[str]) -> None:
    got = audit(reporting(0.001), reporting(0.002), capsys)
    assert (got["code"], got["tier"]) == (0, "affirming"), got


def test_numerics_that_nobody_measured_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    got = audit(reporting(0.001), reporting(0.09), capsys)
    assert (got["code"], got["reason"]) == (3, "numerics-differ"), got


def test_slight_numerics_are_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    got = audit(reporting(0.0001), reporting(0.0002, shift=0.02), capsys)
    assert (got["code"], got["tier"], got["reason"]) == (4, "none", "numerics-differ"), got


def test_other_logprobs_are_inconsistent(capsys: pytest.CaptureFixture[str]) -> None:
    got = audit(reporting(0.001), reporting(0.001, shift=0.6), capsys)
    assert (got["code"], got["reason"]) == (1, "endpoints-differ"), got


def test_equals_that_draw_alike_are_never_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    weights = [0.4, 0.3, 0.2, 0.1]
    got = audit(drawing(1, weights), drawing(2, weights), capsys, "--max-requests", "200")
    assert got["tier"] in {"affirming", "none"}
    assert got["reason"] in {"consistent", "underpowered"}, got


def test_another_distribution_is_told_by_draws_alone(capsys: pytest.CaptureFixture[str]) -> None:
    got = audit(drawing(1, [0.9, 0.1]), drawing(2, [0.2, 0.8]), capsys, "--max-requests", "400")
    assert got["reason"] == "endpoints-differ", got
    assert got["code"] in {1, 3}


def observed(text: str, row: dict[str, float] | None = None) -> Observation:
    return Observation(text=text, row=row or {})


def test_draws_that_differ_a_little_warn_and_do_not_accuse() -> None:
    dice = random.Random(3)
    pairs = [
        Pair(
            prompt="prompt 1",
            ours=observed(dice.choices("ab", [0.5, 0.5])[0]),
            theirs=observed(dice.choices("ab", [0.7, 0.3])[0]),
        )
        for _ in range(1200)
    ]
    found = compare(pairs, 1, GENERIC, 0.001, DRAWN)
    assert (found.tier, found.reason) == (Tier.WARNING, Reason.ENDPOINTS_DIFFER)
    assert found.channels["gross"] < 0


def test_its_own_past_never_accuses() -> None:
    pairs = [
        Pair(prompt="prompt 1", ours=observed("a", {"a": -3.0}), theirs=observed("a", {"a": -0.1}))
        for _ in range(20)
    ]
    now = compare(pairs, 1, GENERIC, 0.001, TRACKED)
    then = compare(pairs, 1, GENERIC, 0.001, Sides(past=True, tracked=True))
    assert (now.tier, then.tier) == (Tier.CONTRAINDICATED, Tier.WARNING)


def test_no_pairs_are_no_evidence() -> None:
    for sides in (DRAWN, TRACKED):
        found = compare([], 4, GENERIC, 0.001, sides)
        assert (found.tier, found.reason) == (Tier.NONE, Reason.UNDERPOWERED)


def test_a_pair_takes_both() -> None:
    assert pair(0, Reason.BUSY, observed("a")) is Reason.BUSY
    assert pair(0, observed("a"), Reason.EMPTY_ANSWER) is Reason.EMPTY_ANSWER


def test_a_side_that_stops_reporting_logprobs_is_skipped_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    full, turns = reporting(0.001), iter(range(10**6))

    def lazy(asked: dict[str, Any]) -> Said:
        return full(asked) if next(turns) < 2 else answer(message={"content": "a"})

    got = audit(lazy, reporting(0.001), capsys)
    assert (got["tier"], got["reason"]) == ("none", "underpowered")
    assert got["skipped"][0]["reason"] == "bad-logprobs"


def test_an_endpoint_is_compared_with_its_own_past(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "monday.json")
    quick = ["--probes", "2", "--max-requests", "30", "--json"]
    with serving(reporting(0.001)) as url:
        assert main(["audit", url, "--save-baseline", kept, *quick]) == 4
        assert json.loads(capsys.readouterr().out)["reason"] == "recorded"
        assert main(["audit", url, "--baseline", kept, *quick]) == 0
        capsys.readouterr()
        assert main(["audit", url, "--save-baseline", kept, *quick]) == 2
    with serving(reporting(0.001, shift=0.6)) as url:
        assert main(["audit", url, "--baseline", kept, *quick]) == 3
        assert "endpoints-differ" in capsys.readouterr().out


def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"{}")
    with serving(reporting(0.001)) as url:
        assert main(["audit", url, "--baseline", str(tmp_path / "no")]) != 0
