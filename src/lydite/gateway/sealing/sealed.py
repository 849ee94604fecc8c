"""A gateway whose keys and state open on one machine, in one condition, and never as an older copy.

Order at the start: measure, unseal, cap; check the sealed state against the TPM's counter; then,
and only then, keys, log and journal are opened. Order of each sealing: the state with the next
number is durable, then the counter is raised. So a state is the newest if its number is the
counter's, or one more where a crash came between; every other is refused.
"""

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from lydite.errors import ConfigurationError, Reason, SealError
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.sealing import enrolment, importing, measured, standing
from lydite.gateway.sealing.enrolment import Enrolment, derive
from lydite.gateway.sealing.measured import Measurement
from lydite.gateway.sealing.standing import Grown, State
from lydite.gateway.settings import Device, Settings
from lydite.signing import keys
from lydite.signing.keys import Signer
from lydite.tlog import disk
from lydite.tlog.store import LogStore
from lydite.tpm.commands import Tpm
from lydite.tpm.counter import Counter
from lydite.tpm.transport import connect

_LOCK = "sealed.lock"
_AGE_MS = 3_600_000
"""So much age is sealed even if nothing else is new."""


class Sealed:
    """The opened device: derives keys, holds the state to what it was, seals it anew."""

    def __init__(
        self,
        settings: Settings,
        device: Device,
        secret: bytes,
        opened: tuple[State, Enrolment],
        lock: int,
    ) -> None:
        """Use ``unlock``; this takes what it found."""
        self._device = device
        self._directory = Path(settings.state)
        self._keys = msgspec.structs.asdict(settings.keys)
        self._secret = secret
        self._state, self._enrolment = opened
        self._counter = Counter(self._enrolment.index, derive(secret, "counter"))
        self._lock = lock
        self._sealing = threading.Lock()
        self.age_ms = self._state.age_ms or 0
        """How long the gateway has run, as far as it told."""

    def close(self) -> None:
        """Let another process have the state."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def derive(self, label: str) -> bytes:
        """Return the 32 bytes that belong to ``label``, the same on every start."""
        return derive(self._secret, label)

    def enclose(self, path: Path, content: bytes) -> None:
        """Put ``content`` into a file of the state directory that only this device opens.

        Raises:
            StorageError: the disk refuses.
        """
        box = SecretBox(self.derive(f"file/{path.name}"))
        disk.place(path, box.encrypt(content), durable=True)

    def disclose(self, path: Path) -> bytes | None:
        """Return what was put into a file with ``enclose``, or None if nothing was.

        Raises:
            SealError: it was altered (``STATE_CHANGED``).
            StorageError: the disk refuses.
        """
        content = disk.read(path)
        try:
            box = SecretBox(self.derive(f"file/{path.name}"))
            return None if content is None else box.decrypt(content)
        except (CryptoError, ValueError) as error:
            raise SealError(Reason.STATE_CHANGED, f"{path.name} was altered") from error

    def check_settings(self, settings: Settings) -> None:
        """Refuse new settings for a running gateway that were not accepted with ``reseal``.

        Raises:
            SealError: a start with these would fail (``SETTINGS_CHANGED``).
        """
        now = measured.measure(settings)
        if now.digest().hex() not in self._state.accepts:
            raise SealError(Reason.SETTINGS_CHANGED, "the keys are sealed to other settings")

    def signer(self, role: str) -> Signer:
        """Return the private key of a role, which lies encrypted.

        Raises:
            SealError: it lies in the open (``NOT_SEALED``), or is not the one that was sealed
                (``STATE_CHANGED``).
            ConfigurationError: it cannot be read.
        """
        signer = keys.load(Path(self._keys[role]), derive(self._secret, f"key/{role}"))
        self.expect(signer, role)
        return signer

    def expect(self, signer: Signer, role: str) -> None:
        """Refuse a key that is not the one that was sealed for its role.

        Raises:
            SealError: it is another (``STATE_CHANGED``).
        """
        if signer.public.hex() != self._state.keys.get(role):
            raise SealError(Reason.STATE_CHANGED, f"the {role} key is not the one that was sealed")

    def check(self, log: LogStore, journal: Grown) -> int:
        """Hold log and journal to the sealed state, and return how far that goes.

        Raises:
            SealError: they have not.
        """
        standing.check_growth(self._state, log, journal)
        return self._state.log_size

    def pinned(self, name: str) -> tuple[str, ...]:
        """Return the digests, in hexadecimal, of which ``name`` has to have one; none: not held."""
        return self._state.pins.get(name, ())

    def pinned_below(self, folder: str) -> frozenset[str]:
        """Return the names of files in ``folder`` that are held to their digests."""
        prefix = standing.file_pin(Path(folder, "_")).removesuffix("_")
        return frozenset(n.removeprefix(prefix) for n in self._state.pins if n.startswith(prefix))

    def pin(self, name: str, *digests: str) -> None:
        """Hold ``name`` to one of these digests at the next start; blocks until that is sealed.

        To replace a file: pin the old and the new digest, replace it, pin the new one.

        Raises:
            LyditeError: it could not be sealed.
        """
        pins = {**self._state.pins, name: digests} if digests else dict(self._state.pins)
        if not digests:
            pins.pop(name, None)
        self._put(pins=pins)

    def seal(self, log: LogStore, journal: Grown, *, closed: bool = False) -> None:
        """Seal how far log and journal have come, and if all is ``closed`` every file; blocks.

        Raises:
            LyditeError: disk or TPM refused; the state before still stands.
        """
        size, pairs = log.size, len(journal)
        if not closed:
            journal.sync()
        files = standing.inventory(self._directory) if closed else None
        self._put(log_size=size, log_root=log.root(size).hex(), journal=pairs, files=files)

    def leave(self) -> None:
        """Seal every file as it lies, while log and journal are as they were sealed; blocks.

        Raises:
            LyditeError: disk or TPM refused.
        """
        self._put(files=standing.inventory(self._directory))

    def stands(self, log: LogStore, journal: Grown) -> bool:
        """Return whether hardly anything is new since the last sealing."""
        state = self._state
        ours = (state.log_size, state.journal, state.files)
        aged = self.age_ms - (state.age_ms or 0) >= _AGE_MS
        return ours == (log.size, len(journal), None) and not aged

    def count_age(self, ms: int) -> None:
        """Take note of how long the gateway has run: the next sealing holds it."""
        self.age_ms = ms

    def reseal(self, measurement: str) -> None:
        """Let a gateway of another ``measurement`` (64 hexadecimal digits) open this one's keys.

        Whoever may ask for that may replace the gateway: this is for an instruction that enough
        administrators signed. The measurement is what `lydite gateway measure` prints for the new
        program and settings. Blocks.

        Raises:
            ConfigurationError: it is not 32 bytes in hexadecimal.
            LyditeError: disk or TPM refused.
        """
        raw = digest_of(measurement)
        with self._tpm() as tpm:
            made = enrolment.seal(tpm, self._device, self._secret, raw)
        kept = [s for s in self._enrolment.seals if s.measurement != measurement][-1:]
        changed = msgspec.structs.replace(self._enrolment, seals=(*kept, made))
        enrolment.write(self._directory, changed)
        self._enrolment = changed
        self._put(accepts=tuple(s.measurement for s in changed.seals))

    def begin(self, now: Measurement, registers: dict[str, str]) -> None:
        """Say that files may change from now on, and end what ``now`` took over from.

        Raises:
            LyditeError: disk or TPM refused.
        """
        accepts = self._state.accepts
        place = accepts.index(now.digest().hex())
        if place or self._state.files is not None:
            self._put(accepts=accepts[place:], files=None)
        if place:
            seals = tuple(s for s in self._enrolment.seals if s.measurement in accepts[place:])
            changed = msgspec.structs.replace(
                self._enrolment, seals=seals, seen=now, registers=registers
            )
            enrolment.write(self._directory, changed)
            self._enrolment = changed

    def _put(self, **changes: object) -> None:
        """Write the state with the next number, then raise the counter to it."""
        with self._sealing, self._tpm() as tpm:
            count = self._counter.read(tpm)
            numbered = {"count": count + 1, "age_ms": self.age_ms}
            state = msgspec.structs.replace(self._state, **numbered, **changes)
            standing.write(self._directory, state, derive(self._secret, "state"))
            self._counter.increment(tpm)
            self._state = state

    @contextlib.contextmanager
    def _tpm(self) -> Iterator[Tpm]:
        with connected(self._device) as tpm:
            yield tpm


@contextlib.contextmanager
def connected(device: Device) -> Iterator[Tpm]:
    """Yield the TPM, rid of what a killed user left in it."""
    with connect(device.address, device.timeout_s) as transport:
        tpm = Tpm(transport)
        tpm.flush_leftovers()
        yield tpm


def unlock(settings: Settings) -> Sealed | None:
    """Open what is sealed, or return None if the settings name no device.

    Raises:
        SealError: something is not as it was sealed; nothing was opened, and nothing is used.
        ConfigurationError: another process has the state.
        DeviceError: the TPM does not answer, or refuses.
        StorageError: the disk refuses.
    """
    if settings.device is None:
        return None
    enrolment.read(Path(settings.state))  # before a lock is made in a place that is not sealed
    with holding(Path(settings.state)) as lock:
        return opened(settings, settings.device, lock)


def signers(settings: Settings, sealed: Sealed | None) -> dict[str, Signer]:
    """Return the private keys by role: from the opened device, or without one from plain files.

    Raises:
        SealError: a key lies in the open that should not, or the other way round, or is another.
        ConfigurationError: one cannot be read.
    """
    paths: dict[str, str] = msgspec.structs.asdict(settings.keys)
    if sealed is None:
        return {role: keys.load(Path(path)) for role, path in paths.items()}
    return {role: sealed.signer(role) for role in paths}


def open_journal(settings: Settings, sealed: Sealed | None) -> Journal:
    """Return the journal: with a device, one whose every record is authenticated.

    What it held before it was sealed is held to its digest.

    Raises:
        StorageError: it is damaged, or the disk refuses.
    """
    place = Path(settings.state) / "journal"
    if sealed is None:
        return Journal(place)
    plain = sealed.pinned_below(place.name)
    return Journal(place, key=sealed.derive("journal"), plain=plain)


def guarded(
    reread: Callable[[], Settings] | None, sealed: Sealed | None
) -> Callable[[], Settings] | None:
    """Return a ``reread`` that refuses settings with which a sealed gateway would not start."""
    if reread is None or sealed is None:
        return reread

    def read() -> Settings:
        settings = reread()
        sealed.check_settings(settings)
        return settings

    return read


def device_secret(settings: Settings) -> bytes:
    """Return the 32 bytes from which a gateway's other secrets are derived, with ``derive``.

    Raises:
        LyditeError: as ``unlock`` does.
        ConfigurationError: the settings name no device.
    """
    sealed = unlock(settings)
    if sealed is None:
        raise ConfigurationError("the settings name no device")
    try:
        return sealed.derive("master")
    finally:
        sealed.close()


def opened(settings: Settings, device: Device, lock: int) -> Sealed:
    """Open what is sealed, under the ``lock`` of its state; as ``unlock``."""
    directory = Path(settings.state)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the secret
    enrolled = enrolment.read(directory)
    now, held = measured.survey(settings)
    measured.import_from_source()
    importing.guard(held)
    with connected(device) as tpm:
        secret = enrolment.unseal(tpm, device, enrolled, now)
        registers = enrolment.spelt(enrolment.platform(tpm, device))
        state = standing.read(directory, derive(secret, "state"))
        _check_count(tpm, Counter(enrolled.index, derive(secret, "counter")), state)
    if now.digest().hex() not in state.accepts:
        raise SealError(Reason.ROLLED_BACK, "another version took this state over since")
    standing.check_files(directory, state)
    standing.check_pins(directory, state)
    sealed = Sealed(settings, device, secret, (state, enrolled), lock)
    sealed.begin(now, registers)
    return sealed


def _check_count(tpm: Tpm, counter: Counter, state: State) -> None:
    """Hold a state to the counter; where a crash came before the counter was raised, raise it."""
    stands = counter.read(tpm)
    if state.count == stands + 1:
        counter.increment(tpm)
    elif state.count < stands:
        raise SealError(
            Reason.ROLLED_BACK,
            f"the state is number {state.count} and the TPM has counted to {stands}: an older copy",
        )
    elif state.count > stands:
        raise SealError(
            Reason.COUNTER_LOST,
            f"the state is number {state.count} and the TPM's counter stands at {stands} only: its"
            " memory was set back",
        )


@contextlib.contextmanager
def holding(directory: Path) -> Iterator[int]:
    """Yield the lock on a state directory, which is let go of if this does not end well.

    Raises:
        ConfigurationError: another process has it.
        StorageError: the disk refuses.
    """
    lock = disk.lock(directory / _LOCK)
    try:
        yield lock
    except BaseException:
        os.close(lock)
        raise


def digest_of(text: str) -> bytes:
    """Return the 32 bytes of a measurement as it is written down.

    Raises:
        ConfigurationError: it is not 64 lowercase hexadecimal digits.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigurationError(f"measurement {text!r} is not hexadecimal") from error
    if len(raw) != 32 or raw.hex() != text:
        raise ConfigurationError(f"measurement {text!r} is not 32 bytes in lowercase hexadecimal")
    return raw
