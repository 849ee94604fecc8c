"""``lydite lab`` lists, refuses what it does not know, and shows what it measured."""

import argparse
import importlib
import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from lydite.cli import lab, lab_tables
from lydite.cli.main import main
from lydite.laboratory.cheats import CHEATS
from lydite.laboratory.honest import HONEST
from lydite.laboratory.judging import Alarms, Cell
from lydite.laboratory.plans import FULL, SMALL
from lydite.laboratory.verdicts import Evidence, Honest, Row, Table
from lydite.messages.tier import Tier

ROOT = Path(__file__).parents[2]
NAMES = list(lab_tables.HEADS)


def table(accused: int = 0, by: str = "tokens/margin") -> Table:
    def alarms(name: str) -> Alarms:
        count = accused if name == by else 0
        return Alarms(streams=40, accused=(count, count), at_most=(0.07, 0.07), highest_log10_e=0.4)

    evidence = [
        Evidence(name=name, bytes_a_token=2, ours=not name.startswith("text"), score_s=0.1)
        for name in NAMES
    ]
    honest = [
        Honest(name=name, tokens=100, alarms={each: alarms(each) for each in NAMES})
        for name in ("bf16/batch-16", "all")
    ]
    cell = Cell(found=(1.0, 0.4), tokens=(1234, None))
    row = Row(
        name="int4-weights",
        threat="2",
        does="rounds",
        answers=1,
        tokens=64,
        cells=dict.fromkeys(NAMES, cell),
    )
    return Table(model="m", evidence=evidence, honest=honest, attacks=[row], doing="done")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    lab.configure(parser)
    return parser.parse_args(words)


def test_the_list_has_every_attack_and_every_honest_variant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["lab", "--list", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {each["name"] for each in said["attacks"]} == set(CHEATS) - {"honest"}
    assert said["honest"] == list(HONEST)
    assert main(["lab", "--list"]) == 0
    assert "9b  prefilled" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["honest", "no-such-attack"])
def test_an_attack_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["lab", "--attack", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"no attack {name}" in captured.err


def test_options_choose_the_plan() -> None:
    assert lab_tables.plan_of(parsed()).attacks == SMALL.attacks
    assert lab_tables.plan_of(parsed("--full")).honest == FULL.honest
    chosen = lab_tables.plan_of(parsed("--attack", "fp8-cache", "--models", "elsewhere"))
    assert chosen.attacks == ("fp8-cache",)
    assert chosen.models == Path("elsewhere")


def test_the_drawing_shows_every_column_and_row() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(lab_tables.drawing(table()))
    text = console.export_text()
    assert all(head in text for head in lab_tables.HEADS.values())
    assert "0/40" in text
    assert "1234" in text


def test_an_accused_honest_stream_is_what_the_exit_code_says() -> None:
    assert lab_tables.conclusion(table()) is Tier.AFFIRMING
    assert lab_tables.conclusion(table(accused=1)) is Tier.CONTRAINDICATED
    peers = table(accused=1, by="text/mmd")
    assert lab_tables.conclusion(peers) is Tier.AFFIRMING
    assert "1 and 1 of 40 honest streams" in lab_tables.summary(table(accused=1))


def test_the_page_is_what_the_kept_table_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ROOT / "bench" / "results" / "verdict-table.json"
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    page = importlib.import_module("verdict_page").page
    drawn = page(msgspec.json.decode(kept.read_bytes(), type=Table))
    assert drawn == (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
