"""The gateway's secret behind the pledge of an epoch, and the pledge itself.

The 32 bytes are on disk before their commitment is in the log, so a crash between pledge and epoch
loses nothing; they are destroyed once the epoch has revealed them.
"""

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from lydite.errors import FormatError, StorageError
from lydite.gateway.ledger.generations import destroy, place
from lydite.messages import entropy
from lydite.messages.canonical import Count, Hex32, Message, decode, encode
from lydite.messages.entropy import Entropy, Pledge, Predicate
from lydite.messages.statement import subject
from lydite.signing.dsse import KeyId


class Secret(Message, frozen=True, kw_only=True):
    """What one pledge committed to, and the checkpoint that showed it in time, once there is."""

    epoch: Count
    attempt: Count
    entropy: Hex32
    note: str = ""

    def opens(self, pledge: Predicate) -> bool:
        """Say whether this is the secret behind a pledge."""
        raw = Entropy(bytes.fromhex(self.entropy))
        return entropy.commit(self.epoch, self.attempt, raw).hex() == pledge.commitment


class Drawer:
    """The one file that holds the secret of the pledge that is open, if one is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fresh(self, epoch: int, attempt: int) -> Secret:
        """Put 32 new bytes of the system's randomness in the drawer, durably, and return them.

        Raises:
            StorageError: the disk refused.
        """
        secret = Secret(epoch=epoch, attempt=attempt, entropy=os.getrandom(32).hex())
        self._write(secret)
        return secret

    def witnessed(self, secret: Secret, note: bytes) -> Secret:
        """Keep the checkpoint that showed the pledge in time beside its secret.

        Raises:
            StorageError: the disk refused.
        """
        found = msgspec.structs.replace(secret, note=note.decode())
        self._write(found)
        return found

    def read(self) -> Secret | None:
        """Return what is in the drawer; what cannot be read is lost."""
        try:
            return decode(self._path.read_bytes(), Secret, limit=1 << 18)
        except (OSError, FormatError):
            return None

    def empty(self) -> None:
        """Destroy what is in the drawer, if anything is.

        Raises:
            StorageError: the disk refused.
        """
        try:
            if self._path.exists():
                destroy(self._path)
        except OSError as error:
            raise StorageError(f"cannot destroy {self._path.name}: {error.strerror}") from error

    def _write(self, secret: Secret) -> None:
        try:
            place(self._path, encode(secret))
        except OSError as error:
            raise StorageError(f"cannot write {self._path.name}: {error.strerror}") from error


class Turn(NamedTuple):
    """Which epoch a pledge is for: its number, the how manieth pledge, and its first entry."""

    epoch: int
    attempt: int
    first: int


def make_pledge(
    turn: Turn, chain: str, beacon_round: int, epsilon_ppm: int, secret: Entropy, provider: KeyId
) -> Pledge:
    """Return the statement that pledges an epoch."""
    commitment = entropy.commit(turn.epoch, turn.attempt, secret)
    return Pledge(
        subject=subject("entropy", commitment),
        predicate=Predicate(
            epoch=turn.epoch,
            attempt=turn.attempt,
            first=turn.first,
            epsilon_ppm=epsilon_ppm,
            chain=chain,
            round=beacon_round,
            commitment=commitment.hex(),
            provider=provider,
        ),
    )
