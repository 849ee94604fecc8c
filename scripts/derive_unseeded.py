"""Derive the Reference Value for engines whose draws no seed of ours repeats, such as vLLM.

The honest implementations and their noise are those of the seeded Reference Value. What changes is
the power: only surprisals speak, so each cheat takes more tokens, and some leave no trace. Runs no
model; what surprisals alone can tell stands in the seeded Reference Value.

    python scripts/derive_unseeded.py lydite-base

writes ``data/reference/tokens/MODEL.unseeded.json``.
"""

import argparse

import msgspec
from derive_reference import DATA

from lydite.evidence.tokens.reference import KIND, SURPRISAL, Reference, parse
from lydite.messages.canonical import encode


def main() -> None:
    """Write the Reference Value of the model that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="one that has been calibrated")
    name = parser.parse_args().model
    reference = derive(parse((DATA / f"{name}.json").read_bytes()))
    path = DATA / f"{name}.unseeded.json"
    path.write_bytes(encode(reference))
    parse(path.read_bytes())
    for one in reference.alternatives:
        print(f"{one.name:20} {one.tokens:6} tokens to 10^{one.log10_level_milli / 1000:g}")


def derive(seeded: Reference) -> Reference:
    """Return the seeded Reference Value as it reads where margins say nothing."""
    alone = tuple(a for a in seeded.alternatives if a.channels == (f"{KIND}/{SURPRISAL}",))
    return msgspec.structs.replace(seeded, sampler="none", alternatives=alone)


if __name__ == "__main__":
    main()
