"""What a person gets wrong: one line and exit code 2, and nothing is left half made."""

import json
import socket
import sys
from pathlib import Path

import pytest

from lydite.appraisal.report import Report
from lydite.cli.main import main
from lydite.cli.patience import before_hashing
from lydite.cli.reports import render
from lydite.errors import Reason
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "lydite-small"
KEY = "5f" * 32


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in, with a beacon and a witness in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LYDITE_TRUST", raising=False)
    assert main(["beacon", "init", "beacon", "--json"]) == 0
    assert main(["witness", "init", "w1", "--name", "w1", "--port", "8101", "--json"]) == 0
    (tmp_path / "not-a-policy").write_text("quorum\n")
    return tmp_path


def gateway(**changes: str) -> list[str]:
    """The words that make a gateway, some of them changed."""
    options = {
        "name": "mine.example/log",
        "model": str(MODEL),
        "upstream": "http://127.0.0.1:8000",
        "auditor": KEY,
        "witnesses": "w1/witness.policy",
        "beacon": "beacon/chain.json",
        "beacon_url": "http://127.0.0.1:8100",
    }
    words = ["gateway", "init", "mine"]
    for name, value in {**options, **changes}.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words


def test_what_is_made_is_made_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(gateway()) == 0
    names = {path.name for path in (place / "mine").iterdir()}
    assert names == {"anchor.json", "declaration.json", "gateway.json"} | {
        f"{role}.key" for role in ("provider", "gateway", "log", "vrf")
    }
    made = json.loads((place / "mine" / "gateway.json").read_bytes())
    assert Path(made["keys"]["log"]).exists()


def test_several_model_servers_are_named_one_by_one(place: Path) -> None:
    assert main([*gateway(), "--upstream", "https://gpu-2:8000"]) == 0
    made = json.loads((place / "mine" / "gateway.json").read_bytes())
    assert [each["url"] for each in made["upstreams"]] == [
        "http://127.0.0.1:8000",
        "https://gpu-2:8000",
    ]
    assert made["upstream"] is None
    assert main([*gateway(), "--upstream", "http://127.0.0.1:8000"]) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("auditor", "5f7a"),
        ("auditor", "5F" * 32),
        ("upstream", "127.0.0.1:8000"),
        ("upstream", "ftp://127.0.0.1"),
        ("upstream", "http://127.0.0.1:80x"),
        ("upstream", "http://127.0.0.1:8000/v1"),
        ("model", "no-such-model"),
        ("witnesses", "not-a-policy"),
        ("witnesses", "no-such-file"),
        ("beacon", "not-a-policy"),
        ("beacon_url", "nowhere"),
        ("port", "70000"),
        ("name", "two words"),
        ("name", "long" * 60),
    ],
)
def test_a_gateway_that_could_not_run_is_not_made(
    place: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in place.iterdir())
    assert main(gateway(**{option: value})) == 2
    assert capsys.readouterr().err.startswith("lydite: error: ")
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [
        ["beacon", "init", "new", "--period", "0"],
        ["witness", "init", "new", "--name", "a+b", "--port", "8101"],
        ["witness", "init", "new", "--name", "w1", "--port", "0"],
        ["witness", "run", "w1", "--anchor", "no-such-file", "--port", "8102"],
        ["witness", "run", "w1", "--anchor", "no-such-file", "--name", "w2"],
        ["witness", "run", "w1", "--anchor", "no-such-file"],
        ["beacon", "run", "w1", "--port", "8100"],
        ["log", "status", "http://127.0.0.1:18555x"],
        ["log", "mirror", "http://127.0.0.1:1"],
        ["log", "mirror", "http://127.0.0.1:1", "--trust", "not-a-policy"],
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    place: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in place.iterdir())
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("lydite: error: ")
    assert said.count("\n") == 1
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gateway", "run", "mine/gateway.json"], "there is no key mine/gateway.key in "),
        (["auditor", "init", "w1/witness.key"], "is not replaced; name a new file"),
        (["recomputer", "run", "empty.toml"], "docs/settings.md has every setting"),
        (
            ["verify", "w1/witness.policy", "--trust", "mine/anchor.json"],
            "`lydite trust` makes one",
        ),
        (["plan", "coverage"], "in a clone of the repository"),
        (["receipt", "result", KEY[:32]], "lacks --from; as in: lydite receipt result ID --from"),
        (["receipt", "results", KEY[:32]], "'results' is none of check, result and examine"),
    ],
)
def test_an_error_says_what_to_do(
    place: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.toml").write_text("")
    assert main(gateway()) == 0
    for key in (place / "mine").glob("*.key"):
        key.rename(place / key.name)  # as where settings are used from another directory
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_witness_says_which_port_it_promised(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["witness", "run", "w1", "--anchor", "no-such-file", "--port", "8102"])
    assert "says 8101" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["verify", "a", "b"], "usage: lydite verify "),
        (["gateway", "run", "a", "b"], "usage: lydite gateway run "),
    ],
)
def test_a_word_too_many_shows_how_the_command_is_called(
    words: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert (ended.value.code, said.startswith(usage)) == (2, True)
    assert "unrecognized arguments: b" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify"], "4 nothing learnt"),
        (["receipt"], "0 signed"),
        (["receipt"], "(default: /v1/chat/completions)"),
        (["gateway", "init"], "(default: bfloat16)"),
        (["witness", "run"], "cosign the checkpoints"),
        (["log", "mirror"], "$LYDITE_TRUST"),
        (["engine"], "(default: 16)"),
    ],
)
def test_help_says_defaults_exit_codes_and_what_a_step_does(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert said in text
    assert "None" not in text
    assert "False" not in text


def test_log_takes_the_trust_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(cheat=Bigram(noise=0.3))
    (tmp_path / "trust.json").write_bytes(encode(world.trust) + b"\n")
    monkeypatch.setenv("LYDITE_TRUST", str(tmp_path / "trust.json"))
    assert main(["log", "mirror", "http://127.0.0.1:1"]) == 4  # past the trust file: nobody answers
    assert "unavailable" in capsys.readouterr().err


def test_a_missing_extra_is_installed_from_a_clone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "lydite.cli.plot", raising=False)
    assert main(["plot"]) == 2
    said = capsys.readouterr().err
    assert "pip install '.[plot]'" in said
    assert "lydite[" not in said


@pytest.mark.parametrize(("size", "said"), [(1_000, ""), (3_000_000_000, "hashing 3 GB of ")])
def test_a_terminal_is_told_before_a_large_model_is_hashed(
    size: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(size)
    before_hashing(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    before_hashing(tmp_path)
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    "words",
    [["beacon", "run", "beacon"], ["witness", "run", "w1", "--anchor", "mine/anchor.json"]],
)
def test_a_port_that_is_taken_is_named(
    place: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(gateway()) == 0
        policy = (place / "w1" / "witness.policy").read_text().replace("8101", port)
        (place / "w1" / "witness.policy").write_text(policy)
        assert main([*words, "--port", port]) == 2
    assert f"127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_step_that_needs_more_than_its_command_names_its_own_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "lydite.cli.gateway_demo", raising=False)
    assert main(["gateway", "demo"]) == 2
    assert "pip install '.[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tier", "reason", "first"),
    [
        (Tier.AFFIRMING, Reason.CONSISTENT, "✔ consistent"),
        (Tier.CONTRAINDICATED, Reason.BAD_SIGNATURE, "✘ inconsistent: bad-signature"),
    ],
)
def test_a_report_says_its_verdict_once(tier: Tier, reason: Reason, first: str) -> None:
    assert render(Report(tier=tier, reason=reason)).splitlines()[0] == first
