"""Physical measures that no software can check: who attests each, how often, and what remains.

Somebody looks, signs and dates; this room compares dates with intervals. Whether what was signed is
true it cannot know: that is why two parties sign.
"""

import datetime
from collections.abc import Sequence
from typing import Literal

import msgspec

from lydite.errors import FormatError
from lydite.messages.canonical import UNREADABLE

Role = Literal["host", "inspector", "guards", "operator"]
"""The party verified, the party that verifies, the guard company, whoever runs the machines."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at. Both of ``by`` attest it, at least every ``days``."""

    id: str
    what: str
    purpose: str
    how: str
    by: tuple[Role, ...]
    days: int
    remains: str


MEASURES = (
    Measure(
        id="interconnect-removed",
        what="NVLink, InfiniBand and other interconnect between servers is taken out",
        purpose="a server that is alone cannot train a large model",
        how="open each server when its gateway is fitted; count cards, bridges, cables against the "
        "inventory; keep them elsewhere, sealed",
        by=("host", "inspector"),
        days=90,
        remains="links through power lines, air or software-defined radio; spare parts brought in",
    ),
    Measure(
        id="storage-removed",
        what="NVMe drives, SSDs, boot disks and removable media are taken out",
        purpose="nothing outlives a power cycle: neither weights nor gradients",
        how="open each server; compare the firmware's device list with what is seen",
        by=("host", "inspector"),
        days=90,
        remains="flash inside of controllers, firmware and management processors; battery-backed "
        "memory",
    ),
    Measure(
        id="only-the-gateway",
        what="the one data path of a server is its gateway; management ports are closed",
        purpose="no input or output passes unseen",
        how="trace each cable; seal unused ports and the management network",
        by=("host", "inspector"),
        days=30,
        remains="power modulation, heat, light and sound: a few bits a second",
    ),
    Measure(
        id="gateway-seals",
        what="gateways and recomputers are sealed, by numbered seals of both parties",
        purpose="opening a device leaves a trace, whatever its keys do",
        how="compare number and photograph of each seal with those of the last visit",
        by=("host", "inspector"),
        days=30,
        remains="seals that can be copied; who makes them; devices tampered with before sealing",
    ),
    Measure(
        id="server-seals",
        what="server cases and racks are sealed after interconnect and disks are out",
        purpose="parts do not come back",
        how="as for gateways, on a random tenth of the servers at each visit",
        by=("host", "inspector"),
        days=30,
        remains="nine in ten servers at each visit",
    ),
    Measure(
        id="cameras",
        what="cameras see every row, door and open case; recordings are kept by both parties",
        purpose="work on a machine is seen",
        how="signed streams, hash chained; a random hour watched by each party every day",
        by=("host", "inspector"),
        days=1,
        remains="angles that no camera has; pictures made by somebody else",
    ),
    Measure(
        id="guards",
        what="vetted guards at each entrance, of both parties, with a record of who came with what",
        purpose="nobody brings parts in or carries disks out",
        how="two at a time, rotating; bags and pockets searched; tools counted in and out",
        by=("guards", "inspector"),
        days=1,
        remains="guards who collude; what is small enough to swallow",
    ),
    Measure(
        id="power-sensors",
        what="analog sensors on the feeders say whether, and how hard, a cluster runs",
        purpose="off is off; work without requests shows",
        how="sealed current clamps of the inspector; held against the energy that receipts explain",
        by=("inspector", "operator"),
        days=7,
        remains="generators and batteries behind the fence; work at the level that is declared",
    ),
    Measure(
        id="radio-sensors",
        what="receivers inside find transmitters; several of them find where",
        purpose="no path around the gateways by radio",
        how="a sweep of the spectrum with a known test transmitter in a random place",
        by=("inspector",),
        days=7,
        remains="light, sound, power lines; short bursts at low power; cables laid under the floor",
    ),
    Measure(
        id="perimeter-cables",
        what="every cable through the wall is known, and has a tap of the inspector's",
        purpose="there is no link that nobody counts",
        how="walk the wall; time-domain reflectometry on dark fibre",
        by=("host", "inspector"),
        days=90,
        remains="cables that were there before the building",
    ),
    Measure(
        id="inventory",
        what="accelerators that were made and sold are accounted for, by serial number",
        purpose="there is no cluster that nobody declared",
        how="makers' and customs' records against what is seen",
        by=("host", "inspector"),
        days=180,
        remains="chips written off, stolen or made by somebody who reports to nobody",
    ),
    Measure(
        id="powered-off",
        what="clusters that are not equipped yet are switched off and locked",
        purpose="what nobody verifies does not run",
        how="feeder breakers locked by both parties; sensors as above",
        by=("host", "inspector"),
        days=7,
        remains="clusters too small to be known",
    ),
    Measure(
        id="forced-reload",
        what="power is cut and memory left without refresh for long enough to lose its content",
        purpose="a model that hid in memory is gone",
        how="the operator's log of cuts against the sensors; cold memory loses content slower",
        by=("operator", "inspector"),
        days=7,
        remains="memory with power of its own",
    ),
    Measure(
        id="supply-chain",
        what="gateways are opened at random before they are fitted, and compared with their design",
        purpose="a device is what both parties think it is",
        how="one in a hundred, drawn by both; X-ray or destructive for some of them",
        by=("host", "inspector"),
        days=90,
        remains="trojans below what is looked at",
    ),
)
"""The checklist. Intervals are proposals: a treaty may shorten them."""


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody's word that a measure was found in order on a day."""

    measure: str
    by: Role
    on: datetime.date


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A measure on a day: ``missing`` names who has not attested it within its interval."""

    id: str
    missing: tuple[Role, ...]
    due: datetime.date | None


def parse(payload: bytes) -> tuple[Attestation, ...]:
    """Parse a list of attestations.

    Raises:
        FormatError: not a JSON list of them, or about a measure that is not on the list.
    """
    try:
        found = msgspec.json.decode(payload, type=tuple[Attestation, ...])
    except UNREADABLE as error:
        raise FormatError(f"attestations: {error}") from error
    known = {measure.id for measure in MEASURES}
    for each in found:
        if each.measure not in known:
            raise FormatError(f"attestations: there is no measure {each.measure}")
    return found


def states(attested: Sequence[Attestation], today: datetime.date) -> tuple[State, ...]:
    """Return each measure as it stands: who owes an attestation, and when the next is due.

    An attestation of a later day than ``today`` counts for nothing.
    """
    return tuple(_state(measure, attested, today) for measure in MEASURES)


def _state(measure: Measure, attested: Sequence[Attestation], today: datetime.date) -> State:
    missing, due = [], []
    for role in measure.by:
        days = [a.on for a in attested if (a.measure, a.by) == (measure.id, role) and a.on <= today]
        until = max(days) + datetime.timedelta(days=measure.days) if days else None
        if until is None or until < today:
            missing.append(role)
        else:
            due.append(until)
    return State(id=measure.id, missing=tuple(missing), due=min(due) if due else None)
