"""The one beacon round that may decide an epoch.

A gateway that could choose among rounds could choose among audit sets. So it names the round in the
epoch's pledge, and witnesses have to have seen the pledge before that round was due. Reads no clock
itself.
"""

from lydite.errors import FormatError, Reason, VerificationError
from lydite.sampling.beacon import Chain, due_s, first_round_after


def acceptable_round(chain: Chain, cosigned_s: int, margin_s: int) -> int:
    """Return the number of the first round that nobody could know when a note was cosigned.

    Args:
        chain: the beacon that the policy names.
        cosigned_s: when the last cosignature that the policy's quorum needs was made, Unix seconds.
        margin_s: how far the witnesses' clocks may lag behind the beacon's, in seconds.

    Raises:
        FormatError: the margin is negative, so the round could be older than the checkpoint.
    """
    if margin_s < 0:
        raise FormatError(f"beacon margin of {margin_s} s")
    return first_round_after(chain, cosigned_s + margin_s)


def check(chain: Chain, cosigned_s: int, margin_s: int, pledged: int) -> None:
    """Refuse a pledged round that was due before a quorum of witnesses had seen the pledge.

    Raises:
        VerificationError: BAD_BEACON.

    **Does not show** that the round is genuine (``beacon.verify`` does), nor that the witnesses'
    clocks were right to within the margin.
    """
    earliest = acceptable_round(chain, cosigned_s, margin_s)
    if pledged < earliest:
        raise VerificationError(
            Reason.BAD_BEACON,
            f"beacon: round {pledged} was due at {due_s(chain, pledged)}, and its pledge was "
            f"cosigned at {cosigned_s}, in time for round {earliest}",
        )
