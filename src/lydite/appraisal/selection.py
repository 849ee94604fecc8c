"""From an epoch to the receipts that it draws, checked as an outsider would.

Used by the auditor before it audits and by everyone who recounts afterwards. Knows nothing of what
an audit finds.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lydite.appraisal.policy import Policy
from lydite.errors import Reason, VerificationError
from lydite.messages.epoch import Predicate as Epoch
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.sampling.beacon import Chain
from lydite.signing import notes
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.policy import Policy as LogPolicy
from lydite.tlog.policy import accept


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


class Draw(NamedTuple):
    """What an epoch drew: from which checkpoint, witnessed when, and which 1-based entries."""

    checkpoint: Checkpoint
    cosigned_s: int
    entries: list[int]


def drawn(epoch: Epoch, log: LogPolicy, chain: Chain, vrf_key: bytes, policy: Policy) -> Draw:
    """Return an epoch's checkpoint and the entries that it draws, in order.

    1. The checkpoint is the log's, witnessed, and of the size that the epoch says.
    2. The beacon round is genuine and the only one that the schedule allows.
    3. The VRF output is the gateway's over exactly this checkpoint and round.
    4. The rate is at least the policy's.

    Raises:
        FormatError: something is not in its form.
        VerificationError: a step fails.

    **Does not show** that the gateway opened no other epoch and withheld it, nor that the beacon
    was unpredictable: that rests on its chain.
    """
    # 1.
    accepted = witnessed(epoch.checkpoint.encode(), log)
    checkpoint = accepted.checkpoint
    if checkpoint.size != epoch.tree_size:
        raise VerificationError(
            Reason.INCONSISTENT_LOG,
            f"epoch {epoch.epoch} says size {epoch.tree_size}, its checkpoint {checkpoint.size}",
        )
    # 2.
    answer = beacon.from_record(chain, epoch.beacon)
    schedule.check(chain, accepted.cosigned_s, policy.beacon_margin_s, answer)
    randomness = beacon.verify(chain, answer)
    # 3.
    alpha = draw.alpha(
        checkpoint.origin,
        epoch.epoch,
        checkpoint.size,
        checkpoint.root,
        answer.number,
        randomness,
    )
    beta = vrf.verify(vrf_key, alpha, bytes.fromhex(epoch.vrf_proof))
    # 4.
    if epoch.epsilon_ppm < policy.epsilon_ppm:
        raise VerificationError(
            Reason.BAD_RATE,
            f"epoch {epoch.epoch} draws at {epoch.epsilon_ppm} ppm, "
            f"the policy asks for {policy.epsilon_ppm}",
        )
    entries = draw.draw(beta, epoch.first, epoch.tree_size, epoch.epsilon_ppm)
    return Draw(checkpoint, accepted.cosigned_s, entries)


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
