import msgspec
import pytest
from stage import ACCUSED, SUSPECTED, answers, audit, judged, log10_e, reseeded

from lydite.errors import Reason
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.tier import Tier

LONG = Sampling(max_tokens=128)


def test_another_seed_is_accused_within_one_answer() -> None:
    assert log10_e(audit(reseeded(answers("honest", 1)))) >= ACCUSED


def test_another_temperature_is_accused_within_a_few_answers() -> None:
    assert log10_e(audit(answers("other-temperature", 4))) >= ACCUSED


def test_a_filter_that_nobody_asked_for_is_accused_within_a_few_answers() -> None:
    said = answers("honest", 4, Sampling(top_p=0.85, max_tokens=64))
    asked = [msgspec.structs.replace(one, sampling=Sampling(max_tokens=64)) for one in said]
    assert log10_e(audit(asked)) >= ACCUSED


def test_greedy_answers_where_draws_were_asked_for_are_accused_at_once() -> None:
    said = answers("honest", 1, Sampling(temperature=0.0, max_tokens=64))
    asked = [msgspec.structs.replace(one, sampling=Sampling(max_tokens=64)) for one in said]
    assert log10_e(audit(asked)) >= ACCUSED


def test_an_engine_that_ignores_the_seed_is_misconfigured_once_another_model_is_excluded() -> None:
    findings = audit(reseeded(answers("honest", 6, LONG)))
    for count in range(1, 7):
        verdict = judged(findings[:count])
        found = (verdict.tier, verdict.reason)
        enough = sum(len(one.values("surprisal")) for one in findings[:count]) >= 630
        if enough:
            assert found == (Tier.WARNING, Reason.SEED_IGNORED)
        else:
            assert found == (Tier.NONE, Reason.UNDERPOWERED)


def test_other_samplings_with_the_seed_are_inconsistent_not_misconfigured() -> None:
    assert judged(audit(answers("other-temperature", 4))).tier is Tier.CONTRAINDICATED
    said = answers("honest", 6, Sampling(top_p=0.85, max_tokens=64))
    asked = [msgspec.structs.replace(one, sampling=Sampling(max_tokens=64)) for one in said]
    assert judged(audit(asked)).tier is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=64),
        Sampling(temperature=0.8, top_p=0.95, max_tokens=64),
        Sampling(temperature=0.6, top_p=0.8, max_tokens=64),
        Sampling(temperature=0.6, top_k=40, max_tokens=64),
    ],
)
def test_an_honest_provider_is_not_even_suspected(sampling: Sampling) -> None:
    assert log10_e(audit(answers("honest", 3, sampling, first=40))) < SUSPECTED
