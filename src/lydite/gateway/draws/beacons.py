"""Fetches one round of public randomness over HTTP, once it is out, and verifies it."""

import asyncio
import http.client
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.errors.quoting import shown
from lydite.gateway.settings import Beacon
from lydite.messages import canonical
from lydite.messages.epoch import BeaconRound
from lydite.sampling import beacon
from lydite.sampling.beacon import Round, Scheme

_TRY_S = 0.1
_REQUEST_TIMEOUT_S = 5.0
_ANSWER_BYTES = 64 * 1024


class _Drand(msgspec.Struct, frozen=True):
    """What drand's HTTP API answers."""

    round: int
    randomness: str
    signature: str
    previous_signature: str | None = None


class BeaconClient:
    """One source of rounds. For a drand chain the URL ends in the chain's hash."""

    def __init__(self, settings: Beacon, clock: Callable[[], float]) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"beacon {shown(settings.url)!r} is not an http or https URL")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._kind = kinds[parts.scheme]
        self._netloc = parts.netloc
        self._local = settings.chain.scheme is Scheme.LOCAL_DEV
        self._path = parts.path.rstrip("/") + ("/rounds/" if self._local else "/public/")
        self._settings = settings
        self._clock = clock

    async def fetch(self, number: int) -> Round:
        """Wait until round ``number`` is due and return it, verified.

        Raises:
            UnavailableError: it did not come in time.
            VerificationError: it is not genuine.
        """
        due_s = beacon.due_s(self._settings.chain, number)
        await asyncio.sleep(max(0.0, due_s - self._clock()))
        deadline = asyncio.get_running_loop().time() + self._settings.timeout_ms / 1000
        while (found := await asyncio.to_thread(self._ask, number)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"beacon: round {number} did not come")
            await asyncio.sleep(_TRY_S)
        beacon.verify(self._settings.chain, found)
        return found

    def _ask(self, number: int) -> Round | None:
        connection = self._kind(self._netloc, timeout=_REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", f"{self._path}{number}")
            answer = connection.getresponse()
            body = answer.read(_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            return None
        return self._parse(body, number)

    def _parse(self, body: bytes, number: int) -> Round:
        if len(body) > _ANSWER_BYTES:
            raise FormatError("beacon: answer too large", Reason.TOO_LARGE)
        if self._local:
            record = canonical.decode(body, BeaconRound)
            found = beacon.from_record(self._settings.chain, record)
        else:
            found = _from_drand(body)
        if found.number != number:
            raise FormatError(f"beacon: asked for round {number}, got {found.number}")
        return found


def _from_drand(body: bytes) -> Round:
    try:
        answer = msgspec.json.decode(body, type=_Drand)
        previous = answer.previous_signature
        return Round(
            number=answer.round,
            signature=bytes.fromhex(answer.signature),
            previous_signature=bytes.fromhex(previous) if previous else None,
            randomness=bytes.fromhex(answer.randomness),
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise FormatError(f"beacon: {error}") from error
