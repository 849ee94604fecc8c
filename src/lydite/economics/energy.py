"""The ledger of energy: every measured microjoule is somebody's; what nothing explains shows.

Whole microjoules throughout. What was measured while requests were open is debited to their
tenants, by tokens; what was measured while none was open is ``rest``; time that nobody measured is
named and costs nobody anything. Then measured joules are held against those that receipts explain.
Knows nothing of models: what a receipt explains is an input. Telemetry: an alarm accuses nobody.

**Does not show** that the joules were spent on those tokens: whoever is root on the machine forges
meters, and work that takes the place of other work costs the same.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import FormatError
from lydite.evidence.power.readings import Reading

MICRO = 1_000_000
_SHIFT = 80
"""Fixed point of joules for one unit of weight: the error of a run stays below a microjoule."""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """One request, while it was open: who asked, on which GPUs, and how much work it was."""

    receipt: str
    tenant: str
    gpus: tuple[str, ...]
    start_us: int
    end_us: int
    prompt_tokens: int
    output_tokens: int
    explained_uj: int
    """What the declared model needs for it, on all its GPUs."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How the energy of a batch is shared, and how much may stay unexplained.

    Requests that are open at the same time on one GPU share what it takes in proportion to their
    weight: output tokens, plus prompt tokens at ``prompt_micro`` of one each, spread evenly over
    the time that the request is open.
    """

    prompt_micro: int = 10_000
    """A prompt's token is read with many others at once: a hundredth of an output token."""
    rest_uw: int
    """Microwatts of a GPU with the model loaded and nothing to do: what time itself explains."""
    share_micro: int = 100_000
    """Unexplained share of the explained joules that raises the alarm."""
    least_uj: int = 1000 * MICRO
    """Less than so much raises none."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Joules of one GPU or of one tenant."""

    name: str
    measured_uj: int
    explained_uj: int

    @property
    def unexplained_uj(self) -> int:
        """Return what receipts leave open; below nought, more was explained than measured."""
        return self.measured_uj - self.explained_uj


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Where the joules went: ``measured = sum of tenants + rest``, to the microjoule."""

    measured_uj: int
    rest_uj: int
    """Measured while no request was open."""
    measured_us: int
    unmeasured_us: int
    """Between the first and the last reading of each GPU; requests may have run in it."""
    unmetered: tuple[str, ...]
    """GPUs that requests name and that no reading is of."""
    tenants: tuple[Account, ...]
    gpus: tuple[Account, ...]
    debits: tuple[tuple[str, int], ...]
    """Microjoules of each receipt."""


class Alarm(NamedTuple):
    """An account that does not come out even."""

    account: Account
    missing: bool
    """More was explained than measured: work is claimed that no joules were spent on."""


def settle(readings: Iterable[Reading], requests: Sequence[Open], rule: Rule) -> Ledger:
    """Return the ledger of a time, from meters and receipts.

    Raises:
        FormatError: readings of one GPU that overlap or run backwards, negative joules, a request
            without tokens or time, or one that is there twice.
    """
    _check(requests)
    by_gpu: dict[str, list[Reading]] = collections.defaultdict(list)
    for reading in readings:
        by_gpu[reading.gpu].append(reading)
    debits: collections.Counter[str] = collections.Counter({one.receipt: 0 for one in requests})
    explained: collections.Counter[str] = collections.Counter()
    accounts, rest, known_us, unknown_us = [], 0, 0, 0
    for gpu in sorted(by_gpu):
        rows = sorted(by_gpu[gpu], key=lambda row: row.start_us)
        _check_rows(gpu, rows)
        found = _one_gpu(rows, [one for one in requests if gpu in one.gpus], rule)
        debits.update(found.debits)
        explained.update(found.explained)
        rest += found.rest_uj
        known_us += found.measured_us
        unknown_us += found.unmeasured_us
        known = sum(found.explained.values()) + found.rest_us * rule.rest_uw // MICRO
        total = sum(found.debits.values()) + found.rest_uj
        accounts.append(Account(name=gpu, measured_uj=total, explained_uj=known))
    return Ledger(
        measured_uj=sum(account.measured_uj for account in accounts),
        rest_uj=rest,
        measured_us=known_us,
        unmeasured_us=unknown_us,
        unmetered=tuple(sorted({gpu for one in requests for gpu in one.gpus} - set(by_gpu))),
        tenants=_tenants(requests, debits, explained),
        gpus=tuple(accounts),
        debits=tuple((one.receipt, debits[one.receipt]) for one in requests),
    )


def alarms(ledger: Ledger, rule: Rule) -> tuple[Alarm, ...]:
    """Return the accounts of GPUs and tenants that are off by more than the rule allows."""
    found = []
    for account in (*ledger.gpus, *ledger.tenants):
        off = account.unexplained_uj
        allowed = max(rule.least_uj, account.explained_uj * rule.share_micro // MICRO)
        if abs(off) > allowed:
            found.append(Alarm(account, off < 0))
    return tuple(found)


def debit(wallets: Mapping[str, int], ledger: Ledger) -> dict[str, int]:
    """Return the wallets, in microjoules, after each tenant paid for what was measured.

    A wallet below nought is overdrawn; a tenant without one is debited from nought. The sum of all
    wallets falls by exactly what the ledger debits.
    """
    after = dict(wallets)
    for account in ledger.tenants:
        after[account.name] = after.get(account.name, 0) - account.measured_uj
    return after


class _Shared(NamedTuple):
    debits: dict[str, int]
    rest_uj: int
    rest_us: int
    measured_us: int
    unmeasured_us: int
    explained: dict[str, int]
    """By receipt, for the part of its time that was measured."""


def _one_gpu(rows: Sequence[Reading], requests: Sequence[Open], rule: Rule) -> _Shared:
    """Share one GPU's joules among the requests that were open on it.

    ``level`` is the running integral of joules over the weight that is open: what a request pays
    is its weight times how far the level rose while it was open. So a run of n stretches and m
    requests takes n + m steps, not their product.
    """
    rates = {one.receipt: _rate(one, rule) for one in requests}
    events = _events(rows, requests)
    level, weight, count, rest_uj, rest_us, shared_uj = 0, 0, 0, 0, 0, 0
    levels: dict[str, int] = {}
    open_us: collections.Counter[str] = collections.Counter()
    known_at: dict[str, int] = {}
    known_us = 0
    raised: dict[str, int] = {}
    for stretch_us, joules, closing, opening in events:
        if joules is not None:
            known_us += stretch_us
            if count:
                level += (joules << _SHIFT) // weight
                shared_uj += joules
            else:
                rest_uj += joules
                rest_us += stretch_us
        for one in closing:
            raised[one] = rates[one] * (level - levels[one])
            open_us[one] = known_us - known_at[one]
            weight, count = weight - rates[one], count - 1
        for one in opening:
            levels[one], known_at[one] = level, known_us
            weight, count = weight + rates[one], count + 1
    explained = {
        one.receipt: one.explained_uj
        * open_us[one.receipt]
        // ((one.end_us - one.start_us) * len(one.gpus))
        for one in requests
    }
    unknown_us = rows[-1].end_us - rows[0].start_us - known_us
    return _Shared(_whole(raised, shared_uj), rest_uj, rest_us, known_us, unknown_us, explained)


_Event = tuple[int, int | None, list[str], list[str]]
"""How long nothing changed, the joules of that time, and which requests end and begin then."""


def _events(rows: Sequence[Reading], requests: Sequence[Open]) -> list[_Event]:
    """Cut the readings where requests begin and end; the cuts of a reading sum to it exactly."""
    changes: dict[int, tuple[list[str], list[str]]] = collections.defaultdict(lambda: ([], []))
    for one in requests:
        changes[one.start_us][1].append(one.receipt)
        changes[one.end_us][0].append(one.receipt)
    times = sorted(changes)
    events: list[_Event] = []
    place = 0
    for row in rows:
        while place < len(times) and times[place] <= row.start_us:
            events.append((0, None, *changes[times[place]]))
            place += 1
        at, paid = row.start_us, 0
        while place < len(times) and times[place] < row.end_us:
            due = _part(row, times[place])
            events.append((times[place] - at, _less(due, paid), *changes[times[place]]))
            at, paid, place = times[place], due or 0, place + 1
        events.append((row.end_us - at, _less(row.microjoules, paid), [], []))
    events += [(0, None, *changes[time]) for time in times[place:]]
    return events


def _part(row: Reading, until_us: int) -> int | None:
    """Return the joules of a reading up to a time in it, as if they came evenly."""
    if row.microjoules is None:
        return None
    return row.microjoules * (until_us - row.start_us) // (row.end_us - row.start_us)


def _less(due: int | None, paid: int) -> int | None:
    return None if due is None else due - paid


def _whole(raised: Mapping[str, int], total_uj: int) -> dict[str, int]:
    """Return shares in whole microjoules that sum to ``total_uj``: the largest fractions round up.

    Raises:
        FormatError: there is something to share, and nobody to share it.
    """
    shares = {name: value >> _SHIFT for name, value in raised.items()}
    left = total_uj - sum(shares.values())
    if left and not shares:
        raise FormatError("joules of open requests, and no request that pays for them")
    fractions = sorted(raised, key=lambda name: (-(raised[name] % (1 << _SHIFT)), name))
    for name in fractions[:left]:
        shares[name] += 1
    return shares


def _rate(one: Open, rule: Rule) -> int:
    """Return the weight of a request for each unit of time, in fixed point."""
    work = one.output_tokens * MICRO + one.prompt_tokens * rule.prompt_micro
    return max((work << 20) // (one.end_us - one.start_us), 1)


def _tenants(
    requests: Sequence[Open], debits: Mapping[str, int], explained: Mapping[str, int]
) -> tuple[Account, ...]:
    rows: dict[str, tuple[int, int]] = {}
    for one in requests:
        paid, known = rows.get(one.tenant, (0, 0))
        rows[one.tenant] = paid + debits[one.receipt], known + explained.get(one.receipt, 0)
    return tuple(
        Account(name=name, measured_uj=paid, explained_uj=known)
        for name, (paid, known) in sorted(rows.items())
    )


def _check(requests: Sequence[Open]) -> None:
    for one in requests:
        if one.end_us <= one.start_us or one.output_tokens < 1 or one.prompt_tokens < 0:
            raise FormatError(f"request {one.receipt[:16]}: no time, or no tokens")
        if not one.gpus or one.explained_uj < 0:
            raise FormatError(f"request {one.receipt[:16]}: on no GPU, or explains less than none")
    if len({one.receipt for one in requests}) != len(requests):
        raise FormatError("a request stands in the ledger twice")


def _check_rows(gpu: str, rows: Sequence[Reading]) -> None:
    at = None
    for row in rows:
        if row.end_us <= row.start_us or (at is not None and row.start_us < at):
            raise FormatError(f"readings of {gpu} overlap or run backwards at {row.start_us} us")
        if row.microjoules is not None and row.microjoules < 0:
            raise FormatError(f"a reading of {gpu} below nought at {row.start_us} us")
        at = row.end_us
