"""Notes that say nothing readable are counted by name, charged in full, and stop nothing."""

import base64
from pathlib import Path

import msgspec
import pytest
import torch

from lydite.auditor.meter import Meter, Scale, work
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import Reason
from lydite.evidence.egress.claims import Outflow
from lydite.evidence.egress.reference import Reference, parse
from lydite.messages import egress, opening
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt
from lydite.messages.egress import ScorePredicate
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models" / "lydite-small"


@pytest.fixture(scope="module")
def measured() -> Reference:
    return parse((ROOT / "data" / "reference" / "egress" / "lydite-small.json").read_bytes())


@pytest.fixture(scope="module")
def scale(measured: Reference) -> Scale:
    torch.set_num_threads(1)
    return Scale(TransformersEngine.load(SMALL, "bf16", 1), measured)


class LyingGateway:
    """Says of each answer what it likes; takes scores."""

    def __init__(self, *openings: str) -> None:
        self.notes = {
            number: Outflow(
                entry=number,
                receipt_id=f"{number:032x}",
                session="s",
                received_s=1,
                completed_s=2,
                opening=said,
            )
            for number, said in enumerate(openings, 1)
        }
        self.scores: dict[int, ScorePredicate] = {}

    def unscored(self) -> list[int]:
        return [number for number in self.notes if number not in self.scores]

    def outflow(self, entry: int) -> Outflow:
        return self.notes[entry]

    def score(self, envelope: bytes) -> None:
        said = egress.parse_score(payload_of(msgspec.json.decode(envelope, type=Envelope)))
        self.scores[said.predicate.entry] = said.predicate


def refused(salt: str | None = None, response: str | None = None) -> str:
    """The note of an answer with an error, or of one that no gateway writes."""
    made = opening.make("0" * 32, Salt(b"s" * 32), b"/v1/completions", b"{}", b"sorry", 500)
    changes = {"salt": salt or made.salt, "response": response or made.response}
    return base64.b64encode(encode(msgspec.structs.replace(made, **changes))).decode()


MALFORMED = ("A", "not base64!", "\N{SNOWMAN}", "", "AAAA", refused(response="A"))


@pytest.mark.parametrize("said", MALFORMED)
def test_a_malformed_opening_is_charged_in_full_and_stops_nothing(
    scale: Scale, measured: Reference, said: str
) -> None:
    gateway = LyingGateway(refused(), said, refused())
    meter = Meter(gateway, scale, measured, Signer(b"m" * 32))
    assert meter.round() == 3
    assert gateway.unscored() == []
    assert gateway.scores[2].micro_bits == 8_000_000 * len(said)
    assert gateway.scores[2].finding.reason is not Reason.UPSTREAM_FAILED
    assert meter.skipped == {
        Reason.UPSTREAM_FAILED: 2,
        gateway.scores[2].finding.reason: 1,
    }


def test_the_meter_says_how_many_it_could_not_read(scale: Scale, measured: Reference) -> None:
    meter = Meter(LyingGateway(refused(), "A"), scale, measured, Signer(b"m" * 32))
    (line,) = work([("here", meter)], 0.0, once=True)
    assert "2 answers scored, 2 of them by their size" in line
