"""``python -m tests.recomputer.bigram_recomputer FILE``: a recomputer whose model is a bigram."""

import sys
from pathlib import Path

from lydite import config
from lydite.auditor import recomputer
from lydite.auditor.bench import Bench
from lydite.auditor.settings import Recomputer
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import calibrated
from lydite.messages.declaration import Declaration

MODEL = Bigram()
REFERENCE = calibrated(MODEL)


def recompute(declared: Declaration) -> Bench | None:
    if declared.predicate.weights_root != MODEL.weights_root:
        return None
    return Bench(MODEL, (REFERENCE,))


if __name__ == "__main__":
    sys.exit(recomputer.serve(config.load(Path(sys.argv[1]), Recomputer), recompute))
