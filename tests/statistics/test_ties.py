import hashlib

import pytest
from scipy import stats

from lydite.errors import FormatError
from lydite.statistics.ties import uniform

DIGEST = hashlib.sha256(b"a draw").digest()


def test_anyone_derives_the_same_number_again() -> None:
    message = b"lydite/tie/v1\0pit\0" + DIGEST + (7).to_bytes(8, "big")
    word = int.from_bytes(hashlib.sha256(message).digest()[:8], "big")
    assert uniform("pit", DIGEST, 7) == (word // 4096 + 0.5) / 2**52
    assert uniform("pit", bytes(32)) == 0.3789765541149067


def test_purposes_digests_and_positions_have_numbers_of_their_own() -> None:
    asked = [
        ("pit", DIGEST, 0),
        ("pit", DIGEST, 1),
        ("conformal", DIGEST, 0),
        ("pit", bytes(32), 0),
    ]
    assert len({uniform(*what) for what in asked}) == 4


def test_the_numbers_are_uniform_and_never_0_or_1() -> None:
    numbers = [uniform("pit", DIGEST, i) for i in range(4000)]
    assert 0.0 < min(numbers) < max(numbers) < 1.0
    assert stats.kstest(numbers, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("purpose", "digest", "position"),
    [("pit", b"short", 0), ("p\0it", DIGEST, 0), ("pït", DIGEST, 0), ("pit", DIGEST, -1)],
)
def test_what_could_be_read_in_two_ways_is_refused(
    purpose: str, digest: bytes, position: int
) -> None:
    with pytest.raises(FormatError):
        uniform(purpose, digest, position)
