"""The vault keeps what it was given until it is told to destroy it, and then nobody has it."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lydite.errors import ConfigurationError, FormatError, Reason, StorageError, UnavailableError
from lydite.gateway.ledger import records
from lydite.gateway.ledger.generations import unsealed_secret
from lydite.gateway.ledger.records import HEAD_BYTES, SLOT_BYTES, Cipher, Exchange
from lydite.gateway.ledger.vault import Vault

SECRET = bytes(range(32))
ROOM = 1 << 30


def exchange(number: int, size: int = 40) -> Exchange:
    """What was said under an entry, a little different for each."""
    tag = hashlib.sha256(b"statement %d" % number).digest()
    return Exchange(
        number=number,
        receipt_id=f"{number:032x}",
        tag=tag,
        time_ms=1000 * number,
        salt=hashlib.sha256(b"salt %d" % number).digest(),
        path=b"/v1/completions",
        request=b"q%d" % number * (size // 4),
        response=(b"answer ", b"%d" % number * (size // 4)),
        status=200,
    )


def joined(found: Exchange) -> Exchange:
    return found._replace(response=(b"".join(found.response),))


def opened(directory: Path, segment_bytes: int = 500, room: int = ROOM) -> Vault:
    return Vault(directory, SECRET, room, segment_bytes)


def put(vault: Vault, *numbers: int) -> None:
    with vault.appending([exchange(number) for number in numbers]):
        pass


def holds(vault: Vault, number: int) -> bool:
    if number not in vault.live(number, number):
        with pytest.raises(UnavailableError) as gone:
            vault.read(number)
        assert gone.value.reason is Reason.DESTROYED
        return False
    return joined(vault.read(number)) == joined(exchange(number))


class Twin(RuleBasedStateMachine):
    """A vault beside a plain dict, through restarts, sweeps and failed batches."""

    @initialize(directory=st.builds(lambda: None))
    def begin(self, directory: None) -> None:
        self.directory = Path(os.environ["VAULT_TWIN"]) / os.urandom(8).hex()
        self.vault = opened(self.directory)
        self.twin: dict[int, Exchange] = {}
        self.count = 0
        self.decided = 0

    @rule(count=st.integers(1, 6), size=st.integers(0, 300))
    def append(self, count: int, size: int) -> None:
        numbers = range(self.count + 1, self.count + count + 1)
        with self.vault.appending([exchange(number, size) for number in numbers]):
            pass
        self.twin |= {number: joined(exchange(number, size)) for number in numbers}
        self.count += count

    @rule(count=st.integers(1, 3))
    def fail(self, count: int) -> None:
        numbers = range(self.count + 1, self.count + count + 1)
        with pytest.raises(RuntimeError), self.vault.appending([exchange(n) for n in numbers]):
            raise RuntimeError

    @rule()
    def skip(self) -> None:
        self.count += 1  # an entry that is no receipt

    @rule(numbers=st.lists(st.integers(1, 60), max_size=20, unique=True))
    def destroy(self, numbers: list[int]) -> None:
        there = set(numbers) & set(self.twin)
        assert self.vault.destroy(sorted(numbers)) == len(there)
        for number in there:
            del self.twin[number]

    @rule()
    def turn(self) -> None:
        self.vault.turn()

    @rule(part=st.floats(0, 1))
    def sweep(self, part: float) -> None:
        assert self.vault.sweep(int(part * self.count)) == []

    @rule(cut=st.integers(0, 2))
    def restart(self, cut: int) -> None:
        self.vault.close()
        self.vault = opened(self.directory)
        self.count = max(0, self.count - cut)
        self.vault.cut(self.count)
        self.twin = {number: each for number, each in self.twin.items() if number <= self.count}

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "vault"):
            return
        assert self.vault.live(1, 1000) == sorted(self.twin)
        for number, kept in self.twin.items():
            assert joined(self.vault.read(number)) == kept
            head = self.vault.oldest(number, 1000)
            assert head is not None
            assert (head.number, head.time_ms, head.tag) == (number, kept.time_ms, kept.tag)
        assert [head.number for head in self.vault.heads(1, 1000)] == sorted(self.twin)

    def teardown(self) -> None:
        if hasattr(self, "vault"):
            self.vault.close()
            shutil.rmtree(self.directory)


def test_a_vault_is_a_dict_that_survives_restarts(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TWIN", str(memory))
    run_state_machine_as_test(
        Twin, settings=settings(max_examples=50, stateful_step_count=30, deadline=None)
    )


# What somebody can do who has the whole disk, the secret, and old copies of the segments.


def ciphers(directory: Path) -> list[Cipher]:
    """Every key that the disk and the secret give."""
    return [
        Cipher(
            hashlib.blake2b(
                path.read_bytes() + int(path.stem).to_bytes(8),
                key=SECRET,
                digest_size=32,
                person=b"lydite/vault/v1",
            ).digest()
        )
        for path in directory.glob("*.key")
    ]


def recovered(record: bytes, disk: Path) -> bool:
    """Try every 32 bytes of the disk in the place of a record's slot, under every key."""
    places = [file.read_bytes() for file in disk.iterdir()]
    windows = {data[at : at + SLOT_BYTES] for data in places for at in range(len(data) - 31)}
    for cipher in ciphers(disk):
        for slot in windows:
            try:
                cipher.open(record[:HEAD_BYTES] + slot + record[HEAD_BYTES + SLOT_BYTES :])
            except StorageError:
                continue
            return True
    return False


def record_of(directory: Path, number: int) -> bytes:
    """The bytes of an entry's record, as somebody copied them in time."""
    for path in sorted(directory.glob("0*.rolling")) + sorted(directory.glob("0*.kept")):
        data = path.read_bytes()
        for at in range(len(data) - HEAD_BYTES):
            head = records.parse_head(data[at : at + HEAD_BYTES])
            if head is not None and head.number == number:
                return data[at : at + head.record_bytes]
    raise AssertionError(f"no record of entry {number}")


def test_a_destroyed_pair_cannot_be_read_with_the_disk_and_the_secret(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    put(vault, 1, 2, 3)
    copies = {number: record_of(tmp_path, number) for number in (1, 2, 3)}
    assert recovered(copies[2], tmp_path)
    vault.destroy([1, 2])
    assert not recovered(copies[2], tmp_path)
    assert recovered(copies[3], tmp_path)
    assert [holds(vault, number) for number in (1, 2, 3)] == [False, False, True]


def test_after_a_sweep_not_even_an_old_copy_of_the_whole_segment_helps(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    put(vault, 1, 2, 3)
    copies = {number: record_of(tmp_path, number) for number in (1, 2, 3)}
    vault.turn()
    put(vault, 4)
    vault.destroy([1, 2])
    assert vault.sweep(3) == []
    ours = ciphers(tmp_path)
    for copy in copies.values():  # slot and all: the generation's key is gone
        for cipher in ours:
            with pytest.raises(StorageError):
                cipher.open(copy)
    assert [holds(vault, number) for number in (1, 2, 3, 4)] == [False, False, True, True]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        ".kept",
        ".key",
        ".key",
        ".rolling",
    ]


def test_a_record_belongs_to_its_entry_its_receipt_and_its_statement() -> None:
    cipher = Cipher(bytes(32))
    record = cipher.seal(exchange(7), bytes(range(1, 33)))
    assert joined(cipher.open(record)) == joined(exchange(7))
    for other in (
        exchange(8),
        exchange(7)._replace(receipt_id="f" * 32),
        exchange(7)._replace(tag=bytes(32)),
        exchange(7)._replace(time_ms=1),
    ):
        head = cipher.seal(other, bytes(range(1, 33)))[:HEAD_BYTES]
        with pytest.raises(StorageError):
            cipher.open(head + record[HEAD_BYTES:])


# What a crash may leave.


def test_a_tail_torn_at_any_byte_loses_only_what_was_not_acknowledged(memory: Path) -> None:
    vault = opened(memory / "whole", 10_000)
    put(vault, 1, 2)
    whole = vault.size_bytes
    put(vault, 3)
    end = vault.size_bytes
    vault.close()
    for cut in range(whole, end):
        directory = memory / str(cut)
        shutil.copytree(memory / "whole", directory)
        path = next(each for each in directory.glob("*.rolling"))
        path.write_bytes(path.read_bytes()[:cut])
        again = opened(directory)
        again.cut(2)
        assert again.live(1, 9) == [1, 2]
        assert path.stat().st_size == whole
        put(again, 3)
        assert [holds(again, number) for number in (1, 2, 3)] == [True] * 3
        again.close()
        shutil.rmtree(directory)


def test_a_slot_half_overwritten_is_finished_and_never_read(tmp_path: Path) -> None:
    vault = opened(tmp_path, 10_000)
    put(vault, 1, 2, 3)
    vault.close()
    path = next(tmp_path.glob("*.rolling"))
    slot = path.read_bytes().index(record_of(tmp_path, 2)) + HEAD_BYTES
    for written in range(1, SLOT_BYTES + 1):
        data = bytearray(path.read_bytes())
        data[slot : slot + written] = bytes(written)
        path.write_bytes(data)
        again = opened(tmp_path)
        again.cut(3)
        with pytest.raises((StorageError, UnavailableError)):
            again.read(2)
        assert holds(again, 1)
        assert holds(again, 3)
        again.destroy([2])
        assert again.live(1, 3) == [1, 3]
        again.close()


@pytest.mark.parametrize("written", [0, 1, 16, 31, 32])
def test_a_sweep_killed_between_copy_and_removal_keeps_exactly_one(
    tmp_path: Path, written: int
) -> None:
    """The copy is there, and the old slot is overwritten in part."""
    vault = opened(tmp_path / "before", 10_000)
    put(vault, 1, 2, 3)
    vault.turn()
    vault.destroy([1])
    vault.close()
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    swept = opened(tmp_path / "after")
    swept.sweep(3)
    swept.close()
    mixed = tmp_path / "mixed"
    shutil.copytree(tmp_path / "before", mixed)
    for path in (tmp_path / "after").iterdir():
        shutil.copy(path, mixed / path.name)
    old = next(path for path in sorted(mixed.glob("*.rolling")) if path.stat().st_size > 100)
    data = bytearray(old.read_bytes())
    slot = data.index(record_of(tmp_path / "before", 2)) + HEAD_BYTES
    data[slot : slot + written] = bytes(written)
    old.write_bytes(data)
    again = opened(mixed)
    again.cut(3)
    assert again.live(1, 9) == [2, 3]
    assert [holds(again, number) for number in (1, 2, 3)] == [False, True, True]
    assert again.destroy([2]) == 1
    again.sweep(3)
    again.close()
    last = opened(mixed)
    assert last.live(1, 9) == [3]
    assert holds(last, 3)


def test_many_small_remainders_are_made_one(memory: Path) -> None:
    """Else a gateway with frequent epochs would have a file and a key for each of them."""
    vault = opened(memory, 20_000)
    for number in range(1, 201):
        put(vault, 2 * number - 1, 2 * number)
        vault.turn()
        vault.destroy([2 * number])
        assert vault.sweep(2 * number) == []
        assert len(list(memory.glob("*.kept"))) < 40
    assert len(list(memory.glob("*.key"))) < 42
    assert vault.live(1, 400) == list(range(1, 400, 2))
    assert all(holds(vault, number) for number in range(1, 400, 2))
    before = vault.size_bytes
    vault.close()
    again = opened(memory, 20_000)
    assert again.live(1, 400) == list(range(1, 400, 2))
    assert before <= again.size_bytes <= before + 100


def test_a_segment_cut_at_its_birth_is_forgotten(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    put(vault, 1)
    vault.close()
    (tmp_path / "00000099.rolling").write_bytes(b"lydite")
    (tmp_path / "00000099.new").write_bytes(b"half a key")
    again = opened(tmp_path)
    assert again.live(1, 9) == [1]
    assert not (tmp_path / "00000099.rolling").exists()
    assert not (tmp_path / "00000099.new").exists()


def test_a_pair_that_the_disk_changed_is_never_handed_out(tmp_path: Path) -> None:
    vault = opened(tmp_path, 10_000)
    put(vault, 1, 2)
    path = max(tmp_path.glob("*.rolling"), key=lambda each: each.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        vault.read(2)
    assert holds(vault, 1)
    vault.turn()
    assert vault.sweep(2) == [2], "its loss has to be told"
    assert vault.live(1, 2) == [1]


def test_a_vault_without_its_key_or_with_another_secret_is_an_error(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    put(vault, 1)
    vault.close()
    stranger = Vault(tmp_path, bytes(32), ROOM)
    with pytest.raises(StorageError, match="damaged"):
        stranger.read(1)
    stranger.close()
    for path in tmp_path.glob("*.key"):
        path.unlink()
    with pytest.raises(StorageError, match="no key"):
        opened(tmp_path).read(1)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Vault(tmp_path, b"short", ROOM)


# Bounds.


def test_a_full_vault_refuses_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    vault = opened(tmp_path, 500, room=2_000)
    number = next(each for each in range(1, 99) if vault.size_bytes > 1_600 or put(vault, each))
    with pytest.raises(StorageError) as refused:
        put(vault, number, number + 1, number + 2)
    assert refused.value.reason is Reason.VAULT_FULL
    assert vault.size_bytes <= 2_000
    number -= 1
    assert vault.live(1, 99) == list(range(1, number + 1))
    vault.turn()
    vault.destroy(range(1, number))
    vault.sweep(number)
    put(vault, number + 1)
    assert vault.live(1, 99) == [number, number + 1]


def test_a_pair_larger_than_a_record_is_refused(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    with (
        pytest.raises(FormatError) as refused,
        vault.appending([exchange(1)._replace(path=b"/" * 70_000)]),
    ):
        pass
    assert refused.value.reason is Reason.TOO_LARGE


def test_an_empty_answer_and_an_empty_batch_are_as_good_as_any(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    empty = exchange(1)._replace(request=b"", response=())
    with vault.appending([empty]):
        pass
    assert vault.read(1).response == (b"",)
    before = vault.size_bytes
    with vault.appending([]):
        pass
    assert vault.size_bytes == before


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(100, 999))
def test_an_opening_is_the_canonical_one(request_body: bytes, answer: bytes, status: int) -> None:
    cipher = Cipher(bytes(32))
    whole = exchange(5)._replace(request=request_body, response=(answer,), status=status)
    opening = records.opening_of(cipher.open(cipher.seal(whole, bytes(range(32)))))
    assert opening.request_bytes() == request_body
    assert opening.response_bytes() == answer
    assert (opening.status, opening.path) == (status, "/v1/completions")


def test_the_unsealed_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vault.secret"
    secret = unsealed_secret(path)
    assert len(secret) == 32
    assert unsealed_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod"):
        unsealed_secret(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="32"):
        unsealed_secret(path)


def test_nothing_of_a_secret_shows(tmp_path: Path) -> None:
    assert repr(Cipher(bytes(32))) == "Cipher()"


def test_a_pair_costs_a_few_microseconds(tmp_path: Path) -> None:
    """The budget is 6 us of processor time for 1 KB; a busy machine gets three times that."""
    vault = Vault(tmp_path, SECRET, ROOM)
    took_s = []
    for start in range(1, 6001, 2000):
        batch = [exchange(number, 600) for number in range(start, start + 2000)]
        started = time.thread_time()
        with vault.appending(batch):
            pass
        took_s.append((time.thread_time() - started) / len(batch))
    assert min(took_s) < 18e-6
