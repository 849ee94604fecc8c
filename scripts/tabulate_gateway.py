"""Writes the table of docs/gateway-performance.md from bench/results/gateway.json.

    python scripts/tabulate_gateway.py

What stands between the two marks of the page is replaced; nothing is measured.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gateway-performance.md"
RESULTS = ROOT / "bench" / "results" / "gateway.json"
BEGIN, END = "<!-- table: scripts/tabulate_gateway.py -->\n", "<!-- end of table -->\n"
OURS = "lydite"


def main() -> None:
    """Replace the table."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "\n" + tables(found) + "\n" + END + after, encoding="utf-8")


def tables(found: dict[str, Any]) -> str:
    """Return where it was measured, our rows with their bounds, and all candidates abreast."""
    machine, versions = found["machine"], found["versions"]
    names = [name for name in versions if name[:1].isupper() or name in PEERS or OURS + "," in name]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']} from other work;"
        f" Python {versions['python']}, uvloop {versions['uvloop']}, httptools"
        f" {versions['httptools']}; "
        + ", ".join(f"{name} {versions[name]}" for name in names if OURS not in name)
        + ".",
        "",
        "| bound | figure | goal | must |",
        "|---|---|---|---|",
    ]
    for row in found["rows"]:
        if row["goal"] is not None:
            lines.append(
                f"| {row['metric']} | {number(row['ours'])} {row['unit']} |"
                f" {number(row['goal'])}{mark(row['holds'])} |"
                f" {number(row.get('must'))}{mark(row.get('accepted'))} |"
            )
    return "\n".join([*lines, "", *side_by_side(found["rows"], names)]) + "\n"


PEERS = ("nginx", "haproxy", "vllm-router")


def side_by_side(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Return one line a metric with a column for each candidate."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        metric, _, name = row["metric"].rpartition(": ")
        base, late, _ = name.partition(" (not within")
        if base not in names or row["unit"] == "x":
            continue
        metric = metric.partition(" at ")[0] if metric.startswith("CPU an event") else metric
        text = f"> {number(row['ours'])}" if late else number(row["ours"])
        unit = f" ({row['unit']})" if row["unit"] else ""
        cells.setdefault(metric + unit, {})[base] = text
    head = "| | " + " | ".join(name.removeprefix("lydite, ") for name in names) + " |"
    body = [
        f"| {metric} | " + " | ".join(found.get(name, "") for name in names) + " |"
        for metric, found in cells.items()
        if len(found) > 1
    ]
    return [head, "|---" * (len(names) + 1) + "|", *body]


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def mark(holds: bool | None) -> str:
    """Return a word where a bound is missed."""
    return " **missed**" if holds is False else ""


if __name__ == "__main__":
    main()
