"""A cheap model writes; the declared one only reads it and reports perfect log-probabilities."""

import json

import numpy as np
from stage import ACCUSED, answers, audit, auditor, judged, log10_e, reseeded

from lydite.errors import Reason
from lydite.evidence.tokens.claims import Claims, claims, from_exchange
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.tier import Tier


def body_with_true_logprobs(written: Claims) -> bytes:
    """An answer whose log-probabilities are exactly those of the declared model."""
    logits = auditor().logits(written.prompt_ids, written.output_ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    true = [float(row[token]) for row, token in zip(logprobs, written.output_ids, strict=True)]
    choice = {
        "index": 0,
        "text": auditor().codec.decode(written.output_ids),
        "token_ids": list(written.output_ids),
        "logprobs": {"token_logprobs": true},
        "finish_reason": "length",
    }
    return json.dumps({"choices": [choice]}).encode()


def test_log_probabilities_of_the_declared_model_do_not_save_a_cheaper_writer() -> None:
    written = answers("smaller-model", 1, first=60)[0]
    request = json.dumps({"prompt": list(written.prompt_ids), "max_tokens": 64}).encode()
    exchange = from_exchange("/v1/completions", request, body_with_true_logprobs(written))
    claimed = claims(exchange, written.prompt_ids, written.seed)
    assert log10_e(audit([claimed])) >= ACCUSED


def test_a_cheaper_writer_that_uses_the_seed_is_inconsistent_within_a_few_answers() -> None:
    assert judged(audit(answers("prefilled", 6))).reason is Reason.INCONSISTENT_TOKENS


def test_one_that_ignores_it_is_never_excused_and_inconsistent_once_surprisals_tell() -> None:
    findings = audit(reseeded(answers("prefilled", 10, Sampling(max_tokens=128))))
    verdicts = [judged(findings[:count]) for count in range(1, len(findings) + 1)]
    assert verdicts[0].tier is Tier.NONE
    assert verdicts[-1].reason is Reason.INCONSISTENT_TOKENS
    assert Tier.AFFIRMING not in {verdict.tier for verdict in verdicts}
