"""The page of results holds what was kept, in order, and nothing else."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

BENCH = Path(__file__).parent.parent.parent / "bench"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import power_page

    (tmp_path / "_static").mkdir()
    monkeypatch.setattr(power_page, "DOCS", tmp_path)
    monkeypatch.setattr(power_page, "RESULTS", tmp_path)
    return power_page


def test_sections_are_kept_with_their_pictures_and_put_in_order(page, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    figure, axes = page.picture()
    axes.plot([0, 1])
    for name, place, pictures in (("late", 2, {}), ("early", 1, {"drawn": figure})):
        (tmp_path / f"power_{name}.json").write_text(json.dumps({"rows": []}))
        page.keep(name, page.Section(place, name.title(), f"What {name} shows.\n", pictures))
    page.write(["late", "early", "absent"])
    text = (tmp_path / "power-results.md").read_text()
    assert text.index("## Early") < text.index("## Late")
    assert (tmp_path / "_static" / "drawn.png").read_bytes().startswith(b"\x89PNG")
    assert "absent" not in text


def test_numbers_and_their_intervals_have_three_digits(page) -> None:  # type: ignore[no-untyped-def]
    made = page.table(["a", "b"], [[0.12345, (0.5, 0.25, 0.75)], [float("nan"), 7]])
    assert "| 0.123 | 0.500 [0.250, 0.750] |" in made
    assert "| - | 7 |" in made


def test_the_kept_page_is_what_the_kept_results_say(page, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import bench_power

    kept = (BENCH.parent / "docs" / "power-results.md").read_text("utf-8")
    monkeypatch.setattr(page, "RESULTS", BENCH / "results")
    page.write(bench_power.tables())
    assert (page.DOCS / "power-results.md").read_text("utf-8") == kept
