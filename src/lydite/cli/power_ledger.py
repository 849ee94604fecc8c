"""``lydite power ledger``: measured joules against those that receipts explain, and who pays.

Whole microjoules, so that tenants and rest sum to what was measured. An alarm is a warning (3): it
accuses nobody; without one nothing was learnt (4), since whoever is root forges meters.
"""

import argparse
import json
from pathlib import Path

import msgspec

from lydite.cli import power_runs
from lydite.cli.files import read_message
from lydite.cli.power_runs import Run
from lydite.economics import energy
from lydite.economics.energy import Account, Ledger, Open, Rule
from lydite.errors import ConfigurationError, FormatError
from lydite.evidence.power.reference import Reference
from lydite.messages.canonical import UNREADABLE
from lydite.messages.plain import plain
from lydite.messages.tier import Tier

_MICRO = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power ledger``."""
    power_runs.add_run(parser)
    parser.add_argument(
        "--wallets",
        type=Path,
        metavar="FILE",
        help="microjoules of each tenant, as JSON: what is left of them is printed",
    )
    parser.add_argument(
        "--allow",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the explained joules that may stay unexplained",
    )


def run(arguments: argparse.Namespace) -> int:
    """Settle one run, print the ledger, and return 3 for an alarm and 4 for none.

    Raises:
        ConfigurationError: a file or an option cannot be used.
        FormatError: a file is not what it has to be.
        UnavailableError: neither energy nor power was measured.
    """
    given = power_runs.load(arguments.declared, arguments.trace)
    if len(given.traces) != given.work.gpus:
        raise FormatError(f"{len(given.traces)} traces of {given.work.gpus} GPUs")
    if not 0 <= arguments.allow < 100:
        raise ConfigurationError(f"--allow {arguments.allow}: expected a share from 0 on")
    ledger, rule = settle(given, power_runs.site(arguments.site, given.work), arguments.allow)
    found = energy.alarms(ledger, rule)
    wallets = energy.debit(_wallets(arguments.wallets), ledger)
    if arguments.json:
        alarms = [{"account": one.account.name, "missing": one.missing} for one in found]
        body = {"ledger": msgspec.to_builtins(ledger), "alarms": alarms, "wallets": wallets}
        print(json.dumps(body))
    else:
        print("\n".join(plain(line) for line in lines(ledger, rule)))
        if arguments.wallets is not None:
            for name, left in sorted(wallets.items()):
                print(
                    plain(f"  wallet of {name}: {left / _MICRO:.6f} J{' overdrawn' * (left < 0)}")
                )
    return (Tier.WARNING if found else Tier.NONE).exit_code


def settle(given: Run, known: Reference, allow: float) -> tuple[Ledger, Rule]:
    """Return the ledger of a run, and the rule that it was settled by."""
    from lydite.evidence.power import explained, metering, work

    claims = given.work
    names = tuple(f"gpu {number}" for number in range(claims.gpus))
    start, end = (time // 1000 for time in work.run_ns(claims))
    readings = [
        reading
        for name, trace in zip(names, given.traces, strict=True)
        for reading in metering.read(name, trace, start, end)
    ]
    needed = explained.explain(claims, known)
    requests = [
        Open(
            receipt=one.receipt,
            tenant=one.tenant,
            gpus=names,
            start_us=one.received_us - claims.zero_us,
            end_us=one.completed_us - claims.zero_us,
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
            explained_uj=needed.receipts[one.receipt],
        )
        for one in claims.requests
    ]
    rule = Rule(rest_uw=needed.rest_uw, share_micro=round(_MICRO * allow))
    return energy.settle(readings, requests, rule), rule


def lines(ledger: Ledger, rule: Rule) -> list[str]:
    """Return the ledger as a person reads it."""
    off = {one.account: one for one in energy.alarms(ledger, rule)}
    paid = _joules(sum(one.measured_uj for one in ledger.tenants))
    whole = f"measured {_joules(ledger.measured_uj)} = tenants {paid}"
    unknown = f"unmeasured {ledger.unmeasured_us / _MICRO:.3f} s"
    rows = [f"{whole} + rest {_joules(ledger.rest_uj)}; {unknown}"]
    for kind, accounts in (("", ledger.gpus), ("tenant ", ledger.tenants)):
        rows += [f"{'!' if one in off else ' '} {kind}{_account(one)}" for one in accounts]
    rows += [f"! {name}: no meter" for name in ledger.unmetered]
    if off:
        rows.append("joules without work, or work without joules: audit more; it accuses nobody")
    return rows


def _account(one: Account) -> str:
    return (
        f"{one.name}: measured {_joules(one.measured_uj)}, explained {_joules(one.explained_uj)},"
        f" unexplained {_joules(one.unexplained_uj)}"
    )


def _joules(microjoules: int) -> str:
    return f"{microjoules / _MICRO:.6f} J"


def _wallets(path: Path | None) -> dict[str, int]:
    if path is None:
        return {}
    try:
        return msgspec.json.decode(read_message(path), type=dict[str, int])
    except UNREADABLE as error:
        raise FormatError(f"wallets: {error}") from error
