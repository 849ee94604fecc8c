"""Does undeclared training over the network show in how the traffic looks? Power and false alarms.

    python bench/bench_traffic.py

Windows of exchanges, profiled as a gateway does: honest chats and batch work, and gradient
exchanges that hide in the same interface. Sizes and times only; no model is run.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from report import row, write

from lydite.evidence.egress import profile
from lydite.evidence.egress.profile import WINDOW, Bounds
from lydite.laboratory.flows import TRAINING, batches, chats
from lydite.messages.egress import Flow

PROMPTS = Path("data/reference/tokens/prompts.json")
HONEST, TRAINED = 200, 20
"""Windows."""


def texts() -> list[str]:
    """Return the stored prompts as plain text."""
    found = json.loads(PROMPTS.read_text("utf-8"))
    return [each.get("prompt") or each["messages"][-1]["content"] for each in found]


def alarms(
    source: Callable[[random.Random], Iterator[Flow]], name: str, windows: int
) -> tuple[int, list[str]]:
    """Return how many windows raise an alarm, and which numbers were odd."""
    count, odd = 0, set()
    for number in range(windows):
        flows = list(itertools.islice(source(random.Random(f"{name}/{number}")), WINDOW))
        found = profile.profile(flows)
        said = () if found is None else profile.odd(found, Bounds())
        count += bool(said)
        odd |= set(said)
    return count, sorted(odd)


def main() -> None:
    """Measure and write."""
    lines = texts()
    honest: dict[str, Callable[[random.Random], Iterator[Flow]]] = {
        "chats": lambda dice: chats(dice, lines),
        "chats, none streamed": lambda dice: chats(dice, lines, 0.0),
        "documents in batches": lambda dice: batches(dice, lines),
    }
    rows: list[Any] = []
    for name, source in honest.items():
        count, odd = alarms(source, name, HONEST)
        print(name, count, odd)
        metric = f"false alarms, {name}, {HONEST} windows of {WINDOW} exchanges"
        rows.append(row(metric, count, "windows", goal=0, at_most=True))
    for name, source in TRAINING.items():
        count, odd = alarms(source, name, TRAINED)
        print(name, count, odd)
        metric = f"alarms, gradients of {name}, {TRAINED} windows"
        rows.append(row(metric, count, "windows"))
    write("traffic", rows)


if __name__ == "__main__":
    main()
