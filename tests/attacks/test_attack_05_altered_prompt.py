import msgspec
from stage import ACCUSED, answers, audit, log10_e, recorded


def test_a_hidden_system_prompt_is_accused_in_some_thousand_tokens() -> None:
    assert log10_e(recorded("cheat/injected-prompt")) >= ACCUSED


def test_an_answer_to_another_question_is_accused_at_once() -> None:
    said = answers("honest", 3)
    swapped = [
        msgspec.structs.replace(one, prompt_ids=other.prompt_ids)
        for one, other in zip(said, said[1:] + said[:1], strict=True)
    ]
    assert log10_e(audit(swapped)) >= ACCUSED
