"""Learn to recognise work on one kind of device, and write the Reference Value.

    python scripts/train_recognition.py --traces FOLDER --gpu "H100" --out FILE

``FOLDER`` has the schema of ``lydite.laboratory.power.traces``. Only traces that may be
redistributed are learnt from, so that the file may be. With ``--evaluation`` the others are too;
the file then says so in a word that no reader can miss, and is not to be handed on. Refuses a class
with fewer than three sessions.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from lydite.errors import LyditeError, Reason, UnavailableError
from lydite.evidence.power import arrays
from lydite.evidence.power.arrays import Arrays
from lydite.laboratory.power import experiments, traces
from lydite.laboratory.power.traces import Request, Windows

LEAST_SESSIONS = 3


def main() -> int:
    """Learn as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--gpu", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evaluation", action="store_true")
    asked = parser.parse_args()
    try:
        shards = tuple(sorted({one["shard"] for one in traces.catalogue(asked.traces)}))
        request = Request(
            gpus=tuple(asked.gpu), shards=shards, redistributable=not asked.evaluation
        )
        measured = traces.load(asked.traces, request)
        check(measured)
    except LyditeError as error:
        print(f"lydite: error: {error}", file=sys.stderr)
        return 4
    learnt = experiments.learn(measured).arrays()
    licence = "evaluation only, not to be handed on" if asked.evaluation else "redistributable"
    sessions = str(len(set(measured.session.tolist())))
    words = {
        **learnt.words,
        "devices": ",".join(asked.gpu),
        "licence": licence,
        "sessions": sessions,
        "sources": ",".join(sorted(set(measured.source.tolist()))),
    }
    kept = Arrays(words, learnt.arrays)
    asked.out.write_bytes(arrays.pack(kept))
    print(f"{asked.out}: {licence}; {sessions} sessions; sha256 {arrays.digest(kept)}")
    return 0


def check(measured: Windows) -> None:
    """Refuse a class that too few sessions show.

    Raises:
        UnavailableError: one has fewer than ``LEAST_SESSIONS``, or there is one class alone.
    """
    classes = np.unique(measured.label)
    for name in classes:
        count = len(np.unique(measured.session[measured.label == name]))
        if count < LEAST_SESSIONS or len(classes) < 2:
            raise UnavailableError(
                f"{count} sessions of {name}, of {len(classes)} classes; {LEAST_SESSIONS} sessions"
                " of two classes are the least",
                Reason.TOO_FEW_SAMPLES,
            )


if __name__ == "__main__":
    sys.exit(main())
