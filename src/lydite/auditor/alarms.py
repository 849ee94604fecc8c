"""Raises alarms, and does what the policy says: each step is in the log before the next begins.

In shadow mode, the default, an alarm only says what would be done. Only an accusation shuts a
server down; a fault, which a cut line or a full disk explains as well, at most stops new requests
from going there. Finds nothing out by itself.
"""

import logging
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from lydite.auditor.ledger import Ledger
from lydite.auditor.refusals import timestamp
from lydite.errors import ConfigurationError, LyditeError, Reason, UnavailableError
from lydite.errors.quoting import shown
from lydite.messages import alarm
from lydite.messages.alarm import Action, Alarm, Mode, Predicate, Stage, Weight
from lydite.messages.canonical import encode
from lydite.messages.statement import subject
from lydite.signing.dsse import payload_of

_logger = logging.getLogger(__name__)

_TEXT: Final = 500
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Shutdown(Protocol):
    """What can shut one server down."""

    def shut_down(self, provider: str, why: str) -> str:
        """Shut down what serves for ``provider`` and say what was done.

        Raises:
            UnavailableError: it could not be done, or nothing says that it was.
        """


class Command:
    """A program that shuts the server down: its words, then the provider's name and why."""

    def __init__(self, words: Sequence[str], timeout_s: float = 30.0) -> None:
        self._words = tuple(words)
        self._timeout_s = timeout_s

    def shut_down(self, provider: str, why: str) -> str:
        """Run the program; exit status 0 says that the server is off."""
        _run((*self._words, provider, why), b"", self._timeout_s)
        return f"{self._words[0]} ended with 0"


class Against(NamedTuple):
    """Whom an alarm is about."""

    name: str
    """In the trust file."""
    provider: str
    weights_root: str
    shutdown: Shutdown | None


class Found(NamedTuple):
    """What was found, and by which numbers."""

    weight: Weight
    reason: Reason
    detail: str
    log10_e_milli: int = 0
    accuse_milli: int = 0
    result: str | None = None
    """Digest of the result statement that says so."""


class Alarms:
    """Every alarm of one recomputer. Its methods may be called from several threads."""

    def __init__(
        self, ledger: Ledger, mode: Mode, hear: Sequence[Callable[[bytes], None]] = ()
    ) -> None:
        """Raise alarms in ``mode``; ``hear`` are told of each, in its one spelling.

        What the ledger holds is not raised again after a restart.
        """
        self._ledger = ledger
        self._mode = mode
        self._hear = tuple(hear)
        self._standing: dict[tuple[str, Weight, Reason], Stage] = {}
        for entered in ledger.of_kind("alarm"):
            said = alarm.parse(payload_of(entered.parsed())).predicate
            if said.mode == mode and said.weight == "accusation":
                self._standing[said.provider, said.weight, said.reason] = said.stage

    def clear(self, provider: str, *now: Reason) -> None:
        """Take note that ``provider`` has no faults but ``now``; accusations stay."""
        faults = [key for key in self._standing if key[:2] == (provider, "fault")]
        for key in faults:
            if key[2] not in now:
                del self._standing[key]

    def stops(self, provider: str) -> bool:
        """Say whether nothing may be routed to ``provider``: never in shadow mode."""
        return self._mode == "enforce" and any(key[0] == provider for key in self._standing)

    def raise_for(self, against: Against, found: Found) -> bool:
        """Raise an alarm unless it stands, act as the mode says, and say if anything was new."""
        key = (against.provider, found.weight, found.reason)
        stage = self._standing.get(key)
        if stage is None:
            self._enter(against, found, "raised", found.detail)
        self._standing.setdefault(key, "raised")
        if found.weight == "accusation" and self._mode == "enforce" and stage != "done":
            self._standing[key] = self._shut_down(against, found, stage)
        return stage is None

    def _shut_down(self, against: Against, found: Found, before: Stage | None) -> Stage:
        """Shut the server down; what failed is tried again whenever the alarm is raised again."""
        try:
            if against.shutdown is None:
                raise UnavailableError("no way to shut this server down is configured")
            done = against.shutdown.shut_down(against.provider, str(found.reason))
        except LyditeError as error:
            if before != "failed":
                self._enter(against, found, "failed", str(error))
            return "failed"
        self._enter(against, found, "done", done)
        return "done"

    def _enter(self, against: Against, found: Found, stage: Stage, detail: str) -> None:
        statement = Alarm(
            subject=subject("weights", bytes.fromhex(against.weights_root)),
            predicate=Predicate(
                weight=found.weight,
                reason=found.reason,
                detail=detail[:_TEXT],
                log10_e_milli=found.log10_e_milli,
                accuse_milli=found.accuse_milli,
                result=found.result,
                mode=self._mode,
                action=_action(found.weight),
                stage=stage,
                issued=timestamp(time.time()),
                provider=against.provider,
                recomputer=self._ledger.keyid,
            ),
        )
        spelt = encode(statement)
        self._ledger.enter("alarm", spelt)
        _logger.warning("%s", words(against.name, statement.predicate))
        for hear in self._hear:
            try:
                hear(spelt)
            except LyditeError as error:  # who does not listen must not stop who acts
                _logger.warning("alarm: %s", error)


def words(name: str, said: Predicate) -> str:
    """Return the line that a person reads."""
    doing = {"shut-down": "shut it down", "stop-routing": "stop routing to it", "nothing": ""}
    act = doing[said.action]
    if said.stage == "done":
        return f"alarm: {name}: it is shut down: {said.detail}"
    if said.stage == "failed":
        return f"alarm: {name}: could not {act}: {said.detail}"
    then = f"would {act} (shadow mode)" if said.mode == "shadow" else f"to {act}"
    return f"alarm: {name}: {said.weight} ({said.reason}): {said.detail}; {then}"


def command(argv: Sequence[str], timeout_s: float = 10.0) -> Callable[[bytes], None]:
    """Return a hearer that gives each alarm to a program, on its standard input."""
    return lambda spelt: _run(tuple(argv), spelt, timeout_s)


def webhook(url: str, timeout_s: float = 5.0) -> Callable[[bytes], None]:
    """Return a hearer that posts each alarm to a URL on this machine.

    Raises:
        ConfigurationError: the URL is not http://HOST with a host that is this machine.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        raise ConfigurationError(f"alarm URL {shown(url)!r}: only http on this machine is taken")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def hear(spelt: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, spelt, headers, method="POST")
        try:
            with opener.open(request, timeout=timeout_s):
                pass
        except (OSError, ValueError) as error:
            raise UnavailableError(f"alarm URL {shown(url)}: {error}") from error

    return hear


def _action(weight: Weight) -> Action:
    return "shut-down" if weight == "accusation" else "stop-routing"


def _run(argv: tuple[str, ...], said: bytes, timeout_s: float) -> None:
    try:
        subprocess.run(argv, input=said, timeout=timeout_s, check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{argv[0]}: {error}") from error
