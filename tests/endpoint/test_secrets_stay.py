"""Whatever a server says, no key, prompt or password is printed or kept."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from odd_server import Said, answer, serving

from lydite.auditor.probing.line import CHAT, Manners, Server
from lydite.cli.main import main
from lydite.errors import LyditeError, quoting
from lydite.numerics.web import Server as Measured

KEY = "sk-Verysecret0123456789"
ASKED = "Why does nobody hear of the blue heron that we keep?"
HEADERS = {"Authorization": f"Bearer {KEY}"}
Echo = Callable[[bytes], Said]


def prompt(sent: bytes) -> str:
    return str(json.loads(sent)["messages"][0]["content"])


BASE64 = base64.b64encode(KEY.encode())
ECHOES: dict[str, Echo] = {
    "an error 500": lambda sent: Said(KEY.encode() + b" " + sent, 500, "text/plain"),
    "a refusal": lambda sent: Said(b"who is Bearer " + KEY.encode() + sent, 401),
    "the prompt alone": lambda sent: Said(prompt(sent).encode(), 400),
    "a piece of the prompt": lambda sent: Said(b"no: " + prompt(sent)[7:32].encode(), 400),
    "the prompt in capitals": lambda sent: Said(prompt(sent).upper().encode(), 400),
    "the prompt letter by letter": lambda sent: Said(" ".join(prompt(sent)).encode(), 400),
    "a piece of the key": lambda _: Said(b"bad key Verysecret", 401),
    "the key in base64": lambda _: Said(b"bad " + BASE64, 401),
    "the key in escapes": lambda _: Said(b"bad \\u0073k-Verys \\u0065cret", 401),
    "control characters": lambda _: Said(b"\x1b[2J\x00\x9b" + KEY.encode(), 500),
    "the content type": lambda _: Said(b"x", 200, f"text/{KEY}"),
    "no JSON": lambda sent: Said(KEY.encode() + sent, 200, "text/plain"),
    "an answer": lambda _: answer(message={"content": f"I heard {KEY}"}),
    "a redirection": lambda _: Said(b"", 307, headers=(("Location", f"/{KEY}"),)),
}


def words(text: str) -> str:
    return "".join(one for one in text.casefold() if one.isalnum())


def holds_a_secret(text: str, prompts: set[str]) -> bool:
    heard = words(text)
    pieces = {words(one)[at : at + 16] for one in prompts for at in range(len(words(one)) - 15)}
    return any(one in heard for one in {"verysecret", words(BASE64.decode()[:12]), *pieces})


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_what_was_sent_is_neither_printed_nor_kept(
    echo: Echo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    out = tmp_path / "record.json"
    prompts: set[str] = set()

    def script(asked: dict[str, Any]) -> Said:
        sent = json.dumps(asked).encode()
        prompts.add(prompt(sent))
        return echo(sent)

    with serving(script) as url:
        asked = {"model": "m", "messages": [{"role": "user", "content": ASKED}]}
        with pytest.raises(LyditeError) as caught:
            Server(url, Manners(headers=HEADERS, patience_s=0.0)).post(CHAT, asked)
        run = ["audit", url, "--second", url, "--patience-s", "0", "--out", str(out)]
        assert main([*run, "--max-requests", "9"]) == 4
    said = capsys.readouterr()
    assert len(prompts) > 1
    for told in (str(caught.value), said.out, said.err, out.read_text()):
        assert not holds_a_secret(told, prompts), told
        assert told.replace("\n", "").isprintable()


def test_a_measured_server_repeats_nothing_either() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": ASKED}]}).encode()
    for name in ("an error 500", "a refusal", "control characters", "the prompt in capitals"):
        with serving(lambda asked, n=name: ECHOES[n](json.dumps(asked).encode())) as url:
            secret = url.replace("//", "//user:PASSWORD@")
            with pytest.raises(LyditeError) as caught:
                Measured(secret, "m").post("/v1/chat/completions", body, HEADERS)
        assert not holds_a_secret(str(caught.value), {ASKED})
        assert "PASSWORD" not in str(caught.value)


def test_harmless_words_of_a_server_are_still_quoted() -> None:
    body = json.dumps({"model": "small-heron-7", "messages": [{"content": ASKED}]}).encode()
    said = b'{"error": "The model small-heron-7 does not exist"}'
    assert "small-heron-7 does not" in quoting.quoted(said, HEADERS, body)
    assert "0 bytes" in quoting.quoted(b"", HEADERS, body)


def test_the_second_server_gets_neither_key_nor_headers_of_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "another-key")
    more = ["--header", "X-Ours=1", "--max-requests", "4"]
    theirs = ["--second-key-env", "OTHER_KEY", "--second-header", "X-Theirs=2"]
    for option, extra, expected in (
        ("--second", [], (None, None, None)),
        ("--model", [], (None, None, None)),
        ("--second", theirs, ("Bearer another-key", None, "2")),
    ):
        first: list[tuple[str | None, ...]] = []
        second: list[tuple[str | None, ...]] = []
        with (
            serving(lambda _: answer(), first) as ours,
            serving(lambda _: answer(), second) as other,
        ):
            main(["audit", ours, option, other, *more, *extra])
        assert set(first) == {(f"Bearer {KEY}", "1", None)}
        assert set(second) == {expected}
    capsys.readouterr()


def test_a_key_that_is_named_and_missing_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = ["audit", "http://127.0.0.1:9", "--second", "http://127.0.0.1:9", "--name", "m"]
    assert main([*run, "--second-name", "m", "--second-key-env", "LYDITE_NO_SUCH_KEY"]) == 2
    assert "LYDITE_NO_SUCH_KEY" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "http://user:PASSWORD@127.0.0.1:99999/",
        "http://user:PASS/PASSWORD@127.0.0.1/",
        "http://user:PASS?PASSWORD@127.0.0.1/",
        "ftp://user:PASSWORD@127.0.0.1",
        "user:PASSWORD@127.0.0.1",
        "http://127.0.0.1:x/?key=PASSWORD",
    ],
)
def test_a_password_in_a_url_is_never_printed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", url, "--second", "http://127.0.0.1:9"]) in {2, 4}
    assert main(["audit", "http://127.0.0.1:9", "--second", url, "--name", "m"]) in {2, 4}
    said = capsys.readouterr()
    assert "PASS" not in said.out + said.err
    with pytest.raises(LyditeError) as caught:
        Measured(url, None, timeout_s=1.0)
    assert "PASS" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("requests", ["1", "2", "5", "40"])
def test_who_refuses_everything_is_refused_whatever_the_budget(
    status: int, requests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _: Said(b"{}", status)) as url:
        assert main(["audit", url, "--second", url, "--max-requests", requests, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["reason"] == "refused"
