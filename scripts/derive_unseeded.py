"""Derive the Reference Value for engines whose draws no seed of ours repeats, such as vLLM.

The honest implementations and their noise are those of the seeded Reference Value. What changes is
the power: only surprisals speak, so each cheat takes more tokens, and some leave no trace. Runs no
model; everything follows from the scores that ``calibrate_tokens.py`` kept.

    python scripts/derive_unseeded.py lydite-base

writes ``data/reference/tokens/MODEL.unseeded.json``.
"""

import argparse
import math
import random
from collections.abc import Iterator

import msgspec
import numpy as np
from derive_reference import DATA, LEVEL_MILLI, ONSET, STREAMS, Raw, answers_of, names, resampled

from lydite.evidence.tokens.reference import SURPRISAL, Alternative, Reference, parse
from lydite.laboratory.streams import seed_of
from lydite.messages.canonical import encode
from lydite.statistics import betting
from lydite.statistics.power import first_crossing, tokens_for_power


def main() -> None:
    """Write the Reference Value of the model that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="one that has been calibrated")
    name = parser.parse_args().model
    with np.load(DATA / f"{name}.npz") as kept:
        reference = derive(name, dict(kept))
    path = DATA / f"{name}.unseeded.json"
    path.write_bytes(encode(reference))
    parse(path.read_bytes())
    for one in reference.alternatives:
        print(f"{one.name:20} {one.tokens:6} tokens to 10^{one.log10_level_milli / 1000:g}")


def derive(name: str, raw: Raw) -> Reference:
    """Return the seeded Reference Value as it reads where margins say nothing."""
    seeded = parse((DATA / f"{name}.json").read_bytes())
    found = tuple(alternatives(name, raw, seeded.drift_micro))
    return msgspec.structs.replace(seeded, sampler="none", alternatives=found)


def alternatives(name: str, raw: Raw, drift_micro: int) -> Iterator[Alternative]:
    """Yield for every cheat how many tokens find it out by surprisal alone, if any number does."""
    level = LEVEL_MILLI / 1000 * math.log(10) + ONSET
    for cheat in names(raw, "cheat"):
        answers = answers_of(raw, f"cheat/{cheat}")
        dice = random.Random(seed_of("power without seed", name, cheat))
        crossings = []
        for _ in range(STREAMS):
            stream = [v for answer in resampled(answers, dice) for v in answer.values(SURPRISAL)]
            crossings.append(first_crossing(betting.running(stream, drift_micro), level))
        tokens = tokens_for_power(crossings)
        if tokens is not None:
            yield Alternative(name=cheat, log10_level_milli=LEVEL_MILLI, tokens=tokens)


if __name__ == "__main__":
    main()
