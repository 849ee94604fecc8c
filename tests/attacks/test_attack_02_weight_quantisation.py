import math

from stage import ACCUSED, answers, audit, log10_e, recorded


def test_int4_weights_are_found_out_within_500_tokens_at_the_published_level() -> None:
    assert log10_e(audit(answers("int4-weights", 8))) >= math.log10(1 / 0.005)


def test_int4_weights_are_accused_on_the_kept_scores() -> None:
    assert log10_e(recorded("cheat/int4-weights")) >= ACCUSED


def test_int8_weights_leave_no_trace_in_tokens_and_we_say_so() -> None:
    # recompute.md, section 1: the margin is blind to int8; activations are the channel for it.
    assert log10_e(recorded("cheat/int8-weights")) < ACCUSED
