"""Attack 14: training over the network, behind the interface of inference. Telemetry only."""

import itertools
import random

import pytest

from lydite.evidence.egress.profile import WINDOW, Bounds, odd, profile
from lydite.laboratory.flows import TRAINING


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
