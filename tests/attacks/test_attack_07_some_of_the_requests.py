import random

from stage import ACCUSED, log10_e, recorded


def test_a_cheap_model_on_a_fifth_of_the_requests_is_accused() -> None:
    assert log10_e(recorded("cheat/mixed-20")) >= ACCUSED


def test_a_cheap_model_on_a_twentieth_of_the_requests_is_accused_too() -> (
    None
):
    dice = random.Random(1)
    honest = recorded("honest/bf16/batch-16/drawn")
    cheap = recorded("cheat/smaller-model")
    stream = [dice.choice(cheap if i % 20 == 7 else honest) for i in range(100)]
    assert log10_e(stream) >= ACCUSED
