"""A software TPM for each test, in a directory whose path fits into a socket's address."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lydite.tpm.commands import Tpm
from lydite.tpm.software import SoftwareTpm
from lydite.tpm.transport import connect


@pytest.fixture
def new_tpm() -> Iterator[Callable[[], SoftwareTpm]]:
    """Make started software TPMs, each another."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    made: list[tuple[SoftwareTpm, Path]] = []

    def make() -> SoftwareTpm:
        place = Path(tempfile.mkdtemp(prefix="tpm"))
        made.append((SoftwareTpm(place), place))
        return made[-1][0].start()

    yield make
    for tpm, place in made:
        tpm.stop()
        shutil.rmtree(place)


@pytest.fixture
def software(new_tpm: Callable[[], SoftwareTpm]) -> SoftwareTpm:
    return new_tpm()


@pytest.fixture
def tpm(software: SoftwareTpm) -> Iterator[Tpm]:
    with connect(software.address) as transport:
        yield Tpm(transport)
