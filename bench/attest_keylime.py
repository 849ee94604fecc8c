"""Keylime's own replay of a list of measured files, timed by itself: the peer of ``bench_attest``.

Runs in an environment of its own (``.tools/keylime``), knows nothing of lydite, and prints one line
of JSON. Arguments: a list as text, a runtime policy, the register in hexadecimal, and how often.
"""

import json
import logging
import sys
import time
import types
from pathlib import Path


def main() -> None:
    """Time the replay, the best of some runs, and say whether it found nothing wrong."""
    sys.modules.setdefault("gpg", types.ModuleType("gpg"))  # for signed policies, unused here
    from keylime.common import algorithms
    from keylime.ima import ima

    text, policy, register, runs = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    lines = Path(text).read_text(encoding="utf-8").split("\n")
    runtime = json.loads(Path(policy).read_text(encoding="utf-8"))
    best = float("inf")
    for _ in range(int(runs)):
        started = time.process_time()
        _, failure = ima.process_measurement_list(
            None, lines, runtime, pcrval=register, hash_alg=algorithms.Hash.SHA256
        )
        best = min(best, time.process_time() - started)
    print(json.dumps({"seconds": best, "accepted": not failure}))


if __name__ == "__main__":
    main()
