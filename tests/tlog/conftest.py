"""A log, a witness and their keys, all real."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness
from lydite.tlog.witness_server import Keeper

ORIGIN = "log.example/one"


@pytest.fixture
def signer() -> Signer:
    return Signer(b"log key of 32 bytes, for tests 1")


@pytest.fixture
def witness_signer() -> Signer:
    return Signer(b"witness key, 32 bytes, for tests")


@pytest.fixture
def log_key(signer: Signer) -> notes.VerifierKey:
    return notes.verifier_key(ORIGIN, signer)


@pytest.fixture
def log(tmp_path: Path, signer: Signer) -> Iterator[LogStore]:
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as store:
        yield store


@pytest.fixture
def identity(witness_signer: Signer, log_key: notes.VerifierKey) -> Witness:
    return Witness("witness.example/w", witness_signer, (log_key,))


@pytest.fixture
def clock() -> Callable[[], int]:
    """A clock that goes on by a second each time that it is read."""
    times = iter(range(1_800_000_000, 1_900_000_000))
    return lambda: next(times)


@pytest.fixture
def keeper(tmp_path: Path, identity: Witness, clock: Callable[[], int]) -> Iterator[Keeper]:
    kept = Keeper(identity, tmp_path / "witness", clock)
    yield kept
    kept.close()
