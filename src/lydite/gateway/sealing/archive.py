"""Puts together what remembers inputs and outputs: vault, keeper, and the drawer of the pledge."""

from collections.abc import Callable
from pathlib import Path

from lydite.errors import Reason, SealError
from lydite.gateway.draws.pledges import Drawer
from lydite.gateway.ledger.age import Age
from lydite.gateway.ledger.generations import destroy, unsealed_secret
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.ledger.retention import Keeper
from lydite.gateway.ledger.vault import SEGMENT_BYTES, Vault
from lydite.gateway.sealing.sealed import Sealed
from lydite.gateway.settings import Settings
from lydite.signing.dsse import KeyId
from lydite.signing.keys import Signer

OPEN_SECRET, ENCLOSED_SECRET = "vault.secret", "vault.sealed"
"""The vault's secret where there is no device, and what became of it when there was one later."""
_LEAST_SEGMENTS = 16


def open_vault(settings: Settings, sealed: Sealed | None) -> Vault:
    """Open the vault in the state directory, under the device's secret if there is one.

    Raises:
        ConfigurationError: its secret cannot be used.
        SealError: its secret lies in the open and should not, or was altered.
        StorageError: it is damaged, or the disk refuses.
    """
    state, room = Path(settings.state), settings.retention.vault_bytes
    secret = _sealed_secret(state, sealed) if sealed else unsealed_secret(state / OPEN_SECRET)
    return Vault(state / "vault", secret, room, min(SEGMENT_BYTES, room // _LEAST_SEGMENTS))


def enclose_secret(state: Path, sealed: Sealed) -> None:
    """Encrypt the secret of a vault that was there before the device, and remove it in the open."""
    secret = state / OPEN_SECRET
    if secret.exists():
        sealed.enclose(state / ENCLOSED_SECRET, unsealed_secret(secret))
        destroy(secret)


def _sealed_secret(state: Path, sealed: Sealed) -> bytes:
    if (state / OPEN_SECRET).exists():
        raise SealError(Reason.NOT_SEALED, f"{OPEN_SECRET} lies in the open")
    return sealed.disclose(state / ENCLOSED_SECRET) or sealed.derive("vault")


def keeper(
    settings: Settings,
    journal: Journal,
    vault: Vault,
    recorder: Recorder,
    signer: tuple[Signer, KeyId],
    clock: Callable[[], float],
    sealed: Sealed | None,
) -> Keeper:
    """Return who keeps the vault."""
    if sealed is None:
        age = Age.in_file(age_file(Path(settings.state)))
    else:
        age = Age(sealed.age_ms, sealed.count_age)
    return Keeper(vault, journal, recorder, signer, settings.retention, clock, age)


def age_file(state: Path) -> Path:
    """Return where the gateway's age is while there is no device."""
    return state / "vault" / "age"


def drawer(settings: Settings) -> Drawer:
    """Return where the secret of an open pledge is."""
    return Drawer(Path(settings.state) / "pledge")
