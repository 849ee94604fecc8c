"""A cheap model writes; the declared one only reads it and reports perfect log-probabilities."""

import json

import numpy as np
from stage import ACCUSED, answers, audit, auditor, log10_e

from lydite.evidence.tokens.claims import Claims, claims, from_exchange


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
