"""Write the table of ``docs/features.md`` from the features themselves, or check that it is due.

    python scripts/document_features.py           rewrite the table
    python scripts/document_features.py --check   exit 1 if the table is not that of the code

Knows nothing of how a feature is computed.
"""

import argparse
import sys
from pathlib import Path

from lydite.evidence.power.features.feature import Feature
from lydite.evidence.power.features.model import phase_features
from lydite.evidence.power.features.table import GROUPS

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
BEGIN = "<!-- table: written by scripts/document_features.py, do not edit -->\n"
END = "<!-- end of table -->\n"
RATE_HZ, SIZE = 1000.0, 60_000
"""A window of a minute at 1 kHz has every feature."""


def table() -> str:
    """Return the table, a section a group."""
    groups = {name: group.features(RATE_HZ, SIZE) for name, group in GROUPS.items()}
    groups["phases"] = phase_features()
    lines = []
    for name, features in groups.items():
        lines += [f"### {name}", "", "| feature | formula | unit | kind | source |"]
        lines += ["|---|---|---|---|---|", *map(_row, features), ""]
    return "\n".join(lines) + "\n"


def _row(feature: Feature) -> str:
    formula = feature.formula.replace("|", "\\|")
    return f"| `{feature.name}` | {formula} | {feature.unit} | {feature.scale} | {feature.source} |"


def drawn(page: str) -> str:
    """Return ``page`` with the table as it is due."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name}: no place for the table")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    due = drawn(page)
    if arguments.check:
        return int(page != due)
    PAGE.write_text(due, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
