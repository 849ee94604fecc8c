"""Servers that are busy, broken or hostile: each has a reason, none is affirmed or accused."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from odd_server import Said, answer, serving

from lydite.auditor.probing.asking import Asker, Style
from lydite.auditor.probing.budget import Budget, Limits
from lydite.auditor.probing.line import CHAT, Manners, Server
from lydite.cli.main import main
from lydite.errors import ConfigurationError, LyditeError, Reason

GOOD = answer()
PROMPT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}


def said(status: int = 200, body: bytes = b"{}", **fields: Any) -> Said:
    return Said(body, status, **fields)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (said(body=b"<html>sorry</html>", kind="text/html"), "malformed"),
        (said(body=b"data: {}\n\n", kind="text/event-stream"), "malformed"),
        (said(body=b"\x00\xff"), "malformed"),
        (said(404, b"<html>404</html>", kind="text/html"), "refused"),
        (said(401), "refused"),
        (said(302, headers=(("Location", "http://127.0.0.1:1/v1"),)), "refused"),
        (said(429, headers=(("Retry-After", "3600"),)), "busy"),
        (said(503), "unavailable"),
        (said(body=b" " * 65536, endless=True), "too-large"),
        (said(body=b'{"error": {"message": "no"}}'), "upstream-failed"),
        (answer(message={"content": ""}), "empty-answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_answer_teaches_nothing_and_says_why(
    script: Said, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _: script) as url:
        words = ["audit", url, "--second", url, "--patience-s", "0.2", "--timeout-s", "20"]
        code = main([*words, "--max-requests", "12", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["tier"], report["reason"]) == (4, "none", reason)
    assert report["detail"]


def test_nobody_there_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "http://127.0.0.1:9", "--second", "http://127.0.0.1:9", "--patience-s", "0"]
    assert main([*words, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["reason"] == "unavailable"


def test_a_server_that_drips_is_cut() -> None:
    def dripping(_: dict[str, Any]) -> Said:
        time.sleep(3)
        return GOOD

    with serving(dripping) as url:
        server = Server(url, Manners(timeout_s=0.3, patience_s=0.0))
        began = time.monotonic()
        with pytest.raises(LyditeError) as caught:
            server.post(CHAT, {})
    assert caught.value.reason is Reason.UNAVAILABLE
    assert time.monotonic() - began < 3


def test_a_busy_server_is_asked_again_after_as_long_as_it_says() -> None:
    turns = [said(429, headers=(("Retry-After", "7"),)), said(503), GOOD]
    waited: list[float] = []
    with serving(lambda _: turns.pop(0)) as url:
        body = Server(url, Manners(), wait=waited.append).post(CHAT, {})
    assert json.loads(body)["choices"]
    assert waited == [7.0, 1.0]


def test_fields_that_a_server_refuses_are_left_out_one_kind_after_the_other() -> None:
    seen: list[set[str]] = []

    def picky(asked: dict[str, Any]) -> Said:
        seen.append(set(asked))
        refused = {"top_k", "min_p", "return_token_ids"} & set(asked)
        return said(400, b'{"error": "unknown field"}') if refused else GOOD

    with serving(picky) as url:
        budget = Budget(Limits(requests=20, tokens=10_000))
        asker = Asker(Server(url, Manners()), Style(model="m"), budget)
        asker.settle(iter([PROMPT]))
    assert "top_k" in seen[0]
    assert "logprobs" in seen[-1]
    assert not {"top_k", "min_p", "return_token_ids"} & seen[-1]


def test_every_request_has_a_seed_of_its_own() -> None:
    seeds: list[int] = []

    def script(asked: dict[str, Any]) -> Said:
        seeds.append(asked["seed"])
        return GOOD

    with serving(script) as url:
        asker = Asker(
            Server(url, Manners()), Style(model="m"), Budget(Limits(requests=9, tokens=9999))
        )
        list(asker.all([PROMPT] * 9, 3))
    assert len(set(seeds)) == 9


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        (Limits(requests=5, tokens=10**6), 5),
        (Limits(requests=99, tokens=100), 4),
        (Limits(requests=99, tokens=10**6, cost=0.0003, price_per_million=1.0), 14),
    ],
)
def test_a_budget_is_never_passed(limits: Limits, requests: int) -> None:
    spent = {"prompt_tokens": 1, "completion_tokens": 20}
    with serving(lambda _: answer(usage=spent)) as url:
        budget = Budget(limits)
        asker = Asker(Server(url, Manners()), Style(model="m", answer_tokens=20), budget)
        got = list(asker.all([PROMPT] * 50, 3))
    assert len(got) <= requests
    assert budget.requests == len(got) > 0
    assert budget.tokens <= limits.tokens
    assert budget.cost() <= (limits.cost or 0.0) + 1e-12


@pytest.mark.parametrize(
    "words",
    [
        ["audit", "ftp://x", "--second", "http://127.0.0.1:9"],
        ["audit", "http://127.0.0.1:9", "--second", "x", "--name", "m", "--second-name", "m"],
        ["audit", "http://127.0.0.1:9", "--second", "http://127.0.0.1:9", "--max-cost", "1"],
        ["audit", "http://127.0.0.1:9", "--second", "http://127.0.0.1:9", "--alpha", "0"],
        ["audit", "http://127.0.0.1:9", "--model", "nowhere", "--name", "m", "--extra", "a=b"],
        ["audit", "http://127.0.0.1:9", "--second", "http://127.0.0.1:9", "--header", "é=é"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "(configuration)" in capsys.readouterr().err


def test_a_key_is_sent_and_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    out = tmp_path / "record"
    with serving(lambda _: said(401, b'{"error": "no"}')) as url:
        main(["audit", url, "--second", url, "--name", "m", "--json", "--out", str(out)])
    printed = capsys.readouterr()
    assert "very-secret" not in printed.out + printed.err + out.read_text()


def test_no_url_keeps_a_password() -> None:
    assert "secret" not in Server("http://user:secret@127.0.0.1:1", Manners()).url
    with pytest.raises(ConfigurationError):
        Server("http://[::1", Manners())
