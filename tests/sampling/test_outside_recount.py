"""Other people's code agrees: drand's client on beacons, a script without lydite on draws."""

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lydite.errors import VerificationError
from lydite.sampling import beacon, draw, vrf

HERE = Path(__file__).parent
TOOLS = HERE.parents[1] / ".tools"
VECTORS = HERE.parent / "vectors" / "drand.json"

pytestmark = pytest.mark.outside


def node(script: str, question: object, *arguments: str) -> Any:
    if shutil.which("node") is None:
        pytest.skip("node: not installed")
    result = subprocess.run(
        ["node", str(HERE / script), *arguments],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def cases() -> list[dict[str, Any]]:
    """Each recorded round, and what an attacker might make of it."""
    found = []
    for chain in json.loads(VECTORS.read_text(encoding="utf-8"))["chains"]:
        info = {
            "public_key": chain["public_key"],
            "period": chain["period_s"],
            "genesis_time": chain["genesis_time_s"],
            "hash": chain["hash"],
            "schemeID": chain["scheme"],
            "metadata": {"beaconID": "default"},
        }
        for record in chain["rounds"]:
            names = ("round", "signature", "randomness", "previous_signature")
            genuine = {name: record[name] for name in names if name in record}
            found.append({"info": info, "beacon": genuine})
            later = copy.deepcopy(genuine)
            later["round"] += 1
            found.append({"info": info, "beacon": later})
            other = copy.deepcopy(genuine)
            other["randomness"] = "00" * 32
            found.append({"info": info, "beacon": other})
    return found


def ours(case: dict[str, Any]) -> bool:
    info, record = case["info"], case["beacon"]
    chain = beacon.Chain(
        name="recorded",
        scheme=beacon.Scheme(info["schemeID"]),
        public_key=info["public_key"],
        genesis_time_s=info["genesis_time"],
        period_s=info["period"],
    )
    previous = record.get("previous_signature")
    made = beacon.Round(
        number=record["round"],
        signature=bytes.fromhex(record["signature"]),
        previous_signature=None if previous is None else bytes.fromhex(previous),
        randomness=bytes.fromhex(record["randomness"]),
    )
    try:
        beacon.verify(chain, made)
    except VerificationError:
        return False
    return True


def test_drands_own_client_agrees_on_every_round() -> None:
    if not (TOOLS / "node_modules" / "drand-client").is_dir():
        pytest.skip("drand-client: not installed, run make tools")
    asked = cases()
    theirs = node("verify_drand.mjs", asked, str(TOOLS))
    assert theirs == [ours(case) for case in asked]
    assert sum(theirs) == len(asked) / 3


@pytest.mark.parametrize("rate", [10_000, 123_456])
def test_a_script_without_lydite_recounts_draw_and_committees(rate: int) -> None:
    beta = vrf.prove(bytes(range(32)), b"epoch").beta
    asked = {"beta": beta.hex(), "last": 3000, "epsilonPpm": rate, "eligible": 11, "wanted": 4}
    drawn = draw.draw(beta, 1, 3000, rate)
    theirs = node("recount.mjs", asked)
    assert theirs["drawn"] == drawn
    expected = [list(draw.committee(beta, index, range(11), 4)) for index in drawn]
    assert theirs["committees"] == expected
