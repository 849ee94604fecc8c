"""A campaign is planned whole, rehearses on a CPU, resumes, and comes in as traces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

from lydite.errors import FormatError, Reason
from lydite.monitor.importing.campaign import traces

CAMPAIGN = Path(__file__).parents[2] / "campaign"
PLANS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import workloads
print(json.dumps([
    {"lease": part[0], "part": part, "name": block.name, "seconds": block.seconds, **block.labels}
    for parts in workloads.PARTS.values() for part in parts
    for block in workloads.plan(part[0], part, 1, False)
], default=str))
"""


@pytest.fixture(scope="module")
def blocks() -> list[dict[str, object]]:
    result = subprocess.run(
        [sys.executable, "-c", PLANS, str(CAMPAIGN)], capture_output=True, text=True, check=True
    )
    return list(json.loads(result.stdout))


def rehearse(out: Path, *more: str) -> dict[str, object]:
    command = [sys.executable, str(CAMPAIGN / "campaign.py"), "--lease", "A", "--part", "A0,A1"]
    command += ["--seconds", "120", "--out", str(out), "--dry-run", *more]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    return dict(json.loads((out / "manifest.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lease")
    rehearse(out, "--only", "idle-context,mine-sha*")
    return out


def test_the_plan_has_what_the_signature_database_asks_for(
    blocks: list[dict[str, object]],
) -> None:
    def values(key: str) -> set[object]:
        return {block.get(key) for block in blocks}

    decoders = {b["family"] for b in blocks if b["workload"] == "llm-inference"}
    assert len(decoders | {"vit-l", "resnet-50", "SDXL-like UNet"}) >= 10
    assert {"none", "fp8", "int8", "int4"} <= values("quant")
    assert {"bf16", "fp16"} <= values("dtype")
    assert {"mining", "training", "idle", "gemm", "media", "diffusion"} <= values("workload")
    assert {"SHA-256d", "Ethash-like", "KawPow-like"} <= values("family")
    assert len(values("adversary") - {None}) >= 8
    assert len({b["batch"] for b in blocks if b["workload"] == "llm-inference"}) >= 6


def test_every_part_of_the_first_lease_fits_into_a_command(
    blocks: list[dict[str, object]],
) -> None:
    for part in ("A2", "A3", "A4"):
        seconds = sum(float(str(b["seconds"])) for b in blocks if b["part"] == part)
        assert seconds <= 560, part


def test_a_rehearsal_measures_what_it_plans_and_comes_in_as_synthetic(folder: Path) -> None:
    found = {one.labels["block"]: one for one in traces(folder)}
    assert set(found) == {"idle-context", "mine-sha256d"}
    miner = found["mine-sha256d"]
    assert miner.labels["workload"] == "mining"
    assert miner.labels["session"] == "A"
    assert miner.origin.synthetic
    assert not miner.origin.redistribute
    assert {"power_instant_w", "power_average_w", "energy_j"} <= set(miner.trace.series)
    assert miner.marks[0].name == "start"


def test_a_campaign_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    manifest = rehearse(
        tmp_path, "--only", "idle-context,mine-sha*", "--resume", str(folder / "manifest.json")
    )
    assert manifest["order"] == []
    assert manifest["status"] == "complete"


def test_what_is_not_the_manifests_does_not_come_in(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "power.parquet").write_bytes((folder / "power.parquet").read_bytes()[:-9])
    with pytest.raises(FormatError) as caught:
        list(traces(tmp_path))
    assert caught.value.reason is Reason.DAMAGED
    (tmp_path / "power.parquet").unlink()
    with pytest.raises(FormatError, match="missing"):
        list(traces(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(FormatError):
        list(traces(tmp_path))
