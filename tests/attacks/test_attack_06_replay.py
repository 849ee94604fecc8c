import pytest
from stage import ACCUSED, answers, audit, log10_e, provider, recorded

from lydite.laboratory.cheats import POOL_SIZE


@pytest.fixture
def warmed_up() -> None:
    provider.cache_clear()  # a pool of its own for this test
    answers("replayed-answers", POOL_SIZE)


@pytest.mark.usefixtures("warmed_up")
def test_an_answer_given_to_somebody_else_before_is_accused_at_once() -> None:
    assert log10_e(audit(answers("replayed-answers", 2, first=20))) >= ACCUSED


def test_replayed_answers_are_accused_on_the_kept_scores() -> None:
    assert log10_e(recorded("cheat/replayed-answers")) >= ACCUSED
