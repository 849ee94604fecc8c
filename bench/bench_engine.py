"""``make bench-engine``: decoding and recomputing on one core, beside transformers' own loop.

The peer is ``model.generate`` of the same library on the same model, prompts and token counts,
its rows all of one length and present from the start: the easiest case for it. Ours goes through
the whole engine: scheduling, seeded draws, text. Both are run in turn and the best of three kept.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import Row, row, write

from lydite.engines.protocol import Job
from lydite.engines.transformers_engine import Dtype, TransformersEngine, load_model
from lydite.evidence.tokens.sampling import Sampling

MODEL = Path(__file__).parents[1] / "models" / "lydite-base"
NEW_TOKENS, PROMPT_TOKENS = 64, 48
SAMPLING = Sampling(max_tokens=NEW_TOKENS, ignore_eos=True)


def prompts(count: int) -> list[tuple[int, ...]]:
    """Return prompts of one length that share nothing but their first token."""
    return [
        (0, *((7 * n + 13 * i) % 2000 + 8 for i in range(PROMPT_TOKENS - 1))) for n in range(count)
    ]


def ours(engine: TransformersEngine, count: int) -> None:
    """Answer ``count`` prompts together."""

    async def one(number: int, prompt: tuple[int, ...]) -> None:
        job = Job(
            request_id="",
            prompt_ids=prompt,
            sampling=SAMPLING,
            seed=number,
            noise_position=PROMPT_TOKENS - 1,
        )
        async for _ in engine.generate(job):
            pass

    async def every() -> None:
        await asyncio.gather(*(one(n, prompt) for n, prompt in enumerate(prompts(count))))

    asyncio.run(every())


@torch.inference_mode()
def peer(model: Any, count: int) -> None:
    """Answer the same prompts with the library's own loop."""
    ids = torch.tensor(prompts(count))
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        pad_token_id=0,
    )


def best_s(*works: Callable[[], object]) -> list[float]:
    """Return the processor seconds of each work, the best of three, taken in turn."""
    taken = [float("inf")] * len(works)
    for _ in range(3):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            taken[index] = min(taken[index], time.process_time() - started)
    return taken


def rows(dtype: Dtype) -> list[Row]:
    """Measure one number format."""
    engine = TransformersEngine.load(MODEL, dtype)
    model = load_model(MODEL, dtype)
    ours(engine, 1)
    found = []
    for count in (1, 8, 16):
        mine, theirs = best_s(lambda c=count: ours(engine, c), lambda c=count: peer(model, c))
        tokens = count * NEW_TOKENS
        found.append(
            row(
                f"decoding {dtype}, batch {count}",
                tokens / mine,
                "tokens/s",
                peer=tokens / theirs,
                peer_name="transformers generate",
            )
        )
    prompt, output = prompts(1)[0], prompts(2)[1] * 2
    (taken,) = best_s(lambda: [engine.logits(prompt, output) for _ in range(10)])
    found.append(row(f"recomputing {dtype}", 10 * len(output) / taken, "tokens/s"))
    engine.close()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("engine", [*rows("bf16"), *rows("fp32")])
