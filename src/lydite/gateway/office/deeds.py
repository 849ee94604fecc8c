"""What officers may order here: each action by name, from the parts that this gateway has.

An action whose part is not configured is not there, so nobody can order it. Decides nothing.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec

from lydite.errors import FormatError, LyditeError
from lydite.gateway.egress.egress import Egress
from lydite.gateway.modes.moded import Modal
from lydite.gateway.modes.whitelist import Bundle
from lydite.gateway.office.admin import Deed, no_arguments, one_argument
from lydite.gateway.office.operations import Operations
from lydite.gateway.settings import Upstream
from lydite.messages.egress import Scope
from lydite.messages.instruction import Arguments

_logger = logging.getLogger(__name__)

_HALTED = "requests to the model are refused until resume-serving"
_RESUMED = "requests to the model are answered again"


def of_operations(operations: Operations) -> dict[str, Deed]:
    """Return the actions of any gateway."""
    halt = _plain(lambda: _serve(operations, on=False), _HALTED, lasting=True, takes_away=True)
    return {
        "cut-power": halt,
        "reload-settings": _plain(operations.reload, "reads the settings again"),
        "resume-serving": _plain(lambda: _serve(operations, on=True), _RESUMED, lasting=True),
        "set-upstreams": Deed(
            lambda arguments: _set_upstreams(operations, arguments),
            lambda arguments: f"upstreams become {', '.join(_origins(arguments))}",
            lasting=True,
        ),
        "stop-serving": halt,
    }


def of_modes(modal: Modal) -> dict[str, Deed]:
    """Return the actions of a gateway that keeps modes; here power really goes."""
    keeper, whitelist = modal.keeper, modal.whitelist

    async def cut() -> str:
        return f"the mode is {await keeper.cut_power('an instruction')}"

    async def add(arguments: Arguments) -> str:
        return f"listed {await whitelist.add(_bundle(arguments))}"

    async def adopt(arguments: Arguments) -> str:
        return f"listed {await whitelist.adopt(one_argument(arguments, 'root'))}"

    async def remove(arguments: Arguments) -> str:
        return f"removed {await whitelist.remove(one_argument(arguments, 'root'))}"

    async def strike(arguments: Arguments) -> None:
        whitelist.strike(arguments["root"])

    return {
        "cut-power": _plain(cut, "cuts the machine's power and waits for an upload"),
        "whitelist-add": Deed(
            add,
            lambda given: f"lists {len(_bundle(given).signature)} bytes",
            lasting=True,
            again=_if_it_can(add),
        ),
        "whitelist-adopt": Deed(
            adopt,
            lambda given: f"lists {one_argument(given, 'root')}",
            lasting=True,
            again=_if_it_can(adopt),
        ),
        "whitelist-remove": Deed(
            remove,
            lambda given: f"removes {one_argument(given, 'root')}",
            lasting=True,
            takes_away=True,
            again=strike,
        ),
    }


def _if_it_can(
    carry_out: Callable[[Arguments], Awaitable[str]],
) -> Callable[[Arguments], Awaitable[None]]:
    """Return how a model is listed again: not, where its key counts no more or its file is gone."""

    async def again(arguments: Arguments) -> None:
        try:
            await carry_out(arguments)
        except LyditeError as error:
            _logger.warning("whitelist: not listed again: %s (%s)", error, error.reason)

    return again


def of_egress(egress: Egress) -> dict[str, Deed]:
    """Return the actions of a gateway that keeps accounts of what leaves."""

    async def budget(arguments: Arguments) -> str:
        scope, session, bits = _budget(arguments)
        return await egress.set_budget(scope, session, bits)

    def describe(arguments: Arguments) -> str:
        scope, session, bits = _budget(arguments)
        return f"the egress budget of {session or scope} becomes {bits} bits"

    async def again(arguments: Arguments) -> None:
        egress.allowance.set_budget(*_budget(arguments))

    return {
        "renew-egress-accounts": _plain(egress.renew, "begins the accounts of egress anew"),
        "set-egress-budget": Deed(budget, describe, lasting=True, again=again),
    }


def _budget(arguments: Arguments) -> tuple[Scope, str, int]:
    """Return scope, session and bits of a budget.

    Raises:
        FormatError: it takes others, or they mean nothing.
    """
    session = arguments.get("session", "")
    text = one_argument({k: v for k, v in arguments.items() if k != "session"}, "bits")
    if not re.fullmatch("[0-9]{1,15}", text):
        raise FormatError(f"{text!r} is no number of bits")
    return ("session" if session else "day"), session, int(text)


def _plain(
    do: Callable[[], Awaitable[str]],
    would: str,
    *,
    lasting: bool = False,
    takes_away: bool = False,
) -> Deed:
    """Return an urgent action without arguments."""

    async def carry_out(arguments: Arguments) -> str:
        no_arguments(arguments)
        return await do()

    def describe(arguments: Arguments) -> str:
        no_arguments(arguments)
        return would

    return Deed(carry_out, describe, lasting=lasting, urgent=True, takes_away=takes_away)


async def _serve(operations: Operations, *, on: bool) -> str:
    await operations.follow(msgspec.structs.replace(operations.settings, serving=on))
    return _RESUMED if on else _HALTED


async def _set_upstreams(operations: Operations, arguments: Arguments) -> str:
    named = tuple(Upstream(url=each) for each in _origins(arguments))
    settings = msgspec.structs.replace(operations.settings, upstream=None, upstreams=named)
    return await operations.follow(settings)


def _origins(arguments: Arguments) -> list[str]:
    """Return the bare origins in an argument, set apart by blanks.

    Raises:
        FormatError: there is none, or one is something else.
    """
    origins = one_argument(arguments, "urls").split()
    for each in origins:
        parts = urlsplit(each)
        bare = parts.path.rstrip("/") == parts.query == parts.fragment == ""
        if parts.scheme not in ("http", "https") or not parts.hostname or not bare:
            raise FormatError(f"{each!r} is not http(s)://HOST[:PORT]")
    if not origins:
        raise FormatError("no upstream is named")
    return origins


def _bundle(arguments: Arguments) -> Bundle:
    """Return the signed bundle and the layout that two arguments hold.

    Raises:
        FormatError: it takes others.
    """
    if set(arguments) != {"signature", "layout"}:
        raise FormatError("this action takes signature=@model.sig and layout=@layout.json")
    return Bundle(arguments["signature"].encode(), arguments["layout"].encode())
