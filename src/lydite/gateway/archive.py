"""Puts together what remembers inputs and outputs: vault, keeper, and the drawer of the pledge."""

from collections.abc import Callable
from pathlib import Path

from lydite.gateway.generations import unsealed_secret
from lydite.gateway.pairs import Journal
from lydite.gateway.pledges import Drawer
from lydite.gateway.recorder import Recorder
from lydite.gateway.retention import Age, Keeper
from lydite.gateway.sealed import Sealed
from lydite.gateway.settings import Settings
from lydite.gateway.vault import SEGMENT_BYTES, Vault
from lydite.signing.dsse import KeyId
from lydite.signing.keys import Signer

_LEAST_SEGMENTS = 16


def open_vault(settings: Settings, sealed: Sealed | None) -> Vault:
    """Open the vault in the state directory, under the device's secret if there is one.

    Raises:
        ConfigurationError: its secret cannot be used.
        StorageError: it is damaged, or the disk refuses.
    """
    state, room = Path(settings.state), settings.retention.vault_bytes
    secret = sealed.derive("vault") if sealed else unsealed_secret(state / "vault.secret")
    return Vault(state / "vault", secret, room, min(SEGMENT_BYTES, room // _LEAST_SEGMENTS))


def keeper(
    settings: Settings,
    journal: Journal,
    vault: Vault,
    recorder: Recorder,
    signer: tuple[Signer, KeyId],
    clock: Callable[[], float],
) -> Keeper:
    """Return who keeps the vault."""
    age = Age(Path(settings.state) / "vault" / "age")
    return Keeper(vault, journal, recorder, signer, settings.retention, clock, age)


def drawer(settings: Settings) -> Drawer:
    """Return where the secret of an open pledge is."""
    return Drawer(Path(settings.state) / "pledge")
