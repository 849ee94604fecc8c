"""What the demonstration shows: a verdict that can be read, and an exit code that says it."""

import io
import os
import stat
from pathlib import Path

import pytest
from rich.console import Console

from lydite.cli import demo as command
from lydite.cli.main import main
from lydite.laboratory import demo
from lydite.laboratory.demo import CAST, Row, Stage


def row(tier: str, reason: str, cheat: str = "honest") -> Row:
    """A row whose verdict was reached again offline."""
    return Row(
        name=cheat, cheat=cheat, tier=tier, reason=reason, verified=tier, refused="bad-signature"
    )


def printed(*rows: Row) -> str:
    """What a terminal of 80 columns shows of these rows."""
    stage = Stage(CAST, lambda _: None)
    for shown, known in zip(stage.rows, rows, strict=False):
        shown.requests, shown.audited, shown.tokens, shown.log10_e = 600, 333, 99999, 12345.6
        shown.tier, shown.reason = known.tier, known.reason
    console = Console(width=80, file=io.StringIO())
    console.print(command.table(stage))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_verdicts_can_be_read_on_80_columns() -> None:
    text = printed(
        row("affirming", "consistent"),
        row("contraindicated", "inconsistent-tokens"),
        row("warning", "no-token-ids"),
    )
    for words in ("replaying", "other temperature", "misconfigured", "no-token-ids", "waiting"):
        assert words in text
    assert "…" not in text


def test_no_reason_repeats_its_verdict() -> None:
    text = printed(row("affirming", "consistent"), row("contraindicated", "inconsistent-tokens"))
    assert text.count("consistent") == 2  # the second within "inconsistent"


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([row("affirming", "consistent")], 0, ""),
        ([row("affirming", "consistent", "int4-weights")], 1, "a verdict is wrong"),
        ([row("none", "underpowered")], 4, "too little evidence"),
        ([row("none", "underpowered"), row("warning", "unsupported")], 1, "a verdict is wrong"),
    ],
)
def test_the_exit_code_tells_a_wrong_verdict_from_none_at_all(
    rows: list[Row],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for each in rows:
        each.bundle = "out/x.bundle.json"
    monkeypatch.setattr(demo, "run", lambda *_: rows)
    assert main(["demo"]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("requests", ["-3", "0", "1"])
def test_fewer_requests_than_rounds_are_a_usage_error(
    requests: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--requests", requests, "--out", str(tmp_path / "out")]) == 2
    assert "ask for 2 or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_nobody_watches_each_stage_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: object, show: object) -> list[Row]:
        assert callable(show)
        stage = Stage((), show)
        for doing in ("starting", "starting", "sending"):
            stage.tell(doing)
        return [row("affirming", "consistent")]

    monkeypatch.setattr(demo, "run", run)
    main(["demo", "--json"])
    assert capsys.readouterr().err == "starting\nsending\n"


def test_the_last_line_is_a_command_that_this_shell_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "lydite"
    program.touch(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.lydite() == "lydite"
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr("sys.argv", [".venv/bin/lydite", "demo"])
    assert command.lydite() == ".venv/bin/lydite"
    monkeypatch.setattr("sys.argv", ["main.py", "demo"])
    assert command.lydite().endswith(" -m lydite.cli.main")
