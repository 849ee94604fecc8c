"""A recomputer for a deployment on one machine: its keys, its trust file, its settings.

Knows nothing of what it will find.
"""

from pathlib import Path
from typing import Any

import msgspec

from lydite.auditor import settings
from lydite.laboratory.deployment import Deployment
from lydite.messages.canonical import encode
from lydite.signing import keys

ORIGIN = "lydite.demo/recomputer"


def prepare(
    directory: Path, deployment: Deployment, models: tuple[settings.Model, ...], **changes: Any
) -> Path:
    """Write trust file, log key and settings of a recomputer, and return the settings' path.

    It signs with the auditor's key of the deployment, which its gateways take entries from.
    ``changes`` replace settings.
    """
    place = directory / "recomputer"
    place.mkdir(parents=True, exist_ok=True)
    trust = directory / "trust.json"
    trust.write_bytes(encode(deployment.trust) + b"\n")
    if not (place / "log.key").exists():
        keys.create(place / "log.key")
    made = settings.Recomputer(
        trust=str(trust),
        key=str(directory / "auditor" / "auditor.key"),
        log_key=str(place / "log.key"),
        origin=ORIGIN,
        state=str(place / "state"),
        bundles=str(directory),
        port=0,
        gateways=tuple(
            settings.Gateway(
                url=each.url, token=each.token, provider=each.name, control=each.control
            )
            for each in deployment.providers
        ),
        models=models,
        checkpoint_ms=250,
    )
    path = place / "recomputer.json"
    path.touch(mode=0o600)
    told = msgspec.structs.replace(made, **changes)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    return path
