"""What telemetry costs and shows: a module for each table, all of them or one.

    python bench/bench_power.py                   every table
    python bench/bench_power.py --only features   one of them

A table is a module ``power_NAME_rows`` beside this one with ``rows()``, and with ``section()`` if
it has a part of the page. Each is kept as soon as it is measured, in ``results/power_NAME.json``
and, with its pictures, on the page of results; the page names what is not. Knows nothing of what
they measure; a table that cannot be measured here raises ``AbsentError`` and is named as skipped,
and what was kept of it stays.
"""

import argparse
import importlib
from pathlib import Path

import power_page
from power_absent import AbsentError
from report import write

HERE = Path(__file__).parent


def tables() -> list[str]:
    """Return the names of the tables, in order."""
    found = (path.stem for path in HERE.glob("power_*_rows.py"))
    return sorted(stem.removeprefix("power_").removesuffix("_rows") for stem in found)


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=tables(), help="one table")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else tables():
        module = importlib.import_module(f"power_{name}_rows")
        try:
            rows = module.rows()
            section = module.section() if hasattr(module, "section") else None
        except AbsentError as reason:
            print(f"skipped: {name}: {reason}")
            continue
        write(f"power_{name}", rows)
        if section is not None:
            power_page.keep(name, section)
            power_page.write(tables())


if __name__ == "__main__":
    main()
