"""The page on settings says what the defaults are, and where a beacon is asked."""

import re
from pathlib import Path

import msgspec
import pytest

from lydite.gateway.draws.beacons import BeaconClient
from lydite.gateway.settings import Beacon, Health, Limits, Settings
from lydite.sampling.beacon import QUICKNET

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (Settings, "## Gateway"),
        (Limits, "### Limits"),
        (Beacon, "### Beacon"),
        (Health, "### Health"),
    ],
)
def test_the_page_tells_the_defaults_that_the_code_has(
    kind: type[msgspec.Struct], title: str
) -> None:
    section = re.split(r"\n#+ ", PAGE.read_text().partition(f"\n{title}\n")[2])[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
    plain = {
        field.name: str(field.default).strip()
        for field in msgspec.structs.fields(kind)
        if isinstance(field.default, int | str)
    }
    assert told == plain


def test_a_drand_chain_is_asked_at_its_hash() -> None:
    url = re.findall(r'^url = "(https://api\.drand\.sh/.*)"$', PAGE.read_text(), re.MULTILINE)
    client = BeaconClient(Beacon(chain=QUICKNET, url=url[0]), lambda: 0.0)
    quicknet = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
    assert client._path == f"/{quicknet}/public/"
