"""How blocks are planned: a name, seconds, labels, and what makes the work when its turn comes.

Knows the shapes of models and what a B lease changes; touches no GPU and knows no part by name.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MINERS = {"sha256d": "SHA-256d", "ethash": "Ethash-like", "kawpow": "KawPow-like"}
SEVEN, THIRTEEN, SEVENTY, HALF, MIX = (
    "llama-7b",
    "llama-13b",
    "llama-70b",
    "llama-70b-half",
    "mixtral-8x7b",
)
BATCH_B = {1: 2, 8: 16, 32: 64, 4: 2, 64: 128, 256: 128}


@dataclass
class Block:
    """One labelled stretch of work; `make` builds it and lets its notes appear among the labels."""

    name: str
    seconds: float
    labels: dict[str, Any]
    factory: Callable[[], Any] = field(repr=False)

    def make(self) -> Any:
        """Build the work."""
        work = self.factory()
        self.labels["notes"] = work.notes
        return work


class Planner:
    """Collects the blocks of one part; the choices of a B lease come from the seed."""

    def __init__(self, lease: str, part: str, seed: int, dry: bool):
        self.second, self.seed, self.dry = lease[:1].upper() == "B", seed, dry
        self.rng = random.Random(f"{lease}/{part}/{seed}")
        self.blocks: list[Block] = []

    def add(
        self,
        name: str,
        seconds: float,
        build: Callable[[Any], Any],
        context: bool = True,
        **labels: Any,
    ) -> None:
        """Plan a block."""
        seed = self.rng.randrange(1, 1 << 31)
        full = {
            "workload": None,
            "family": None,
            "params": None,
            "engine": "own",
            "dtype": None,
            "quant": "none",
            "batch": None,
            "prompt": None,
            "output": None,
            "declared": None,
            "actual": None,
            "adversary": None,
            "seed": seed,
            "weights": "random N(0, .02)",
            **labels,
        }
        full["declared"] = full["declared"] or full["workload"]
        full["actual"] = full["actual"] or full["declared"]
        dry = self.dry

        def factory() -> Any:
            import works

            return build(works.Place(dry or not context, seed))

        self.blocks.append(Block(name, 0.2 if dry else seconds, full, factory))

    def half(self) -> str:
        """bf16; on a B lease fp16 in half of the blocks."""
        return "fp16" if self.second and self.rng.random() < 0.5 else "bf16"

    def size(self, batch: int) -> int:
        """Return the batch size of this lease."""
        return BATCH_B.get(batch, batch) if self.second else batch

    def shape(self, model: str, quant: str, batch: int, prompt: int = 512) -> int:
        """Return the prompt length: 128 or 2048 on a B lease, 2048 only if memory and 4 s allow."""
        if not self.second:
            return prompt
        from shapes import CONFIGS

        cfg = CONFIGS[model]
        cache = 4.0 * cfg.layers * cfg.kv * cfg.head * batch * (2048 + 256)
        weights = cfg.params * {"none": 2, "fp8": 1, "int8": 1, "int4": 1.1}[quant]
        fits = (
            cache + weights < 115e9
            and 2.0 * cfg.active * batch * 2048 / 4e14 < 4
            and model != "gpt2-xl"
        )
        return self.rng.choice((128, 2048)) if fits else 128

    def serving(
        self, model: str, quant: str, batch: int, dtype: str | None = None
    ) -> dict[str, Any]:
        """Labels and arguments of an honest decoder block."""
        dtype = dtype or ("bf16" if quant in ("int4", "fp8") or model == MIX else self.half())
        batch = self.size(batch)
        prompt = self.shape(model, quant, batch)
        return {
            "workload": "llm-inference",
            "family": model,
            "params": params_of(model),
            "engine": "E2 static cache, CUDA graph",
            "dtype": dtype,
            "quant": quant,
            "batch": batch,
            "prompt": prompt,
            "output": 256,
        }

    def serve(
        self, model: str, quant: str, batch: int, seconds: float = 18, tag: str = "", **labels: Any
    ) -> None:
        """Plan a block of serving."""
        known = self.serving(model, quant, batch)
        text = text_of(known)
        note = {"router": "random, so experts are drawn evenly"} if model == MIX else {}
        if model == HALF:
            note = {"depth": "40 of 80 layers: the whole model does not fit in 16 bits"}
        width = quant if quant != "none" else known["dtype"]
        name = f"{tag}{model}-{width}-b{known['batch']}-p{known['prompt']}"
        self.add(
            name,
            seconds,
            lambda place: served(place, known),
            **{**known, "declared": text, **note, **labels},
        )


def params_of(model: str) -> int:
    """Return the number of weights of a model."""
    from shapes import CONFIGS

    return CONFIGS[model].params


def text_of(labels: dict[str, Any]) -> str:
    """Return what is declared of a block of serving, in words."""
    width = labels["quant"] if labels["quant"] != "none" else labels["dtype"]
    return f"llm-inference {labels['family']} {width} batch {labels['batch']}"


def shape_of(known: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes a block of serving."""
    return known["family"], known["dtype"], known["batch"], known["prompt"], known["output"]


def served(place: Any, known: dict[str, Any]) -> Any:
    """Build a block of serving."""
    import works

    model, dtype, batch, prompt, output = shape_of(known)
    return works.Serve(place, model, known["quant"], dtype, batch, prompt, output)


def lazily(module: str, name: str, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
    """`module.name(place, ...)`, imported only when the block is made."""

    def build(place: Any) -> Any:
        return getattr(__import__(module), name)(place, *arguments, **named)

    return build


def looped(kind: str, launch: str, *arguments: Any) -> Callable[[Any], Any]:
    """Return what builds a launch repeated for long."""

    def build(place: Any) -> Any:
        import works

        return works.Loop(place, kind, getattr(works, launch)(place, *arguments))

    return build


def mined(p: Planner, kind: str, seconds: float, gb: float | None = None) -> None:
    """Plan a block of hashing."""
    name = f"mine-{kind}" + (f"-{gb}gb" if gb else "")
    build = lazily("mining", "Mine", kind, gb or 0, seed=p.rng.randrange(1, 1000))
    p.add(
        name,
        seconds,
        build,
        workload="mining",
        family=MINERS[kind],
        dag_gb=gb,
        weights=None,
        dtype="int32",
    )


def diffused(p: Planner, batch: int, seconds: float) -> None:
    """Plan a block of image generation."""
    dtype, size = p.half(), batch if batch == 1 else p.size(batch)
    p.add(
        f"sdxl-like-{dtype}-b{size}",
        seconds,
        lazily("jobs", "Diffusion", size, dtype),
        workload="diffusion",
        family="SDXL-like UNet",
        params=2_562_218_244,
        dtype=dtype,
        batch=size,
        steps=30,
        latent="128x128, guided",
        parts="UNet only",
    )


def trained(p: Planner, seconds: float) -> None:
    """Plan a block of training."""
    batch, length = (8, 512) if p.second else (4, 1024)
    p.add(
        f"training-1.3b-b{batch}",
        seconds,
        lazily("jobs", "Train", "gpt-1.3b", batch, length),
        workload="training",
        family="gpt-1.3b",
        params=params_of("gpt-1.3b"),
        engine="AdamW, autocast",
        dtype="bf16",
        batch=batch,
        prompt=length,
    )
