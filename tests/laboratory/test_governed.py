"""The governed gateway's demonstration ends well, and the log alone tells it."""

from pathlib import Path

import pytest

from lydite.laboratory import governed
from lydite.laboratory.governed import Demonstration, Options
from tests.laboratory.test_demo import ROOT


@pytest.mark.slow
@pytest.mark.outside
@pytest.mark.timeout(900)
def test_everything_that_should_be_refused_is_and_the_log_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown: list[str] = []

    def show(state: Demonstration) -> None:
        shown.append(state.doing)

    state = governed.run(Options(directory=tmp_path / "out"), show)
    assert state.right, [step for step in state.steps if not step.right]
    assert len(state.steps) == 13
    assert shown[-1] == "done"
    told = [line.text for line in state.story]
    for words in (
        "mode dark (wrong-weights",
        "mode serving",
        "refused: whitelist-add takes 2 of",
        "egress stop of session",
        "pledges epoch 1",
        "destroyed",
        "mode dark (instruction",
    ):
        assert any(words in text for text in told), words
    assert "unknown" not in {line.signer for line in state.story}
