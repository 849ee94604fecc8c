"""``lydite plan`` prints what the economics compute, for inputs given on the command line."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from lydite.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["plan", *words, "--json"]) == code
    return dict(json.loads(capsys.readouterr().out))


def test_the_published_table_is_printed_to_the_digit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "rollout"]) == 0
    printed = re.sub(r" +", " ", capsys.readouterr().out)
    for line in (
        "H100e to equip 100M (40 % of all)",
        "H100e per server 400",
        "servers 250K",
        "team 4 people",
        "servers per team-hour 1",
        "teams 1,000",
        "wall clock 5 weeks of 50 hours",
        "manufacturing $100M ($400 each)",
        "labour $100M (1M h x $100)",
        "installation, in all $200M",
        "monthly revenue $100B",
        "share of it 0.2 %",
        ">10M 2.5 50M",
        ">1M 2.5 100M",
        ">100K 5 100M",
    ):
        assert f"\n{line}" in printed
    assert "90 % of all" in printed
    assert "99 %" in printed


def test_every_input_varies(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "rollout", "--teams", "2000", "--wage", "50", "--h100e", "2e8")
    assert found["costs"]["weeks"] == 5
    assert found["costs"]["total"] == 300_000_000
    assert found["inputs"]["teams"] == 2000
    halves = said(capsys, "rollout", "--global-share", "1/3")
    assert halves["totals"]["world"] == 300_000_000


def test_preparation_is_simulated_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "rollout", "--prepare", "--stock", "250000")
    assert found["buffer"]["weeks_in_all"] == 5
    assert "buffer" not in said(capsys, "rollout")
    assert main(["plan", "rollout", "--prepare"]) == 0
    assert "interconnect out only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "vary", "figure", "expected"),
    [
        ("rollout", "teams=500,1000,2000", "weeks", [10, 5, 2.5]),
        ("upload", "link=1,8", "hashed on the way, s", [8000, 1000]),
    ],
)
def test_a_varied_input_gives_a_row_for_each_value_and_a_picture(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    step: str,
    vary: str,
    figure: str,
    expected: list[float],
) -> None:
    more = ["--hash-rate", "1e9"] if step == "upload" else []
    picture = tmp_path / "plan.png"
    found = said(capsys, step, *more, "--vary", vary, "--plot", str(picture))
    assert found["figures"][figure] == expected
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_coverage_varies_too(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "coverage", "--vary", "share=0.001,0.01")
    assert found["figures"]["gathered tokens of every server, smaller-model"][0] is None
    first, second = found["figures"]["a fixed number, from the whole cluster"]
    assert 9 < first / second < 11
    whole = said(capsys, "coverage", "--servers", "10")
    assert [each["servers"] for each in whole["scale"]] == [100, 1000, 10_000, 100_000, 1_000_000]
    assert main(["plan", "coverage"]) == 0
    assert "hypergeometric, exact" in capsys.readouterr().out


def test_an_upload_is_planned_from_measured_rates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = json.loads((ROOT / "bench" / "results" / "hashing.json").read_bytes())["rows"]
    assert said(capsys, "upload")["table"][0]["rate"]["bytes_per_s"] == 1e6 * kept[0]["ours"]
    monkeypatch.chdir(tmp_path)  # where no benchmark is kept, this machine is measured
    assert said(capsys, "upload")["table"][0]["rate"]["bytes_per_s"] > 1e6
    results = tmp_path / "r.json"
    results.write_text('{"rows":[{"metric":"weights hashed","ours":2,"unit":"GB/s"}]}')
    found = said(capsys, "upload", "--results", str(results), "--link", "10")
    assert found["times"]["link_s"] == 800
    assert found["times"]["hash_s"] == 500
    results.write_text('{"rows":[]}')
    assert main(["plan", "upload", "--results", str(results)]) == 2
    assert main(["plan", "upload", "--hash-rate", "1e9"]) == 0
    assert "what can be tried meanwhile" in capsys.readouterr().out


def test_a_checklist_with_attestations_owed_is_not_affirming(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    listed = said(capsys, "checklist")
    assert listed["owed"] == len(listed["measures"])
    held = [
        {"measure": measure["id"], "by": role, "on": "2029-03-01"}
        for measure in listed["measures"]
        for role in measure["by"]
    ]
    file = tmp_path / "attested.json"
    file.write_text(json.dumps(held))
    words = ("checklist", "--attested", str(file), "--on")
    assert said(capsys, *words, "2029-03-01")["owed"] == 0
    assert said(capsys, *words, "2029-03-03", code=4)["owed"] > 0
    file.write_text("{}")
    assert main(["plan", *words, "2029-03-01"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["rollout", "--teams", "many"],
        ["rollout", "--teams", "0"],
        ["rollout", "--vary", "teams"],
        ["rollout", "--vary", "cats=1,2"],
        ["rollout", "--vary", "teams=1,x"],
        ["coverage", "--servers", "1.5"],
        ["coverage", "--results", "no-such-file"],
        ["coverage", "--vary", "cheat=1"],
        ["rollout", "--vary", "teams=1,2", "--plot", "x.nope"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str]) -> None:
    assert main(["plan", *words]) == 2


PAGE = (ROOT / "docs" / "planner.md").read_text(encoding="utf-8")
PRINTED = re.findall(r"^```console\n\$ lydite (plan .*?)\n(.*?)^```$", PAGE, re.M | re.S)


MEASURED = ("coverage", "upload")
"""Steps whose figures a new run of a benchmark changes."""


def shape(text: str) -> str:
    """A text without its figures, their units, and the widths that go with them."""
    figures = r"[-\d.,]+(?:[KMB]\b)?(?: (?:%|s|min|h|d|[MGT]B/s))?(?: \((?:link|hash)\))?"
    return re.sub(r"\s+", " ", re.sub(figures, "#", text))


@pytest.mark.parametrize(("command", "output"), PRINTED, ids=lambda each: each.split("\n")[0][:40])
def test_the_page_shows_what_the_commands_print(
    capsys: pytest.CaptureFixture[str], command: str, output: str
) -> None:
    assert main(shlex.split(command)) == 0
    printed = capsys.readouterr().out
    if command.split()[1] in MEASURED:
        printed, output = shape(printed), shape(output)
    assert printed == output, "run: python scripts/fill_planner_page.py"


def test_the_page_shows_every_step() -> None:
    assert {command.split()[1] for command, _ in PRINTED} == {
        "rollout",
        "coverage",
        "upload",
        "checklist",
    }
