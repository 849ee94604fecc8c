"""What the pages of power and of the monitor tell people to type does what they say."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
pytest.importorskip("matplotlib")

from lydite.cli.main import main

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FITS, MISFITS = 4, 3


def section(page: str, title: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    lines = [
        line.removeprefix("$ ")
        for language, code in FENCE.findall(text)
        if language == "console"
        for line in code.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sealed(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the monitor as its page says, but at once; return its public key."""
    init, run, check = commands("\n" + (ROOT / "docs" / "monitor.md").read_text())[:3]
    assert main([*init, "--json"]) == 0
    key = str(json.loads(capsys.readouterr().out)["public_key"])
    settings = place / "mine" / "monitor.toml"
    quick = '[metrics]\nport = 0\n[[sources]]\nkind = "replay"\nspeed = 0.0\n'
    settings.write_text(f"{settings.read_text()}\n{quick}")
    assert main(run) == 0
    assert main([key if word == "KEY" else word for word in check]) == 0
    capsys.readouterr()
    return key


def test_the_walk_through_of_power_runs_as_printed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, codes = "", []
    key = sealed(checkout, capsys)
    for words in commands(section("power.md", "A walk-through")):
        given = [{"NAME": name[:10], "KEY": key}.get(word, word) for word in words]
        code = main(given)
        out, err = capsys.readouterr()
        assert err == "" or words[1] == "record", err
        if words[1] in ("import", "record"):
            name = out.split()[0]
        codes.append((words[1], code))
    steps = {step for step, _ in codes}
    assert steps >= {
        "import", "query", "stats", "plot", "record", "watch", "recognise", "declare", "check",
        "calibrate", "ledger", "demo",
    }  # fmt: skip
    assert [code for step, code in codes if step == "check"] == [FITS, MISFITS, FITS]
    assert [code for step, code in codes if step == "ledger"] == [FITS]
    others = [code for step, code in codes if step not in ("check", "ledger")]
    assert set(others) == {0}, codes
    assert (checkout / "inference.png").stat().st_size > 1000


def test_the_pointers_of_the_monitors_page_are_followed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sealed(checkout, capsys)
    point, check, live = (
        [key if word == "KEY" else word for word in words]
        for words in commands(section("monitor.md", "Segments"))
    )
    assert main(point) == 0
    assert main(check) == 0
    assert "pointer.json" in capsys.readouterr().out
    assert main(live) == 4


def test_the_draft_of_the_formats_page_is_declared_work(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = section("formats.md", "Declared work, and telemetry held against it")
    ((_, draft),) = [found for found in FENCE.findall(page) if found[0] == "json"]
    path = checkout / "draft.json"
    path.write_text(draft)
    assert main(["power", "declare", str(path), "--out", "work.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 256
    assert main(["power", "declare", "work.json", "--out", "again.json"]) == 0
    assert Path("again.json").read_bytes() == Path("work.json").read_bytes()
    short = json.loads(draft)
    for name in ("experts", "activeExperts", "gated", "tied"):
        del short["shape"][name]
    del short["numerics"]["cacheMilliBits"], short["speculative"], short["segments"]
    path.write_text(json.dumps(short))
    assert main(["power", "declare", str(path), "--out", "short.json"]) == 0
    assert Path("short.json").read_bytes() == Path("work.json").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"gpus": 2', '"gpus": "two"', "gpus"),
        ('"heads": 64', '"heads": 63', "heads"),
        ('"tenant": "ada",', "", "tenant"),
        ('"session": "job 7",', '"session": "job 7", "watts": 1,', "watts"),
        ("{", "", "draft.json"),
    ],
)
def test_a_draft_that_declares_nothing_is_refused_by_its_field(
    checkout: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, word: str
) -> None:
    page = section("formats.md", "Declared work, and telemetry held against it")
    draft = next(code for language, code in FENCE.findall(page) if language == "json")
    (checkout / "draft.json").write_text(draft.replace(old, new, 1))
    assert main(["power", "declare", "draft.json", "--out", "work.json"]) == 1
    assert word in capsys.readouterr().err
    assert not (checkout / "work.json").exists()
