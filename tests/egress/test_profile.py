"""Traffic of chats and of batch work raises no alarm, and few exchanges say nothing."""

import itertools
import json
import random
from pathlib import Path

import pytest

from lydite.evidence.egress.profile import LEAST, WINDOW, Bounds, blob_bytes, odd, profile
from lydite.laboratory.flows import batches, chats

PROMPTS = Path(__file__).parents[2] / "data" / "reference" / "tokens" / "prompts.json"
TEXTS = [
    each.get("prompt") or each["messages"][-1]["content"]
    for each in json.loads(PROMPTS.read_text("utf-8"))
]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("source", [chats, batches])
def test_chats_and_batches_raise_no_alarm(source: object, seed: int) -> None:
    assert callable(source)
    flows = list(itertools.islice(source(random.Random(seed), TEXTS), WINDOW))
    found = profile(flows)
    assert found is not None
    assert odd(found, Bounds()) == ()


def test_few_exchanges_have_no_profile() -> None:
    flows = list(itertools.islice(chats(random.Random(1), TEXTS), LEAST - 1))
    assert profile(flows) is None


def test_blobs_are_long_runs_without_a_space() -> None:
    assert blob_bytes(b"words and words " * 100) == 0
    assert blob_bytes(b"text " + b"A" * 300 + b" text") == 300
