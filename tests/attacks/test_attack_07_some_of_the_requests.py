import random

from stage import ACCUSED, log10_e, recorded


def test_a_cheap_model_on_a_fifth_of_the_requests_is_accused() -> None:
    assert log10_e(recorded("cheat/mixed-20")) >= ACCUSED


def test_a_cheap_model_on_a_twentieth_of_the_requests_is_accused_too() -> None:
    dice = random.Random(1)
    honest = recorded("honest/bf16/batch-16/drawn")
    cheap = recorded("cheat/smaller-model")
    stream = [dice.choice(cheap if i % 20 == 7 else honest) for i in range(100)]
    assert log10_e(stream) >= ACCUSED


def test_a_long_honest_past_is_no_credit_for_a_later_cheat() -> None:
    dice = random.Random(3)
    past = dice.choices(recorded("honest/bf16/batch-16/drawn"), k=900)
    assert sum(len(finding.values("margin")) for finding in past) > 100_000
    assert log10_e(past + recorded("cheat/int4-weights")[:6]) >= ACCUSED
    assert log10_e(past + recorded("cheat/mixed-20")[:30]) >= ACCUSED
