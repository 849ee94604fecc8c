"""Long work is heard of in a log, too: now and then, and never in what is read by programs."""

import pytest

from lydite.cli.patience import EVERY_S, Bar


def test_a_log_is_told_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = [0.0]
    bar = Bar(100, lambda: now_s[0])
    for done in range(1, 26):
        now_s[0] += EVERY_S / 10
        bar.show(done, f"{done} of 100 answers")
    bar.end()
    said = capsys.readouterr()
    assert said.err.splitlines() == ["10 of 100 answers", "20 of 100 answers"]
    assert said.out == ""
