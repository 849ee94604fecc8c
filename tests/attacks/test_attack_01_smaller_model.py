from stage import ACCUSED, answers, audit, log10_e


def test_a_smaller_model_is_accused_within_one_answer() -> None:
    assert log10_e(audit(answers("smaller-model", 1))) >= ACCUSED
