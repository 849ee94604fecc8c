"""Ties a gateway's keys and state to a TPM, once and for good; what was interrupted is finished.

Secret, counter and a first state are durable before a key is touched; then the keys are encrypted
one by one, each in one step.
"""

from pathlib import Path

import msgspec

from lydite.errors import ConfigurationError, Reason, SealError, StorageError
from lydite.gateway.ledger import age
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.sealing import archive, enrolment, measured, standing
from lydite.gateway.sealing.enrolment import Enrolment, derive
from lydite.gateway.sealing.sealed import connected, holding, opened
from lydite.gateway.sealing.standing import State
from lydite.gateway.settings import Device, Settings
from lydite.signing import keys
from lydite.signing.keys import Signer
from lydite.tlog import disk
from lydite.tlog.store import LogStore
from lydite.tpm.counter import Counter


def enrol(settings: Settings) -> dict[str, str]:
    """Seal a gateway's keys to the device that its settings name; what was begun is finished.

    Returns the public keys by role.

    Raises:
        SealError: keys were sealed and the device does not open, or a key is not the one that was.
        ConfigurationError: no device is named, or a key cannot be used, or a gateway is running.
        DeviceError: the TPM does not answer, or refuses.
        StorageError: the disk refuses.
    """
    if settings.device is None:
        raise ConfigurationError("these settings name no device to seal to")
    directory = Path(settings.state)
    paths = {role: Path(path) for role, path in msgspec.structs.asdict(settings.keys).items()}
    if len({path.resolve() for path in paths.values()}) != len(paths):
        raise ConfigurationError("two keys cannot lie in one file")
    with disk.failures("create the state"):
        directory.mkdir(parents=True, exist_ok=True)
    with holding(directory) as lock:
        if not (directory / standing.NAME).exists():
            _begin(settings, settings.device, paths)
        sealed = opened(settings, settings.device, lock)
        for role, path in paths.items():
            if not keys.is_wrapped(path):
                sealed.expect(keys.load(path), role)
                keys.wrap(path, sealed.derive(f"key/{role}"))
        archive.enclose_secret(directory, sealed)
        sealed.leave()
    try:
        return {role: sealed.signer(role).public.hex() for role in paths}
    finally:
        sealed.close()


def _begin(settings: Settings, device: Device, paths: dict[str, Path]) -> None:
    """Make secret, counter and the first state; no key is touched before that is durable."""
    directory = Path(settings.state)
    if any(keys.is_wrapped(path) for path in paths.values()):
        raise SealError(Reason.STATE_CHANGED, f"keys are sealed, and {standing.NAME} is gone")
    signers = {role: keys.load(path) for role, path in paths.items()}
    size, root, pins = _held(settings, signers["log"])
    now = measured.measure(settings)
    with connected(device) as tpm:
        secret = enrolment.new_secret(tpm)
        counter = Counter.create(tpm, derive(secret, "counter"))
        made = Enrolment(
            index=counter.index,
            seals=(enrolment.seal(tpm, device, secret, now.digest()),),
            registers=enrolment.spelt(enrolment.platform(tpm, device)),
            seen=now,
        )
        enrolment.write(directory, made)
        state = State(
            count=counter.read(tpm),
            keys={role: signer.public.hex() for role, signer in signers.items()},
            accepts=(now.digest().hex(),),
            log_size=size,
            log_root=root,
            pins=pins,
            files=standing.inventory(directory),
            age_ms=age.read(archive.age_file(directory)),
        )
    standing.write(directory, state, derive(secret, "state"))


def _held(settings: Settings, signer: Signer) -> tuple[int, str, dict[str, tuple[str, ...]]]:
    """Return size and root of the log that is there already, and pins of its journal's files.

    Raises:
        ConfigurationError: somebody is writing it.
        StorageError: log and journal contradict each other, or the disk refuses.
    """
    state = Path(settings.state)
    if not (state / "log").exists():
        return 0, standing.EMPTY_ROOT, {}
    with LogStore.open(state / "log", settings.origin, signer) as log:
        journal = Journal(state / "journal")
        try:
            if len(journal) < log.size:
                raise StorageError("the journal is shorter than the log", Reason.DAMAGED)
            journal.cut_torn_tail()
        finally:
            journal.close()
        size, root = log.size, log.root().hex()
    files = (path.relative_to(state) for path in (state / "journal").iterdir())
    found = standing.inventory(state)
    return size, root, {standing.file_pin(path): (found[str(path)],) for path in files}
