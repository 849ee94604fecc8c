"""The blocks of the campaign: what runs and for how long, part by part.

`plan(lease, part, seed, dry_run)` touches no GPU; `Block.make()` does. Leases whose name starts
with B take other prompts, batches and 16-bit formats than A. Parts: A0 idle, sensor and unit loads;
A1 mining and media; A2, A3 models; A4 adversaries; B5 cold and hot starts. Several: "A0,A1".
"""

from typing import Any

from hidden import part_4
from planner import (
    HALF,
    MIX,
    SEVEN,
    SEVENTY,
    THIRTEEN,
    Block,
    Planner,
    diffused,
    lazily,
    looped,
    mined,
    params_of,
    served,
    shape_of,
    trained,
)

PARTS = {"A": ("A0", "A1", "A2", "A4", "A3"), "B": ("B0", "B1", "B2", "B4", "B3", "B5")}


def part_0(p: Planner) -> None:
    """Idle, the sensor's own behaviour, the sampler's cost, unit loads."""
    p.add(
        "idle-no-context",
        20,
        lazily("works", "Idle", False),
        context=False,
        workload="idle",
        weights=None,
    )
    p.blocks[-1].labels["context"] = "none"
    p.add("idle-context", 15, lazily("works", "Idle", True), workload="idle", weights=None)
    for ms in (20, 50, 100, 200, 500, 1000):
        p.add(
            f"wave-{ms}ms",
            8,
            lazily("works", "Wave", ms),
            workload="calibration",
            family="square wave",
            dtype="bf16",
            period_ms=ms,
            poll_hz=1000,
            calibration=True,
        )
    known = p.serving(SEVEN, "none", 8)
    for i, state in enumerate(("on", "off", "on", "off")):
        switch = {"sampler": "off"} if state == "off" else {}
        p.add(
            f"overhead-{i}-{state}",
            10,
            lambda place: served(place, known),
            **{**known, "calibration": True, **switch},
        )
    p.add(
        "gemm-bf16",
        15,
        looped("gemm", "gemm_launch", "bf16"),
        workload="gemm",
        family="8192^3",
        dtype="bf16",
    )
    p.add(
        "gemm-fp8",
        15,
        looped("gemm", "gemm_launch", "fp8"),
        workload="gemm",
        family="8192^3",
        dtype="fp8",
        quant="fp8",
    )
    p.add(
        "gemm-random",
        15,
        looped("gemm", "gemm_launch", "random"),
        workload="gemm",
        family="random shapes",
        dtype="bf16",
    )
    p.add(
        "hbm-copy",
        15,
        looped("copy", "hbm_launch"),
        workload="memory",
        family="HBM copy",
        dtype="uint8",
    )
    for kind, family in (("l2", "second cache"), ("fp32", "FP32 FMA"), ("int32", "INT32")):
        p.add(
            f"loop-{kind}",
            10,
            looped("loop", "loop_launch", kind),
            workload="arithmetic",
            family=family,
            dtype=kind,
        )


def part_1(p: Planner) -> None:
    """Mining in the clear, and the media engines where they answer."""
    mined(p, "sha256d", 25)
    mined(p, "ethash", 25, 4)
    mined(p, "ethash", 15, 1)
    mined(p, "ethash", 15, 16)
    mined(p, "kawpow", 20, 4)
    p.add(
        "nvjpeg",
        15,
        lazily("media", "Jpeg"),
        workload="media",
        family="nvJPEG decode",
        weights=None,
    )
    for engine in ("nvdec", "nvenc"):
        p.add(
            f"probe-{engine}",
            1,
            lazily("media", "Probe", engine),
            workload="media",
            family=engine,
            weights=None,
        )


def part_2(p: Planner) -> None:
    """Plan decoders of up to 13 B."""
    for quant, batches in (
        ("none", (1, 8, 32)),
        ("fp8", (1, 8, 32)),
        ("int8", (1, 8)),
        ("int4", (1, 8)),
    ):
        for batch in batches:
            p.serve(SEVEN, quant, batch)
    for model, batches in (
        ("mistral-7b", (8, 32)),
        ("qwen2-7b", (8, 32)),
        ("gpt-neox-6.9b", (8,)),
        ("gpt2-xl", (8,)),
        (THIRTEEN, (1, 8, 32)),
    ):
        for batch in batches:
            p.serve(model, "none", batch)


def part_3(p: Planner) -> None:
    """Large decoders, transformers, images, training."""
    for model, quant, batches in (
        (SEVENTY, "fp8", (1, 8, 32)),
        (HALF, "none", (8,)),
        (MIX, "none", (1, 8, 32)),
    ):
        for batch in batches:
            p.serve(model, quant, batch)
    for model, batch in ((SEVEN, 1), (SEVEN, 8), (THIRTEEN, 8)):
        known = p.serving(model, "none", batch) | {"engine": "E1 transformers, eager"}
        model, dtype, size, prompt, output = shape_of(known)
        p.add(
            f"e1-{model}-{dtype}-b{size}-p{prompt}",
            18,
            lazily("jobs", "Eager", model, dtype, size, prompt, output),
            **known,
        )
    known = p.serving(SEVEN, "none", 32) | {
        "prompt": "64-1024 mixed",
        "output": "geometric, mean 128",
        "batch": p.size(32),
    }
    rate = p.rng.uniform(3, 9) if p.second else 6.0
    p.add(
        "llama-7b-poisson",
        40,
        lazily("jobs", "Poisson", SEVEN, known["dtype"], known["batch"], rate),
        **known,
        arrivals_per_s=round(rate, 2),
    )
    known = p.serving(SEVEN, "none", 8) | {"prompt": 2048, "output": 0}
    p.add("llama-7b-prefill", 15, lambda place: served(place, known), **known)
    for batch, seconds in ((1, 20), (4, 20)):
        diffused(p, batch, seconds)
    for model, batch in (("vit-l", 64), ("resnet-50", 256)):
        dtype, size = p.half(), p.size(batch)
        p.add(
            f"{model}-{dtype}-b{size}",
            15,
            lazily("jobs", "Image", model, size, dtype),
            workload="image-inference",
            family=model,
            params=304_325_608 if model == "vit-l" else 25_557_032,
            dtype=dtype,
            batch=size,
        )
    trained(p, 25)
    p.add(
        "lora-7b",
        20,
        lazily("jobs", "Train", SEVEN, 2, 1024, lora=True),
        workload="training",
        family=SEVEN,
        params=params_of(SEVEN),
        engine="LoRA rank 16, AdamW",
        dtype="bf16",
        batch=2,
        prompt=1024,
    )
    size = p.size(256)
    p.add(
        f"resnet-50-training-b{size}",
        15,
        lazily("jobs", "Image", "resnet-50", size, "bf16", train=True),
        workload="training",
        family="resnet-50",
        params=25_557_032,
        engine="SGD, autocast",
        dtype="bf16",
        batch=size,
    )


def part_5(p: Planner) -> None:
    """Six workloads, each after rest and right after 30 s of GEMM."""
    inner = Planner("A", "thermal", p.seed, p.dry)
    inner.serve(SEVEN, "none", 8, 12)
    inner.serve(THIRTEEN, "none", 8, 12)
    mined(inner, "sha256d", 12)
    mined(inner, "ethash", 12, 4)
    trained(inner, 12)
    diffused(inner, 1, 12)
    for block in inner.blocks:
        for hot, before in ((False, 15.0), (True, 30.0)):

            def build(
                place: Any, block: Block = block, hot: bool = hot, before: float = before
            ) -> Any:
                import adversaries

                return adversaries.Warmed(
                    place, block.factory(), hot, 0.05 if place.dry else before
                )

            labels = {**block.labels, "thermal": "hot" if hot else "cold", "preamble_s": before}
            p.add(f"{'hot' if hot else 'cold'}-{block.name}", before + 12, build, **labels)


def plan(lease: str, part: str, seed: int, dry_run: bool) -> list[Block]:
    """Return the blocks of one or more parts ("A0", "A0,A1", "B5"), in their order."""
    makers = {"0": part_0, "1": part_1, "2": part_2, "3": part_3, "4": part_4, "5": part_5}
    found: list[Block] = []
    for one in part.replace("+", ",").split(","):
        if one.strip()[-1:] not in makers:
            raise ValueError(f"unknown part {one!r}")
        planner = Planner(lease, one.strip(), seed, dry_run)
        makers[one.strip()[-1]](planner)
        found += planner.blocks
    return found
