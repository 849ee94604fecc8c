"""A run's joules by command, and a site's reference from honest runs."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from lydite.cli.main import main
from lydite.evidence.power import reference
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.trace import Trace
from lydite.messages.canonical import encode
from lydite.monitor.store import samples
from tests.evidence import power_world as world
from tests.evidence.power_world import LLAMA_8B, LLAMA_70B


def files(place: Path, name: str, made: Claims, traces: list[Trace]) -> tuple[Path, list[Path]]:
    work = place / f"{name}.json"
    work.write_bytes(encode(made))
    paths = [place / f"{name}-{number}.parquet" for number in range(len(traces))]
    for path, trace in zip(paths, traces, strict=True):
        path.write_bytes(samples.encode(trace))
    return work, paths


def ledger(place: Path, made: Claims, traces: list[Trace], *more: str) -> list[str]:
    work, paths = files(place, "run", made, traces)
    named = [word for path in paths for word in ("--trace", str(path))]
    return ["power", "ledger", "--declared", str(work), *named, "--json", *more]


def test_the_ledger_of_an_honest_run_balances_without_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wallets = tmp_path / "wallets.json"
    wallets.write_text('{"tenant 0": 1000000000000, "tenant 1": 5}', encoding="utf-8")
    words = ledger(tmp_path, *world.run(LLAMA_70B, LLAMA_70B), "--wallets", str(wallets))
    assert main(words) == 4
    found = json.loads(capsys.readouterr().out)
    book = found["ledger"]
    paid = sum(tenant["measured_uj"] for tenant in book["tenants"])
    assert paid + book["rest_uj"] == book["measured_uj"] > 10**9
    assert sum(found["wallets"].values()) == 1000000000005 - paid
    assert found["alarms"] == []


@pytest.mark.parametrize(("watts", "missing"), [(900.0, False), (200.0, True)])
def test_joules_that_tokens_do_not_explain_and_tokens_without_joules_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], watts: float, missing: bool
) -> None:
    made, _ = world.run(LLAMA_70B, LLAMA_70B)
    words = ledger(tmp_path, made, [world.trace(watts)] * 2)
    assert main(words) == 3
    alarms = json.loads(capsys.readouterr().out)["alarms"]
    assert {one["missing"] for one in alarms} == {missing}
    assert {one["account"] for one in alarms} == {"gpu 0", "gpu 1", "tenant 0", "tenant 1"}
    words.remove("--json")
    assert main(words) == 3
    text = capsys.readouterr().out
    assert "! gpu 0: measured" in text
    assert "it accuses nobody" in text


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1.5}', '{"a": "b"}'])
def test_wallets_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    wallets = tmp_path / "wallets.json"
    wallets.write_text(content, encoding="utf-8")
    words = ledger(tmp_path, *world.run(LLAMA_70B, LLAMA_70B), "--wallets", str(wallets))
    assert main(words) == 1


def test_traces_of_other_gpus_than_declared_are_refused(tmp_path: Path) -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    assert main(ledger(tmp_path, made, traces[:1])) == 1
    assert main(ledger(tmp_path, made, traces, "--allow", "-1")) == 2


def calibration(place: Path, sessions: int) -> list[str]:
    words = ["power", "calibrate", "--name", "hall 3", "--out", str(place / "site.json"), "--json"]
    needed = world.physical(LLAMA_70B, world.load_of(8))
    for number in range(sessions):
        off = 1 + 0.01 * ((number * 7) % 5 - 2)
        made = world.claims(LLAMA_70B, 0.8 * needed.time_s * off, session=f"job {number}")
        traces = [world.trace(1.1 * needed.power_w / off)] * 2
        work, paths = files(place, f"honest-{number}", made, traces)
        words += ["--run", f"{work}={','.join(map(str, paths))}"]
    return words


def test_a_site_is_calibrated_and_then_tells_what_was_too_fine_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(calibration(tmp_path, 12)) == 0
    said = json.loads(capsys.readouterr().out)
    site = reference.parse((tmp_path / "site.json").read_bytes().removesuffix(b"\n"))
    assert said["reference"] == reference.digest(site)
    assert site.site == "hall 3"
    assert said["sessions"] == 12
    needed = world.physical(LLAMA_70B, world.load_of(8))
    for off, code in ((1.0, 4), (1.25, 3)):
        made = world.claims(LLAMA_70B, 0.8 * needed.time_s * off, session="new")
        work, paths = files(tmp_path, "new", made, [world.trace(1.1 * needed.power_w)] * 2)
        named = [word for path in paths for word in ("--trace", str(path))]
        words = ["power", "check", "--declared", str(work), *named]
        assert main([*words, "--site", str(tmp_path / "site.json")]) == code
        assert main(words) == 4  # without the calibration
        capsys.readouterr()


def test_a_calibration_of_few_sessions_is_refused(tmp_path: Path) -> None:
    assert main(calibration(tmp_path, 4)) == 1
    assert not (tmp_path / "site.json").exists()


def test_runs_of_several_kinds_of_gpu_are_refused(tmp_path: Path) -> None:
    words = calibration(tmp_path, 5)
    made, _ = world.run(LLAMA_8B, LLAMA_8B)
    text = encode(made).replace(b"NVIDIA H200", b"NVIDIA H100")
    (tmp_path / "other.json").write_bytes(text)
    trace = words[-1].partition("=")[2].split(",")[0]
    assert main([*words, "--run", f"{tmp_path / 'other.json'}={trace}"]) == 2
    assert main([*words, "--run", "nothing"]) == 2
