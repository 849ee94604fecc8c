"""Files that an audit is to write are refused before it asks, and never hide its verdict."""

import json
from pathlib import Path
from typing import Any

import pytest
from odd_server import Said, answer, serving

from lydite.cli.main import main

QUICK = ("--probes", "2", "--timeout-s", "20", "--max-requests", "12")


@pytest.mark.parametrize("option", ["--out", "--save-baseline"])
def test_a_file_that_exists_is_refused_before_the_first_request(
    tmp_path: Path, option: str
) -> None:
    asked: list[dict[str, Any]] = []

    def script(request: dict[str, Any]) -> Said:
        asked.append(request)
        return answer()

    (tmp_path / "old").touch()
    with serving(script) as url:
        more = [] if option == "--save-baseline" else ["--second", url]
        assert main(["audit", url, *more, *QUICK, option, str(tmp_path / "old")]) == 2
    assert not asked


def test_a_record_that_cannot_be_written_does_not_hide_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "record.json"

    def script(_: dict[str, Any]) -> Said:
        out.touch()
        return answer()

    with serving(script) as url:
        code = main(["audit", url, "--second", url, *QUICK, "--json", "--out", str(out)])
    said = capsys.readouterr()
    assert code == 2
    assert "exists" in said.err
    assert json.loads(said.out)["tier"] in {"affirming", "none"}


def test_a_baseline_that_was_saved_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _: answer()) as url:
        code = main(["audit", url, *QUICK, "--save-baseline", str(tmp_path / "monday.json")])
    assert code == 4
    assert capsys.readouterr().out.startswith("? baseline saved: recorded\n")


def test_the_json_of_an_audit_has_its_numbers_and_no_empty_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(lambda _: answer()) as url:
        main(["audit", url, "--json", *QUICK, "--save-baseline", str(tmp_path / "monday.json")])
    said = json.loads(capsys.readouterr().out)
    assert said["headline"] == "baseline saved"
    assert 0 < said["weighed"] <= said["answers"] <= said["spent"]["requests"] <= 12
    assert "" not in said.values()
    assert "provider" not in said
