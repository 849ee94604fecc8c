"""Draw the picture of rooms in ARCHITECTURE.md from the import contracts, or check that it is due.

    python scripts/draw_architecture.py           rewrite the picture
    python scripts/draw_architecture.py --check   exit 1 if the picture is not that of the contracts

Reads ``.importlinter`` and nothing else, so that law and picture cannot disagree.
"""

import argparse
import configparser
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / ".importlinter"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- picture: drawn by scripts/draw_architecture.py, do not edit -->\n"
END = "<!-- end of picture -->\n"
WIDTH = 62


def contracts(text: str) -> list[configparser.SectionProxy]:
    """Return the contracts of an import-linter file, in its order."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return [parser[name] for name in parser.sections() if name.startswith("importlinter:contract")]


def layers(text: str) -> list[list[str]]:
    """Return the rooms from top to bottom, those side by side in one list."""
    contract = next(c for c in contracts(text) if c["type"] == "layers")
    rows = [line.split("|") for line in contract["layers"].split("\n") if line.strip()]
    return [[name.strip() for name in row] for row in rows]


def picture(text: str, built: set[str]) -> str:
    """Return the picture: a box for each room of ``built``, those below known to those above.

    Rooms in parentheses are ones that the contracts allow to be absent.
    """
    rows = [[name.strip("()") for name in row if name.strip("()") in built] for row in layers(text)]
    rows = [row for row in rows if row]
    lines = [_rule("┌", "┐", [], rows[0])]
    for above, below in zip(rows, [*rows[1:], []], strict=True):
        widths = _widths(above)
        cells = [f" {name}".ljust(width) for name, width in zip(above, widths, strict=True)]
        lines.append("│" + "│".join(cells) + "│")
        lines.append(_rule("├", "┤", above, below) if below else _rule("└", "┘", above, []))
    rules = [f"- {contract['name']}." for contract in contracts(text)]
    return "\n".join(["```text", *lines, "```", "", *rules, ""])


def _widths(row: list[str]) -> list[int]:
    """Share ``WIDTH`` among the cells of a row, separators aside."""
    free = WIDTH - (len(row) - 1)
    shares = [free // len(row)] * len(row)
    shares[-1] += free - sum(shares)
    return shares


def _rule(left: str, right: str, above: list[str], below: list[str]) -> str:
    """Return the line between two rows, with a joint wherever a separator meets it."""
    joints = {(True, True): "┼", (True, False): "┴", (False, True): "┬", (False, False): "─"}
    ends = [_separators(row) for row in (above, below)]
    middle = [joints[place in ends[0], place in ends[1]] for place in range(WIDTH)]
    return left + "".join(middle) + right


def _separators(row: list[str]) -> set[int]:
    places, place = set(), -1
    for width in _widths(row)[:-1] if row else []:
        place += width + 1
        places.add(place)
    return places


def drawn(page: str, text: str, built: set[str]) -> str:
    """Return ``page`` with the picture that the contracts ``text`` ask for."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} has no place for the picture: {BEGIN.strip()}")
    return before + BEGIN + picture(text, built) + END + after


def main() -> int:
    """Rewrite or check the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say if it is old")
    arguments = parser.parse_args()
    built = {path.stem for path in (ROOT / "src" / "lydite").iterdir()}
    page = PAGE.read_text(encoding="utf-8")
    new = drawn(page, CONTRACTS.read_text(encoding="utf-8"), built)
    if arguments.check:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
