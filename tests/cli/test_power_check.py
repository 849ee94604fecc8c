"""Telemetry against declared work, by command: what fits affirms nothing, what does not warns."""

import json
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("pyarrow")

from lydite.cli.main import main
from lydite.evidence.power import reference
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.trace import Trace
from lydite.messages.canonical import encode
from lydite.monitor.store import samples
from lydite.signing import keys
from tests.evidence import power_world as world
from tests.evidence.power_world import H200, LLAMA_8B, LLAMA_70B


def given(place: Path, made: Claims, traces: list[Trace]) -> list[str]:
    (place / "work.json").write_bytes(encode(made))
    words = ["power", "check", "--declared", str(place / "work.json"), "--json"]
    for number, trace in enumerate(traces):
        path = place / f"gpu-{number}.parquet"
        path.write_bytes(samples.encode(trace))
        words += ["--trace", str(path)]
    return words


def test_what_fits_ends_in_nothing_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given(tmp_path, *world.run(LLAMA_70B, LLAMA_70B))) == 4
    report = json.loads(capsys.readouterr().out)
    assert (report["tier"], report["reason"]) == ("none", "telemetry-fits")
    assert any("root" in caveat for caveat in report["caveats"])
    facts = {fact["name"]: fact["value"] for fact in report["facts"]}
    assert "memory-bound" not in facts.values()
    assert "traffic" in facts["not observed"]


def test_a_small_model_for_a_large_one_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(tmp_path, *world.run(LLAMA_70B, LLAMA_8B))
    assert main(words) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["tier"], report["reason"]) == ("warning", "telemetry-misfits")
    assert {"name": "broken", "value": "time-bound"} in report["facts"]
    words.remove("--json")
    assert main(words) == 3
    text = capsys.readouterr().out
    assert text.startswith("! telemetry does not fit the declared work")
    assert "does not show" in text


def test_findings_are_kept_for_disputes_and_raise_the_rate_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, log = tmp_path / "verifier.key", tmp_path / "disputes.jsonl"
    keys.create(key)
    rates = []
    for session in ("job 1", "job 2"):
        made, traces = world.run(LLAMA_70B, LLAMA_8B, session=session)
        words = [*given(tmp_path, made, traces), "--log", str(log), "--key", str(key)]
        assert main(words) == 3
        facts = json.loads(capsys.readouterr().out)["facts"]
        rates += [fact["value"] for fact in facts if fact["name"] == "rate of audits"]
    assert rates == ["1 %", "10 %"]
    first, second = log.read_bytes().splitlines()
    assert main(words) == 3
    assert len(log.read_bytes().splitlines()) == 3
    for damaged in (second + b"\n", first[:-9] + b"\n", first + b"\n" + first + b"\n"):
        log.write_bytes(damaged)
        assert main(words) == 1
        assert capsys.readouterr().err.startswith("lydite: error: ")


def test_a_log_of_another_key_is_refused(tmp_path: Path) -> None:
    words = given(tmp_path, *world.run(LLAMA_70B, LLAMA_70B))
    for name, code in (("one.key", 4), ("other.key", 1)):
        keys.create(tmp_path / name)
        log = ["--log", str(tmp_path / "log"), "--key", str(tmp_path / name)]
        assert main([*words, *log]) == code


def test_a_site_reference_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = given(tmp_path, *world.run(LLAMA_70B, LLAMA_70B))
    site = msgspec.structs.replace(reference.generic(H200), name="hall 3", horizons_s=(30,))
    (tmp_path / "site.json").write_bytes(encode(site))
    assert main([*words, "--site", str(tmp_path / "site.json")]) == 4
    facts = {f["name"]: f["value"] for f in json.loads(capsys.readouterr().out)["facts"]}
    assert facts["reference"].startswith("hall 3")
    assert facts["seconds"] == "30"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["--log", "log"], 2),
        (["--horizon", "61"], 1),
        (["--horizon", "600"], 4),
        (["--site", "no-such-file"], 2),
        (["--trace", "no-such-file"], 2),
    ],
)
def test_what_cannot_be_used_is_one_line_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int
) -> None:
    assert main([*given(tmp_path, *world.run(LLAMA_70B, LLAMA_70B)), *change]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lydite: error: ")


@pytest.mark.parametrize("name", ["work.json", "gpu-0.parquet"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PAR1", b"\xff" * 100])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    words = given(tmp_path, *world.run(LLAMA_70B, LLAMA_70B))
    (tmp_path / name).write_bytes(content)
    assert main(words) == 1


def test_a_trace_of_another_gpu_is_refused(tmp_path: Path) -> None:
    made, traces = world.run(LLAMA_70B, LLAMA_70B)
    other = [Trace("NVIDIA L4", traces[0].series), traces[1]]
    assert main(given(tmp_path, made, other)) == 1


def test_a_log_of_disputes_is_checked_by_the_public_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, key = tmp_path / "disputes.jsonl", keys.create(tmp_path / "verifier.key")
    for session in ("job 1", "job 2"):
        made, traces = world.run(LLAMA_70B, LLAMA_8B, session=session)
        words = [*given(tmp_path, made, traces), "--log", str(log)]
        assert main([*words, "--key", str(tmp_path / "verifier.key")]) == 3
    capsys.readouterr()
    words = ["power", "disputes", str(log), "--public", key.public.hex()]
    assert main([*words, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert {"name": "rate of audits", "value": "10 %"} in report["facts"]
    assert main(words) == 3
    assert "2 findings on provider" in capsys.readouterr().out
    assert main([*words, "--provider", "nobody"]) == 4
    assert main(["power", "disputes", str(log), "--public", "ab"]) == 2
    assert main(["power", "disputes", str(log), "--public", "00" * 32]) == 1
    assert main(["power", "disputes", str(tmp_path / "none"), "--public", "00" * 32]) == 2
    log.write_bytes(log.read_bytes().splitlines()[1] + b"\n")
    assert main(words) == 1
