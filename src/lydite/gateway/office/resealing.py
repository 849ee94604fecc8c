"""What officers may order a sealed gateway: to let another program or other settings follow."""

import asyncio

from lydite.errors import ConfigurationError, FormatError
from lydite.gateway.office.admin import Deed, one_argument
from lydite.gateway.sealing.sealed import Sealed, digest_of
from lydite.messages.instruction import Arguments

_LIMIT_S = 300.0


def deeds(sealed: Sealed | None) -> dict[str, Deed]:
    """Return the actions of a sealed gateway by name; none without a device."""
    if sealed is None:
        return {}

    async def reseal(arguments: Arguments) -> str:
        measurement = _measurement(arguments)
        await asyncio.to_thread(sealed.reseal, measurement)
        return f"sealed for {measurement}; it takes over at its first start"

    return {"reseal": Deed(reseal, _describe, limit_s=_LIMIT_S)}


def _describe(arguments: Arguments) -> str:
    return f"lets the gateway that measures {_measurement(arguments)} take over keys and state"


def _measurement(arguments: Arguments) -> str:
    """Return the one argument, as `lydite gateway measure` prints it.

    Raises:
        FormatError: it is not there, is something else, or is not alone.
    """
    try:
        return digest_of(one_argument(arguments, "measurement")).hex()
    except ConfigurationError as error:
        raise FormatError(str(error)) from error
