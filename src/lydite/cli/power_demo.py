"""``lydite power demo``: sessions through a live monitor, verdicts as they form, settled ledgers.

What no sensor saw says ``synthetic``. Exit 0 if every scene ended as it should; that says nothing
of any provider.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lydite.appraisal import telemetry
from lydite.cli.files import new_directory
from lydite.economics import energy
from lydite.errors import ConfigurationError, Reason
from lydite.evidence.power import gpus, reference
from lydite.messages.plain import plain
from lydite.signing import keys

if TYPE_CHECKING:
    from lydite.laboratory.power.live import Played, Told


_WATTS = re.compile(r"\d+ W, ")
"""Watts alone that change are no news."""
ALLOW = 0.35
"""Share of the explained joules that may stay unexplained, as nothing here is calibrated."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power demo``."""
    parser.add_argument(
        "--traces",
        type=Path,
        metavar="DIR",
        help="measured traces of others (default: $LYDITE_POWER_TRACES, ../shared/power)",
    )
    parser.add_argument(
        "--excerpts", type=Path, default=Path("data/power/dev"), metavar="DIR",
        help="excerpts that may be handed on",
    )  # fmt: skip
    parser.add_argument(
        "--speed", type=float, default=60.0, metavar="TIMES", help="as recorded; 0: at once"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="leave made-up runs to try `check` on; play nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Play every scene, and return 0 if each ended as it should, else 1; or leave example runs.

    Raises:
        ConfigurationError: a folder or a speed cannot be used.
    """
    return _play(arguments) if arguments.out is None else _leave(arguments)


def _leave(arguments: argparse.Namespace) -> int:
    from lydite.laboratory.power import leaving

    with new_directory(arguments.out) as place:
        names = leaving.leave(place)
    if arguments.json:
        print(json.dumps({"directory": str(arguments.out), "files": names}))
    else:
        print(f"{len(names)} files in {arguments.out}, all synthetic: docs/power.md goes on")
    return 0


def _play(arguments: argparse.Namespace) -> int:
    from lydite.laboratory.power import live, scenes

    if not 0 <= arguments.speed <= 1e6:
        raise ConfigurationError(f"--speed {arguments.speed}: expected 0 to 1000000")
    rows: list[dict[str, Any]] = []

    def note(line: str) -> None:
        print(plain(line), file=sys.stderr if arguments.json else sys.stdout, flush=True)

    found = scenes.gather(arguments.traces, arguments.excerpts, note)
    with tempfile.TemporaryDirectory(prefix="lydite-power-") as place:
        signer = keys.create(Path(place) / "monitor.key")
        for number, scene in enumerate(found):
            note("")
            note(f"{scene.name} ({scene.origin})")
            state = Path(place) / f"segments-{number}"
            telling = Telling(note)
            played = live.play(scene, state, signer, arguments.speed, telling)
            telling.end()
            row = _outcome(played)
            rows.append(row)
            for line in row.pop("lines"):
                note(f"  {line}")
    right = all(row["as_expected"] for row in rows)
    note("")
    note(f"{sum(row['as_expected'] for row in rows)} of {len(rows)} scenes ended as they should")
    note("does not show: " + "; ".join(telemetry.CAVEATS))
    if arguments.json:
        print(json.dumps({"scenes": rows, "as_expected": right}))
    return 0 if right else 1


class Telling:
    """Says what is told when it changes, and how often it did not."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = ""
        self._again = 0

    def __call__(self, told: "Told") -> None:
        """Say it, or count it if nothing but the watts has changed."""
        parts = _WATTS.sub("", told.words).split("; ")
        words = "; ".join(dict.fromkeys(parts))
        if words == self._said:
            self._again += 1
            return
        self.end()
        self._said = words
        self._say(f"  {told.at_s:5.0f} s  {told.words}")

    def end(self) -> None:
        """Say how many segments said the same as the last line."""
        if self._again:
            self._say(f"           and {self._again} more alike")
        self._again = 0


def _outcome(played: "Played") -> dict[str, Any]:
    """Return what a scene ended in: gates or a finding, its segments, its ledger."""
    scene = played.scene
    last = played.told[-1].words if played.told else ""
    row: dict[str, Any] = {
        "name": scene.name,
        "origin": scene.origin,
        "said": [{"at_s": told.at_s, "words": told.words} for told in played.told],
        "segments": [pointer.segment for pointer in played.pointers],
        "lines": [f"{len(played.pointers)} sealed segments, each verified"],
    }
    odd = any("hashing" in told.words for told in played.told)
    if scene.claims is not None and played.finding is not None:
        known = reference.generic(gpus.find(scene.claims.gpu))
        advice = telemetry.advise(telemetry.DEFAULT, known, [played.finding])
        odd = advice.reason is Reason.TELEMETRY_MISFITS
        row["reason"] = advice.reason.value
        row["score"] = played.finding.values("score")[0] / reference.MICRO
        row["lines"].append(f"{advice.reason.value}, score {row['score']:.2f}")
        row |= _ledger(played, row["lines"])
    row["as_expected"] = odd == scene.odd and bool(last) and not played.refusal
    return row


def _ledger(played: "Played", lines: list[str]) -> dict[str, Any]:
    """Settle the run's energy, say what it came to, and return it."""
    from lydite.cli import power_ledger
    from lydite.cli.power_runs import Run

    claims = played.scene.claims
    assert claims is not None
    known = reference.generic(gpus.find(claims.gpu))
    given = Run(claims, list(played.traces), b"", ())
    ledger, rule = power_ledger.settle(given, known, ALLOW)
    lines += power_ledger.lines(ledger, rule)
    paid = sum(one.measured_uj for one in ledger.tenants)
    balanced = paid + ledger.rest_uj == ledger.measured_uj
    lines.append(f"the ledger balances to the microjoule: {'yes' if balanced else 'NO'}")
    return {
        "balanced": balanced,
        "measured_uj": ledger.measured_uj,
        "unexplained_uj": sum(one.unexplained_uj for one in ledger.gpus),
        "alarms": [one.account.name for one in energy.alarms(ledger, rule)],
    }
