"""Draw the prompts of calibration and benchmarks from library source that no model was trained on.

Every 20th file of CPython's own library is held out by ``train_models.py``; its functions become
chats, its lines become beginnings to complete. The prompts are kept as data, so that another
Python, whose library differs, calibrates on the same ones.

    python scripts/make_prompts.py
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train_models import conversations, library_sources

COUNT, SEED = 480, 7
WINDOW = (120, 420)
"""Least and most characters of a beginning."""
OUT = Path("data/reference/tokens/prompts.json")
_TURN = re.compile(r"<\|(system|user)\|>(.*?)<\|end\|>", re.DOTALL)


def chats(sources: Sequence[tuple[str, str]], dice: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the questions of every conversation that the held-out files make."""
    for module, source in sources:
        for conversation in conversations(module, source, dice):
            turns = _TURN.findall(conversation)
            yield {"messages": [{"role": role, "content": text} for role, text in turns]}


def beginnings(sources: Sequence[tuple[str, str]], dice: random.Random) -> Iterator[dict[str, Any]]:
    """Yield pieces of source that begin at a line, for as long as anybody asks."""
    while True:
        _, source = dice.choice(sources)
        lines = source.splitlines(keepends=True)
        first = dice.randrange(max(len(lines) - 10, 1))
        text = "".join(lines[first : first + 40])[: dice.randint(*WINDOW)]
        if text.strip():
            yield {"prompt": text}


def main() -> None:
    """Write the prompts, chats and beginnings by turns."""
    held_out = library_sources()[19::20]
    dice = random.Random(SEED)
    asked = list(chats(held_out, dice))
    dice.shuffle(asked)
    pairs = zip(asked[: COUNT // 2], beginnings(held_out, dice), strict=False)
    prompts = [prompt for pair in pairs for prompt in pair]
    lines = ",\n".join(json.dumps(prompt, ensure_ascii=True) for prompt in prompts)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(f"[\n{lines}\n]\n", "utf-8")
    print(f"{len(prompts)} prompts from {len(held_out)} held-out files in {OUT}")


if __name__ == "__main__":
    main()
