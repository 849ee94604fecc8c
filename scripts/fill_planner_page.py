"""Write the outputs in docs/planner.md again, by the commands that stand above them.

python scripts/fill_planner_page.py           when a benchmark or the planner has changed
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

from lydite.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "planner.md"
_BLOCK = re.compile(r"^```console\n\$ lydite (plan [^\n]*)\n.*?^```$", re.M | re.S)


def _filled(block: re.Match[str]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(shlex.split(block[1]))
    return f"```console\n$ lydite {block[1]}\n{printed.getvalue()}```"


def run() -> int:
    """Fill the page in."""
    PAGE.write_text(_BLOCK.sub(_filled, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run())
