"""From an epoch to the receipts that it draws, checked as an outsider would.

Used by the auditor before it audits and by everyone who recounts afterwards. Knows nothing of what
an audit finds.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lydite.appraisal.policy import Policy
from lydite.errors import Reason, VerificationError
from lydite.messages import entropy
from lydite.messages.epoch import Predicate as Epoch
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.sampling.beacon import Chain
from lydite.signing import notes
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.policy import Policy as LogPolicy
from lydite.tlog.policy import accept

_SPARE = 100
"""Beyond twice of what is shown: a draw of few may come out far below its mean."""


class Witnessed(NamedTuple):
    """A checkpoint, the Unix second by which a quorum had cosigned it, and who did."""

    checkpoint: Checkpoint
    cosigned_s: int
    witnesses: tuple[str, ...]


def witnessed(note: bytes, log: LogPolicy) -> Witnessed:
    """Return a checkpoint that a quorum of witnesses cosigned, and when it had done so.

    Raises:
        FormatError: not a signed note over a checkpoint.
        VerificationError: not signed by the log, of another log, or too few witnesses.

    **Does not show** that the witnesses' clocks are right.
    """
    accepted = accept(notes.parse(note), log)
    if accepted.time_s is None:
        raise VerificationError(Reason.UNWITNESSED, "the trust file asks for no witness")
    return Witnessed(accepted.checkpoint, accepted.time_s, accepted.witnesses)


class Pledged(NamedTuple):
    """A pledge that is in the log: its 1-based entry, what it says, and its statement's SHA-256."""

    entry: int
    said: entropy.Predicate
    digest: bytes


class Turn(NamedTuple):
    """An epoch's checkpoint, the Unix second by which it was cosigned, and the VRF's output."""

    checkpoint: Checkpoint
    cosigned_s: int
    beta: bytes


class Draw(NamedTuple):
    """What an epoch drew: from which checkpoint, witnessed when, and which 1-based entries."""

    checkpoint: Checkpoint
    cosigned_s: int
    entries: list[int]


def drawn(
    epoch: Epoch, pledge: Pledged, log: LogPolicy, chain: Chain, vrf_key: bytes, policy: Policy
) -> Draw:
    """Return an epoch's checkpoint and the entries that it draws, in order.

    The work grows with the range, so callers bound that first; ``turn`` has the steps and errors.
    """
    checkpoint, cosigned_s, beta = turn(epoch, pledge, log, chain, vrf_key, policy)
    entries = draw.draw(beta, epoch.first, epoch.tree_size, epoch.epsilon_ppm)
    return Draw(checkpoint, cosigned_s, entries)


def turn(
    epoch: Epoch, pledge: Pledged, log: LogPolicy, chain: Chain, vrf_key: bytes, policy: Policy
) -> Turn:
    """Return what an epoch draws with: ``draw.selected`` says then whether it draws an entry.

    1. The checkpoint is the log's, witnessed, and covers everything that the epoch draws from.
    2. The epoch is the one that was pledged, and reveals what the pledge committed to.
    3. The beacon round is genuine, and was due after the witnesses had seen the pledge.
    4. The VRF output is the gateway's over exactly this pledge, round and randomness.
    5. The rate is at least the policy's, and a range that was pledged again is drawn whole.

    Raises:
        FormatError: something is not in its form.
        VerificationError: a step fails.

    **Does not show** that this is the log's first pledge of the epoch (``check_pledge`` does, for
    those who have the whole log), that the gateway opened no other epoch and withheld it, nor that
    the beacon was unpredictable: that rests on its chain.
    """
    # 1.
    accepted = witnessed(epoch.checkpoint.encode(), log)
    checkpoint = accepted.checkpoint
    if checkpoint.size < epoch.tree_size:
        raise VerificationError(
            Reason.INCONSISTENT_LOG, f"epoch {epoch.epoch} draws beyond its checkpoint"
        )
    # 2.
    revealed = _revealed(epoch, pledge)
    # 3.
    answer = beacon.from_record(chain, epoch.beacon)
    schedule.check(chain, accepted.cosigned_s, policy.beacon_margin_s, answer.number)
    randomness = beacon.verify(chain, answer)
    # 4.
    when = (checkpoint.origin, epoch.epoch, epoch.tree_size)
    alpha = draw.alpha(*when, pledge.digest, answer.number, randomness, revealed)
    beta = vrf.verify(vrf_key, alpha, bytes.fromhex(epoch.vrf_proof))
    # 5.
    least = policy.epsilon_ppm if pledge.said.attempt == 1 else draw.MILLION
    if epoch.epsilon_ppm < least:
        raise VerificationError(
            Reason.BAD_RATE,
            f"epoch {epoch.epoch} draws at {epoch.epsilon_ppm} ppm in pledge "
            f"{pledge.said.attempt}, the least is {least}",
        )
    return Turn(checkpoint, accepted.cosigned_s, beta)


def extent(shown: int) -> int:
    """Return how much may be drawn from, in expected draws per million, to show ``shown`` of it.

    So that recounting takes no longer than what is shown is worth, whatever size a log claims:
    where twice as many and a hundred are expected, so few come with a chance below 2^-50.
    """
    return draw.MILLION * (2 * shown + _SPARE)


def spend(left: int, epoch: Epoch) -> int:
    """Return what an epoch leaves of an ``extent``.

    Raises:
        VerificationError: it draws from more.
    """
    left -= max(0, epoch.tree_size - epoch.first + 1) * epoch.epsilon_ppm
    if left < 0:
        raise VerificationError(
            Reason.AUDIT_MISSING,
            f"epoch {epoch.epoch} draws at {epoch.epsilon_ppm} ppm up to entry {epoch.tree_size}: "
            "what is shown cannot be all that was drawn",
        )
    return left


def _revealed(epoch: Epoch, pledge: Pledged) -> entropy.Entropy:
    """Return the randomness that an epoch reveals, if that is what was pledged."""
    said, revealed = pledge.said, entropy.Entropy(bytes.fromhex(epoch.entropy))
    pledged = (said.epoch, said.first, said.epsilon_ppm, said.chain, said.round, said.provider)
    ours = (
        epoch.epoch,
        epoch.first,
        epoch.epsilon_ppm,
        epoch.beacon.chain,
        epoch.beacon.round,
        epoch.provider,
    )
    if pledged != ours or pledge.entry != epoch.tree_size:
        raise VerificationError(
            Reason.BAD_ENTROPY,
            f"epoch {epoch.epoch} is not what entry {pledge.entry} pledged",
        )
    if entropy.commit(said.epoch, said.attempt, revealed).hex() != said.commitment:
        raise VerificationError(
            Reason.BAD_ENTROPY, f"epoch {epoch.epoch} reveals other randomness than was pledged"
        )
    return revealed


def check_pledge(
    pledge: entropy.Predicate, earlier: Sequence[int], epochs: Sequence[Epoch]
) -> None:
    """Check a pledge against all that the log holds before it: the first of an epoch counts.

    Args:
        pledge: what it says.
        earlier: the epochs' numbers of the pledges that stand before it, in order.
        epochs: the epochs that stand before it, in order.

    Raises:
        VerificationError: it is for another epoch than the next, for another range, or does not
            own to being the second or later of its epoch.
    """
    number = len(epochs) + 1
    first = epochs[-1].tree_size + 1 if epochs else 1
    attempt = sum(each == number for each in earlier) + 1
    if (pledge.epoch, pledge.first, pledge.attempt) != (number, first, attempt):
        raise VerificationError(
            Reason.BAD_ENTROPY,
            f"pledge {pledge.attempt} of epoch {pledge.epoch} from entry {pledge.first}, expected "
            f"pledge {attempt} of epoch {number} from entry {first}",
        )


def check_contiguous(epochs: Sequence[Epoch]) -> None:
    """Check that the epochs, in order, draw from every entry up to the last exactly once.

    Raises:
        VerificationError: a gap, an overlap, or an epoch out of turn.
    """
    expected = 1
    for number, epoch in enumerate(epochs, start=1):
        if epoch.epoch != number or epoch.first != expected or epoch.tree_size < epoch.first:
            raise VerificationError(
                Reason.SELECTION_GAP,
                f"epoch {epoch.epoch} draws entries {epoch.first} to {epoch.tree_size}, "
                f"expected epoch {number} from entry {expected}",
            )
        expected = epoch.tree_size + 1
