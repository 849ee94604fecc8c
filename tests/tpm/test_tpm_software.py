"""Against a real software TPM: sealing, counting, and what a stranger on the bus learns."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lydite.errors import ConfigurationError, DeviceError, Reason, SealError
from lydite.tpm import codec, counter, objects, sealing
from lydite.tpm.commands import Tpm, permanent
from lydite.tpm.counter import Counter
from lydite.tpm.objects import Blob
from lydite.tpm.sessions import Password
from lydite.tpm.software import SoftwareTpm
from lydite.tpm.transport import Transport, connect

pytestmark = pytest.mark.outside
SECRET, VALUE = b"a secret of thirty-two bytes ....", b"what authorises the counter ...."


class Bus:
    """Listens on the way to a TPM, and changes one byte of one answer if told to."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.managed = transport.managed
        self.heard = b""
        self.twist: tuple[int, int] | None = None

    def transmit(self, command: bytes) -> bytes:
        answer = bytearray(self._transport.transmit(command))
        self.heard += command + answer
        if self.twist is not None and int.from_bytes(command[6:10], "big") == self.twist[0]:
            answer[self.twist[1]] ^= 1
        return bytes(answer)

    def close(self) -> None:
        self._transport.close()


def test_registers_are_extended_and_reset_as_computed(tpm: Tpm) -> None:
    tpm.pcr_reset(23)
    tpm.pcr_extend(23, b"\1" * 32)
    tpm.pcr_extend(23, b"\2" * 32)
    found = tpm.pcr_read(range(24))
    once = hashlib.sha256(bytes(32) + b"\1" * 32).digest()
    assert found[23] == hashlib.sha256(once + b"\2" * 32).digest()
    assert found[23] == sealing.extended(bytes(32), b"\1" * 32, b"\2" * 32)
    assert list(found) == list(range(24))
    assert (found[0], found[17]) == (bytes(32), b"\xff" * 32)
    with pytest.raises(DeviceError) as caught:
        tpm.pcr_reset(7)
    assert caught.value.reason is Reason.TPM_REFUSED


@pytest.mark.parametrize("pcrs", [(0,), (23,), (0, 1, 2, 3, 4, 5, 6, 7, 10, 23), tuple(range(24))])
def test_the_policy_computed_by_hand_is_the_tpms(tpm: Tpm, pcrs: tuple[int, ...]) -> None:
    tpm.pcr_extend(23, b"\3" * 32)
    with tpm.policy_session(trial=True) as session:
        tpm.policy_pcr(session, pcrs)
        assert tpm.policy_digest(session) == sealing.policy_of(tpm.pcr_read(pcrs))


def test_the_name_of_a_key_is_the_digest_of_its_public_area(tpm: Tpm) -> None:
    primary = objects.create_primary(tpm)
    with tpm.loaded(primary.handle.number):
        public, name = objects.read_public(tpm, primary.handle.number)
    assert name == primary.handle.name == codec.u16(codec.SHA256) + hashlib.sha256(public).digest()
    again = objects.create_primary(tpm)
    tpm.flush(again.handle.number)
    assert again.point == primary.point, "the same key for as long as the seed"


def test_randomness_and_properties(tpm: Tpm) -> None:
    assert len({tpm.random(16) for _ in range(8)}) == 8
    assert tpm.property(0x105) == int.from_bytes(b"IBM\0", "big")


def test_a_secret_opens_where_the_registers_are_as_sealed_and_nowhere_else(
    software: SoftwareTpm, new_tpm: Callable[[], SoftwareTpm]
) -> None:
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        blob = sealing.seal(tpm, SECRET, tpm.pcr_read([0, 7, 23]))
        assert sealing.unseal(tpm, blob, (7, 0, 23)) == SECRET
        for pcrs in ((0, 7), (0, 1, 23), (7, 23)):
            with pytest.raises(SealError) as caught:
                sealing.unseal(tpm, blob, pcrs)
            assert caught.value.reason is Reason.PLATFORM_CHANGED
        tpm.pcr_extend(7, b"\1" * 32)
        with pytest.raises(SealError):
            sealing.unseal(tpm, blob, (0, 7, 23))
    software.stop()
    with software, connect(software.address) as transport:  # a boot
        assert sealing.unseal(Tpm(transport), blob, (0, 7, 23)) == SECRET
    with connect(new_tpm().address) as transport, pytest.raises(SealError) as caught:
        sealing.unseal(Tpm(transport), blob, (0, 7, 23))
    assert caught.value.reason is Reason.OTHER_TPM


def test_a_sealed_secret_opens_by_no_password(tpm: Tpm) -> None:
    blob = sealing.seal(tpm, SECRET, tpm.pcr_read([0]))
    parent = objects.create_primary(tpm)
    sealed = objects.load(tpm, parent, blob)
    with pytest.raises(DeviceError, match="auth-unavailable"):
        tpm.run(0x15E, [sealed], b"", [Password()])


@pytest.mark.parametrize("part", ["public", "private"])
def test_an_altered_blob_does_not_load(tpm: Tpm, part: str) -> None:
    blob = sealing.seal(tpm, SECRET, tpm.pcr_read([0]))
    content = getattr(blob, part)
    for place in range(0, len(content), 7):
        bad = bytearray(content)
        bad[place] ^= 0x10
        with pytest.raises((SealError, DeviceError)):
            sealing.unseal(tpm, Blob(**{**blob._asdict(), part: bytes(bad)}), (0,))
    assert sealing.unseal(tpm, blob, (0,)) == SECRET


def test_who_listens_on_the_bus_hears_no_secret(software: SoftwareTpm) -> None:
    with connect(software.address) as transport:
        bus = Bus(transport)
        tpm = Tpm(bus)
        blob = sealing.seal(tpm, SECRET, tpm.pcr_read([0]))
        assert sealing.unseal(tpm, blob, (0,)) == SECRET
        made = Counter.create(tpm, VALUE)
        made.increment(tpm)
        made.read(tpm)
        assert SECRET not in bus.heard
        assert VALUE not in bus.heard
        assert sealing.policy_of({0: bytes(32)}) in bus.heard, "it does listen"


def test_an_answer_that_was_changed_on_the_way_is_not_believed(software: SoftwareTpm) -> None:
    with connect(software.address) as transport:
        bus = Bus(transport)
        tpm = Tpm(bus)
        blob = sealing.seal(tpm, SECRET, {0: bytes(32)})
        made = Counter.create(tpm, VALUE)
        # header 10, parameter size 4, then 2B: the secret, the counter's number
        bus.twist = (0x15E, 20)
        with pytest.raises(DeviceError) as caught:
            sealing.unseal(tpm, blob, (0,))
        assert caught.value.reason is Reason.BAD_SIGNATURE
        bus.twist = (0x14E, 23)
        with pytest.raises(SealError) as lost:
            made.read(tpm)
        assert lost.value.reason is Reason.COUNTER_LOST


def test_a_counter_goes_up_one_by_one_and_survives_boots(software: SoftwareTpm) -> None:
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        made = Counter.create(tpm, VALUE)
        first = made.read(tpm)
        for step in range(1, 4):
            made.increment(tpm)
            assert made.read(tpm) == first + step
    software.stop()
    with software, connect(software.address) as transport:
        assert Counter(made.index, VALUE).read(Tpm(transport)) == first + 3


def test_a_counter_that_was_removed_or_replaced_is_lost_and_never_comes_back_lower(
    tpm: Tpm,
) -> None:
    made = Counter.create(tpm, VALUE)
    made.increment(tpm)
    stood = made.read(tpm)
    counter.undefine_space(tpm, made.index)
    for use in (made.read, made.increment):
        with pytest.raises(SealError) as caught:
            use(tpm)
        assert caught.value.reason is Reason.COUNTER_LOST
    area = counter.public_area(made.index, counter._ATTRIBUTES, 8)
    counter.define_space(tpm, area, b"a stranger's")
    stranger = Counter(made.index, b"a stranger's")
    stranger.increment(tpm)
    assert stranger.read(tpm) > stood
    with pytest.raises(SealError, match="another's"):
        made.read(tpm)


def test_plain_memory_in_the_place_of_a_counter_is_refused(tpm: Tpm) -> None:
    made = Counter.create(tpm, VALUE)
    counter.undefine_space(tpm, made.index)
    plain = counter._ATTRIBUTES & ~(0xF << 4)
    counter.define_space(tpm, counter.public_area(made.index, plain, 8), VALUE)
    with pytest.raises(SealError, match="not a counter"):
        made.read(tpm)


def test_a_counter_can_neither_be_read_nor_raised_without_its_authorisation(tpm: Tpm) -> None:
    made = Counter.create(tpm, VALUE)
    space = counter.read_public(tpm, made.index)
    owner = permanent(codec.OWNER)
    for handles, code, parameters in (
        ([owner, space.handle], 0x134, b""),
        ([owner, space.handle], 0x14E, codec.u16(8) + codec.u16(0)),
        ([space.handle, space.handle], 0x134, b""),
    ):
        with pytest.raises(DeviceError):
            tpm.run(code, handles, parameters, [Password()])


def test_nothing_stays_loaded_and_what_a_killed_user_left_is_flushed(
    software: SoftwareTpm,
) -> None:
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        for _ in range(10):  # three transient slots: a leak would show
            sealing.unseal(tpm, sealing.seal(tpm, SECRET, tpm.pcr_read([0])), (0,))
        assert not tpm.handles(0x80000000)
        assert not tpm.handles(0x02000000)
        for _ in range(3):
            objects.create_primary(tpm)
        with pytest.raises(DeviceError, match="object-memory"):
            objects.create_primary(tpm)
        for kind in (0, 1, 3):  # HMAC, policy, trial
            tpm.start_session(kind)
        with pytest.raises(DeviceError, match="session-memory"):
            tpm.start_session(1)
    with connect(software.address) as transport:
        tpm = Tpm(transport)
        tpm.flush_leftovers()
        objects.create_primary(tpm)
        tpm.start_session(1)


def test_a_software_tpm_that_cannot_start_says_why(
    tmp_path: Path, new_tpm: Callable[[], SoftwareTpm]
) -> None:
    running = new_tpm()
    second = SoftwareTpm(running.directory)
    with pytest.raises(ConfigurationError, match="running already"):
        second.start()
    with connect(running.address) as transport:
        assert Tpm(transport).random(1)
    running.stop()
    for path in (running.directory / "state").iterdir():
        path.write_bytes(b"not what a TPM left")
    with pytest.raises(DeviceError, match="swtpm did not start"):
        second.start()
