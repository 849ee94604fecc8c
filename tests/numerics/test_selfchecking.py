"""A self-check asks real models, ends when it knows or when its time is up, and names the cause."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from lydite.cli.main import main
from lydite.cli.passport_tables import payload
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import UnavailableError
from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.cheats.fronts import close
from lydite.laboratory.honest import HONEST
from lydite.messages import passport as passports
from lydite.messages.passport import Passport
from lydite.numerics import asking, causes, merging, prompts, reporting, selfchecking
from lydite.numerics.asking import Answer
from lydite.numerics.prompts import Question
from lydite.numerics.reporting import Context
from lydite.numerics.selfchecking import Checked, Limits
from lydite.numerics.watching import Outcome

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "lydite-small"
PROMPTS = ROOT / "data" / "reference" / "tokens" / "prompts.json"
MADE = ROOT / "data" / "reference" / "passports" / "lydite-small"
LEVEL = 1e-3
NAMES = ("bf16", "fp32")

PLANTED = {
    "wrong-rope-base": causes.ROPE,
    "off-by-one-context": causes.POSITION,
    "adapter": causes.ADAPTER,
    "early-exit": causes.LAYERS,
    "other-template": causes.TEMPLATE,
    "fp8-weights": causes.COARSER,
    "tensor-parallel-bug": causes.PARALLEL,
}
"""Regressions of the laboratory, and what a self-check calls them."""


def stored(*names: str) -> list[Passport]:
    files = (MADE / f"{name}.passport.json" for name in names)
    return [passports.parse(payload(path.read_bytes().removesuffix(b"\n"))) for path in files]


@pytest.fixture(scope="module")
def auditor() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(MODEL, "fp32", 1)
    yield engine
    engine.close()


def questions(auditor: TransformersEngine, count: int) -> list[Question]:
    known = prompts.read(PROMPTS)
    return prompts.questions(known, auditor.codec, auditor.context_length, count)


def alone() -> list[Reference]:
    """What follows from each of the stored passports by itself."""
    cheats = stored("int4")
    return [merging.merge([one], cheats, "x", LEVEL).reference for one in stored(*NAMES)]


def checked(
    auditor: TransformersEngine, name: str, count: int = 40, time_s: float = 240.0
) -> Checked:
    """Hold a provider of the laboratory against all stored passports."""
    workshop = Workshop(model=MODEL, small_model=MODEL)
    engine = (HONEST.get(name) or CHEATS[name])(workshop)
    ask = asking.in_process(engine, tapped=False)
    limits = Limits(time.monotonic() + time_s, LEVEL, 8)
    try:
        return selfchecking.check(auditor, ask, questions(auditor, count), alone(), limits)
    finally:
        close(engine)


def named(found: Checked) -> list[str]:
    return [cause.name for cause in causes.likely(found.scored, stored(*NAMES))]


def test_the_declared_model_is_inside(auditor: TransformersEngine) -> None:
    found = checked(auditor, "bf16/batch-16")
    assert found.outcome is Outcome.INSIDE
    assert found.needed is not None
    assert sum(one.tokens for one in found.scored) >= found.needed


def test_a_planted_regression_is_outside_and_named(auditor: TransformersEngine) -> None:
    found = checked(auditor, "off-by-one-context", count=16)
    assert found.outcome is Outcome.OUTSIDE
    assert named(found)[0] == causes.POSITION


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_regression_is_outside_and_its_cause_among_the_named(
    auditor: TransformersEngine, name: str
) -> None:
    found = checked(auditor, name)
    assert found.outcome is Outcome.OUTSIDE
    assert PLANTED[name] in named(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_no_honest_way_to_run_the_model_is_outside(auditor: TransformersEngine, name: str) -> None:
    assert checked(auditor, name, count=48).outcome is not Outcome.OUTSIDE


def test_a_build_that_hangs_costs_the_time_that_was_set(auditor: TransformersEngine) -> None:
    forever = threading.Event()

    def hang(_: Sequence[Question]) -> list[Answer]:
        forever.wait(60)
        return []

    began = time.monotonic()
    limits = Limits(began + 0.3, LEVEL, 8)
    found = selfchecking.check(auditor, hang, questions(auditor, 8), alone(), limits)
    forever.set()
    assert time.monotonic() - began < 20
    assert found.outcome is Outcome.UNDERPOWERED
    assert "time was up" in found.notes[0]


def test_a_build_that_fails_before_it_answers_taught_nothing(auditor: TransformersEngine) -> None:

    def fail(_: Sequence[Question]) -> list[Answer]:
        raise UnavailableError("no")

    limits = Limits(time.monotonic() + 30, LEVEL, 8)
    with pytest.raises(UnavailableError):
        selfchecking.check(auditor, fail, questions(auditor, 8), alone(), limits)


def signer() -> str:
    return (MADE / "signer.pub").read_text().strip()


def command(out: Path, *more: str) -> list[str]:
    accepted = [word for n in NAMES for word in ("--passport", str(MADE / f"{n}.passport.json"))]
    return [
        *("selfcheck", "--model", str(MODEL), "--signer", signer(), "--prompts", str(PROMPTS)),
        *accepted,
        *("--out", str(out), "--answers", "16", "--batch", "8", *more),
    ]


def test_the_command_writes_report_page_and_badge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(command(tmp_path / "out", "--plant", "early-exit", "--json"))
    said = json.loads(capsys.readouterr().out)
    assert code == 3
    assert said["outcome"] == "outside"
    assert said["crossing"]["score"] in said["channels"]
    assert said["causes"][0]["name"] == causes.LAYERS
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == said
    assert "## Likely causes" in (tmp_path / "out" / "report.md").read_text()
    assert "numerics: outside" in (tmp_path / "out" / "badge.svg").read_text()


def test_too_little_time_is_underpowered_and_a_stranger_refused(tmp_path: Path) -> None:
    assert main(command(tmp_path / "out", "--time", "0.001")) == 4
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert said["reason"] == "underpowered"
    assert "no time was left after loading" in said["notes"][0]
    assert "raise --time" in (tmp_path / "out" / "report.md").read_text()
    assert "numerics: inconclusive" in (tmp_path / "out" / "badge.svg").read_text()
    stranger = command(tmp_path / "other")
    stranger[stranger.index("--signer") + 1] = "00" * 32
    assert main(stranger) == 1


def test_a_build_that_is_not_there_is_told_before_models_are_loaded_and_left_in_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    loaded: list[object] = []
    monkeypatch.setattr(TransformersEngine, "load", loaded.append)
    words = command(tmp_path / "out", "--served", "mine", "--time", "600")
    assert main([words[0], url, *words[1:]]) == 4
    assert not loaded
    assert "is the server up?" in capsys.readouterr().out
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (said["reason"], said["answers"], said["candidate"]) == ("unavailable", 0, None)
    assert "# Self-check: inconclusive" in (tmp_path / "out" / "report.md").read_text()
    assert "numerics: inconclusive" in (tmp_path / "out" / "badge.svg").read_text()


def test_a_directory_with_an_older_report_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[object] = []
    monkeypatch.setattr(merging, "merge", worked.append)
    (tmp_path / "report.json").touch()
    assert main(command(tmp_path)) == 2
    assert not worked


def test_the_level_stands_beside_the_highest_e_value() -> None:
    scored = Checked(Outcome.UNDERPOWERED, None, 100, (), ())
    stack = stored("bf16")[0].predicate.stack
    said = reporting.report(scored, (), Context(stack, LEVEL, [], [], 1.0))
    page = reporting.markdown(msgspec.structs.replace(said, log10_e=4.569))
    assert "| highest log10 E | 4.57, outside from 3 on |" in page
