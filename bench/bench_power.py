"""What telemetry costs and shows: a module for each table, all of them or one.

    python bench/bench_power.py                   every table
    python bench/bench_power.py --only features   one of them

A table is a module ``power_NAME_rows`` beside this one with ``rows()``. Knows nothing of what they
measure; a table that cannot be measured here raises ``AbsentError`` and is named as skipped.
"""

import argparse
import importlib
from pathlib import Path

from power_absent import AbsentError
from report import Row, write

HERE = Path(__file__).parent


def tables() -> list[str]:
    """Return the names of the tables, in order."""
    found = (path.stem for path in HERE.glob("power_*_rows.py"))
    return sorted(stem.removeprefix("power_").removesuffix("_rows") for stem in found)


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=tables(), help="one table, printed and not kept")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in [arguments.only] if arguments.only else tables():
        try:
            rows += importlib.import_module(f"power_{name}_rows").rows()
        except AbsentError as reason:
            print(f"skipped: {name}: {reason}")
    write("power", rows, keep=arguments.only is None)


if __name__ == "__main__":
    main()
