"""Derive the Reference Value for engines that draw otherwise than ours, such as vLLM.

The honest implementations and their noise are those of our own engine's Reference Value. Where no
seed repeats a draw the power changes: margins say nothing, so each cheat takes more tokens, and
some leave no trace. Runs no model; what each channel alone tells stands in the Reference Value.

    python scripts/derive_unseeded.py lydite-base
    python scripts/derive_unseeded.py lydite-base --sampler vllm-cpu --out reference.json

The first writes ``data/reference/tokens/MODEL.unseeded.json``.
"""

import argparse
from pathlib import Path

import msgspec
from derive_reference import DATA

from lydite.evidence.tokens.reference import KIND, MARGIN, UNSEEDED, Reference, parse
from lydite.messages.canonical import encode
from lydite.messages.declaration import SAMPLERS


def main() -> None:
    """Write the Reference Value of the model that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="one that has been calibrated")
    parser.add_argument("--sampler", default=UNSEEDED, choices=SAMPLERS, help="none by default")
    parser.add_argument("--out", type=Path, help="where to write it")
    arguments = parser.parse_args()
    name = arguments.model
    reference = derive(parse((DATA / f"{name}.json").read_bytes()), arguments.sampler)
    path = arguments.out or DATA / f"{name}.unseeded.json"
    path.write_bytes(encode(reference))
    parse(path.read_bytes())
    for one in reference.alternatives:
        print(f"{one.name:20} {one.tokens:6} tokens by {', '.join(one.channels)}")


def derive(seeded: Reference, sampler: str = UNSEEDED) -> Reference:
    """Return our engine's Reference Value as it reads for ``sampler``; for none, less margins."""
    told = seeded.alternatives
    if sampler == UNSEEDED:
        told = tuple(one for one in told if f"{KIND}/{MARGIN}" not in one.channels)
    return msgspec.structs.replace(seeded, sampler=sampler, alternatives=told)


if __name__ == "__main__":
    main()
