"""The blocks of part 4: work that is not what it claims, beside the honest thing.

Knows what is declared and what is truly so; how it is done is in `adversaries`.
"""

from typing import Any

from planner import MINERS, SEVEN, THIRTEEN, Planner, lazily, params_of, served, shape_of, text_of


def part_4(p: Planner) -> None:
    """Work that is not what it claims, beside the honest thing."""
    p.serve(SEVEN, "none", 8, 25, "honest-")
    p.serve(THIRTEEN, "none", 8, 25, "honest-")
    known = p.serving(SEVEN, "none", 8)
    claim, shape = text_of(known), shape_of(known)

    def kind() -> str:
        return p.rng.choice(("sha256d", "ethash")) if p.second else "sha256d"

    def hide(
        name: str, adversary: str, work: str, *arguments: Any, mixed: bool = False, **labels: Any
    ) -> None:
        miner, seed = kind(), p.rng.randrange(1, 1000)
        base = known if mixed else {"workload": "mining", "dtype": "int32", "weights": None}
        share = labels.get("duty", 1.0)
        actual = (
            f"{claim} and {MINERS[miner]} mining, share {share}"
            if mixed
            else f"{MINERS[miner]} mining"
        )
        full = {
            **base,
            "family": known["family"] if mixed else MINERS[miner],
            "declared": claim,
            "actual": actual,
            "miner": miner,
            "adversary": adversary,
            **labels,
        }
        if miner == "ethash":
            full["dag_gb"] = 4
        if mixed:
            full["workload"] = "llm-inference+mining"
        p.add(
            f"adv-{name}-{miner}",
            25,
            lazily("adversaries", work, miner, *arguments, seed=seed),
            **full,
        )

    hide("spikes", "mining with GEMM spikes at token cadence", "Spikes", 10.0)
    for duty in (0.05, 0.1, 0.2, 0.4):
        hide(
            f"interleaved-{int(duty * 100)}",
            "mining between decode steps",
            "Interleaved",
            duty,
            *shape,
            mixed=True,
            duty=duty,
        )
    for period in (0.05, 0.5, 5.0):
        hide(
            f"duty-{period}s", "duty-cycled mining", "Duty", 0.5, period, duty=0.5, period_s=period
        )
    hide(
        "blind",
        "mining in the 75 ms of 100 that the instant reading skips",
        "Blind",
        *shape,
        mixed=True,
        duty=0.75,
    )
    hide("masked", "mining masked by dummy GEMM and memory reads", "Masked", 0.15)
    hide("matched", "mining slowed by sleeping to decode's mean power", "Matched", *shape)
    big = text_of({**known, "family": THIRTEEN})
    pad = lazily(
        "adversaries",
        "Padded",
        SEVEN,
        "none",
        known["dtype"],
        2.0 * params_of(THIRTEEN),
        *shape[2:],
    )
    p.add(
        "adv-7b-as-13b",
        25,
        pad,
        **{
            **known,
            "declared": big,
            "actual": claim + " and filler",
            "adversary": "smaller model with filler",
        },
    )
    eight = {**known, "quant": "fp8"}
    pad = lazily("adversaries", "Padded", SEVEN, "fp8", "bf16", 2.0 * params_of(SEVEN), *shape[2:])
    p.add(
        "adv-fp8-as-bf16",
        25,
        pad,
        **{
            **eight,
            "dtype": "bf16",
            "declared": text_of({**known, "dtype": "bf16"}),
            "actual": text_of(eight) + " and filler",
            "adversary": "fewer bits with filler",
        },
    )
    true = {**known, "batch": p.size(32)}
    true["prompt"] = p.shape(SEVEN, "none", true["batch"])
    p.add(
        "adv-batch",
        25,
        lambda place: served(place, true),
        **{**true, "declared": claim, "actual": text_of(true), "adversary": "batch misdeclared"},
    )
    batch, length = (8, 512) if p.second else (4, 1024)
    p.add(
        "adv-training-diluted",
        25,
        lazily("jobs", "Train", "gpt-1.3b", batch, length, forwards=20),
        workload="inference+training",
        family="gpt-1.3b",
        params=params_of("gpt-1.3b"),
        dtype="bf16",
        batch=batch,
        prompt=length,
        engine="AdamW, autocast",
        declared="prefill-only inference gpt-1.3b",
        actual="training, one optimiser step per 20 forwards",
        adversary="training diluted with forward passes",
    )
