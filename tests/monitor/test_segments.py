"""Sealed segments: nothing of a chain can be changed, left out or put in another place unseen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
    VerificationError,
)
from lydite.messages import segment
from lydite.messages.canonical import encode
from lydite.messages.sensors import Reports
from lydite.monitor import chain
from lydite.monitor.columns import Builder
from lydite.monitor.readings import Reading
from lydite.monitor.sealing import Sealer, Stretch
from lydite.signing.keys import Signer, sign_envelope

SIGNER, STRANGER = Signer(b"1" * 32), Signer(b"2" * 32)
KEY = SIGNER.public
ISSUED = "2026-01-01T00:00:00.000Z"
ZERO = 1_700_000_000_000_000


def stretch(first: int, count: int = 10, *, last: bool = False, **changed: object) -> Stretch:
    builder = Builder()
    for i in range(first, first + count):
        builder.add("GPU/0", Reading("energy_j", i * 1_000_000, float(i)))
        builder.add("GPU/0", Reading("power_instant_w", i * 1_000_000, 100.0 + i))
    one = Stretch(builder.content(), {"repeat": 3}, first * 1000, ZERO, ZERO, last, ISSUED)
    return one._replace(**changed)


def sealer(directory: Path, signer: Signer = SIGNER) -> Sealer:
    return Sealer(directory, signer, ("GPU/0",), "monotonic")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two runs of three segments, both ended on purpose."""
    place = tmp_path / "segments"
    for _ in range(2):
        one = sealer(place)
        one.begin(ZERO)
        one.report(Reports(reports=()))
        for number in range(3):
            one.seal(stretch(10 * number, last=number == 2))
        one.close()
    return place


def test_a_whole_chain_says_what_it_holds(directory: Path) -> None:
    health = chain.check(directory, KEY)
    assert (health.segments, health.samples, health.runs, health.lost) == (6, 120, 2, 0)
    assert health.counted == {"repeat": 18}
    assert health.devices == ("GPU/0",)
    assert health.unsealed is None


def flip(path: Path, place: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def edited(directory: Path, signer: Signer = SIGNER, **changed: object) -> None:
    """Seal segment 4 again, by ``signer``, saying something else."""
    path = directory / "00000004.json"
    payload = chain.open_envelope(path.read_bytes(), {SIGNER.keyid: KEY}, [SIGNER.keyid])
    one = segment.parse(payload)
    said = msgspec.structs.replace(one.predicate, **changed)
    path.write_bytes(sign_envelope(encode(msgspec.structs.replace(one, predicate=said)), signer))


Attack = Callable[[Path], None]
ATTACKS: dict[str, Attack] = {
    "a flipped bit of the samples": lambda d: flip(d / "00000002.parquet"),
    "a flipped bit of a statement": lambda d: flip(d / "00000002.json", 40),
    "samples cut short": lambda d: (d / "00000002.parquet").write_bytes(
        (d / "00000002.parquet").read_bytes()[:-100]
    ),
    "a statement cut short": lambda d: (d / "00000002.json").write_bytes(
        (d / "00000002.json").read_bytes()[:-3]
    ),
    "samples taken away": lambda d: (d / "00000002.parquet").unlink(),
    "a segment taken away": lambda d: (d / "00000002.json").unlink(),
    "the first segment taken away": lambda d: (d / "00000000.json").unlink(),
    "two segments swapped": lambda d: swap(d, 1, 2),
    "a segment in place of another": lambda d: (d / "00000005.json").write_bytes(
        (d / "00000002.json").read_bytes()
    ),
    "another's signature": lambda d: edited(d, STRANGER),
    "another count of samples": lambda d: edited(d, samples=19),
    "another device": lambda d: edited(d, devices=("GPU/1",)),
    "other times": lambda d: edited(d, from_us=11_000),
    "another place": lambda d: edited(d, index=3),
    "another segment before": lambda d: edited(d, previous="0" * 64),
    "a run that goes on after its end": lambda d: edited(d, run=run_of(d, 2)),
    "another self-check": lambda d: edited(d, selfcheck="0" * 64),
    "the self-check taken away": lambda d: next(d.glob("sensors-*.json")).unlink(),
    "a statement that does not end": lambda d: (d / "00000002.json").write_bytes(b" " * (1 << 18)),
    "more said of it": lambda d: edited(d, length=1),
}


def swap(directory: Path, a: int, b: int) -> None:
    for kind in ("json", "parquet"):
        first, second = (directory / f"{number:08d}.{kind}" for number in (a, b))
        held = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(held)


def run_of(directory: Path, index: int) -> str:
    text = chain.open_envelope(
        (directory / f"{index:08d}.json").read_bytes(), {SIGNER.keyid: KEY}, [SIGNER.keyid]
    )
    return str(json.loads(text)["predicate"]["run"])


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_no_change_of_a_chain_goes_unseen(directory: Path, attack: str) -> None:
    ATTACKS[attack](directory)
    with pytest.raises((VerificationError, FormatError)):
        chain.check(directory, KEY)


def test_the_last_segments_can_go_unseen_and_a_pointer_into_them_shows_it(directory: Path) -> None:
    end = chain.check(directory, KEY).last
    pointer = chain.pointers([end], ZERO, ZERO + 10**9)[0]
    for path in directory.glob("00000005.*"):
        path.unlink()
    assert chain.check(directory, KEY).segments == 5
    with pytest.raises(VerificationError, match="no segment of the chain"):
        chain.resolve(directory, KEY, pointer)


def test_nothing_sealed_is_nothing_learnt(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        chain.check(tmp_path, KEY)


def test_a_pointer_leads_to_the_samples_of_its_time(directory: Path) -> None:
    links = [link for link, _ in chain.walk(directory, KEY)][:3]
    (pointer, after) = chain.pointers(links, ZERO + 5_000, ZERO + 12_000)
    trace = chain.resolve(directory, KEY, pointer)["GPU/0"]
    assert trace.series["energy_j"].values.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]
    trace = chain.resolve(directory, KEY, after)["GPU/0"]
    assert trace.series["energy_j"].values.tolist() == [10.0, 11.0]
    beyond = msgspec.structs.replace(pointer, to_us=pointer.to_us + 10_000)
    with pytest.raises(VerificationError, match="leaves the times"):
        chain.resolve(directory, KEY, beyond)
    assert chain.pointers(links, 0, ZERO) == []


def test_a_run_that_was_killed_says_so_in_the_next(tmp_path: Path) -> None:
    killed = sealer(tmp_path)
    killed.begin(ZERO + 7)
    killed.seal(stretch(0))
    killed.close()  # the process is gone; open.json stays
    assert chain.check(tmp_path, KEY).unsealed == chain.Opened(run=killed.run, since_us=ZERO + 7)
    after = sealer(tmp_path)
    assert after.lost is not None
    assert (after.lost.run, after.lost.index) == (killed.run, 1)
    after.begin(ZERO + 9)
    after.seal(stretch(20))
    after.seal(stretch(30, last=True))
    after.close()
    health = chain.check(tmp_path, KEY)
    assert (health.segments, health.lost, health.unsealed) == (3, 1, None)


def test_two_kills_before_anything_was_sealed_are_told_too(tmp_path: Path) -> None:
    for _ in range(2):
        one = sealer(tmp_path)
        one.begin(ZERO)
        first = one.lost or first_lost(tmp_path)
        one.close()
    last = sealer(tmp_path)
    assert last.lost == first
    last.close()


def first_lost(directory: Path) -> segment.Lost:
    found = chain.opened(directory)
    assert found is not None
    return segment.Lost(run=found.run, index=0, since_us=found.since_us)


def test_taking_open_json_away_does_not_hide_a_kill(tmp_path: Path) -> None:
    killed = sealer(tmp_path)
    killed.begin(ZERO)
    killed.seal(stretch(0))
    killed.close()
    (tmp_path / chain.OPEN).unlink()
    after = sealer(tmp_path)
    assert after.lost is not None
    assert after.lost.run == killed.run
    after.close()


def test_a_run_that_hides_how_the_one_before_ended_is_refused(tmp_path: Path) -> None:
    killed = sealer(tmp_path)
    killed.begin(ZERO)
    link = killed.seal(stretch(0))
    killed.close()
    (tmp_path / chain.OPEN).unlink()
    liar = sealer(tmp_path)
    samples = (tmp_path / "00000000.parquet").read_bytes()
    said = msgspec.structs.replace(
        link.said, run=liar.run, index=1, previous=link.digest.hex(), lost=None
    )
    envelope = (tmp_path / "00000000.json").read_bytes()
    payload = chain.open_envelope(envelope, {SIGNER.keyid: KEY}, [SIGNER.keyid])
    statement = msgspec.structs.replace(segment.parse(payload), predicate=said)
    liar.close()
    (tmp_path / "00000001.parquet").write_bytes(samples)
    (tmp_path / "00000001.json").write_bytes(sign_envelope(encode(statement), SIGNER))
    with pytest.raises(VerificationError, match="hides how the run before it ended"):
        chain.check(tmp_path, KEY)


def test_a_torn_file_without_a_statement_is_written_over(tmp_path: Path) -> None:
    killed = sealer(tmp_path)
    killed.begin(ZERO)
    killed.seal(stretch(0))
    killed.close()
    (tmp_path / "00000001.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "00000001.json.tmp").write_bytes(b"{")
    after = sealer(tmp_path)
    after.begin(ZERO)
    after.seal(stretch(10, last=True))
    after.close()
    assert chain.check(tmp_path, KEY).segments == 2


def test_one_process_holds_a_directory(tmp_path: Path) -> None:
    one = sealer(tmp_path)
    with pytest.raises(ConfigurationError, match="in use by another process"):
        sealer(tmp_path)
    one.close()
    sealer(tmp_path).close()


@pytest.mark.parametrize("name", ["00000005.json", "00000002.json"])
def test_a_chain_of_another_key_or_with_a_hole_is_not_gone_on_with(
    directory: Path, name: str
) -> None:
    if name == "00000002.json":
        (directory / name).unlink()
    with pytest.raises(StorageError) as caught:
        sealer(directory, SIGNER if name == "00000002.json" else STRANGER)
    assert caught.value.reason is Reason.DAMAGED
    sealer(shutil.copytree(directory, directory.with_name("new"), ignore=everything)).close()


def everything(_: str, names: list[str]) -> list[str]:
    return names


def test_a_segment_without_a_sample_is_sealed_with_its_counts(tmp_path: Path) -> None:
    one = sealer(tmp_path)
    one.begin(ZERO)
    one.seal(stretch(5, 0, counted={"not-read": 40}))
    one.seal(stretch(5, 0, counted={}, last=True))
    one.close()
    health = chain.check(tmp_path, KEY)
    assert (health.samples, health.counted) == (0, {"not-read": 40})


def test_a_statement_about_something_else_is_no_segment(tmp_path: Path) -> None:
    one = sealer(tmp_path)
    one.begin(ZERO)
    one.seal(stretch(0))
    one.close()
    other = encode(Reports(reports=()))
    (tmp_path / "00000000.json").write_bytes(sign_envelope(other, SIGNER))
    with pytest.raises(LyditeError):
        chain.check(tmp_path, KEY)
