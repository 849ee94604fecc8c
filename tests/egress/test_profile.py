"""Traffic that does not look like inference raises an alarm; traffic that does raises none."""

import itertools
import json
import random
from pathlib import Path

import pytest

from lydite.evidence.egress.profile import LEAST, WINDOW, Bounds, blob_bytes, odd, profile
from lydite.laboratory.flows import TRAINING, batches, chats

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


@pytest.mark.parametrize(
    "name",
    [
        "8 KiB in base64, on a beat",
        "8 KiB in base64, jitter",
        "8 KiB in words, on a beat",
    ],
)
def test_gradients_in_messages_raise_one(name: str) -> None:
    flows = list(itertools.islice(TRAINING[name](random.Random(1)), 24))
    found = profile(flows)
    assert found is not None
    assert len(odd(found, Bounds())) >= 2


def test_gradients_that_are_small_and_slow_are_not_seen() -> None:
    """A limit that the documentation states."""
    flows = list(itertools.islice(TRAINING["1 KiB in words, jitter"](random.Random(1)), WINDOW))
    found = profile(flows)
    assert found is not None
    assert odd(found, Bounds()) == ()


def test_few_exchanges_have_no_profile() -> None:
    flows = list(itertools.islice(chats(random.Random(1), TEXTS), LEAST - 1))
    assert profile(flows) is None


def test_blobs_are_long_runs_without_a_space() -> None:
    assert blob_bytes(b"words and words " * 100) == 0
    assert blob_bytes(b"text " + b"A" * 300 + b" text") == 300
