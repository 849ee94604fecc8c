"""The one beacon round that may decide an epoch.

A gateway that could choose among rounds could choose among audit sets. So the round follows from
the witnesses' clock: the first one due after the checkpoint was cosigned, with a margin for clocks
that disagree. Reads no clock itself.
"""

from lydite.errors import FormatError, Reason, VerificationError
from lydite.sampling.beacon import Chain, Round, due_s, first_round_after


def acceptable_round(chain: Chain, cosigned_s: int, margin_s: int) -> int:
    """Return the number of the only round that may decide over a checkpoint.

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


def check(chain: Chain, cosigned_s: int, margin_s: int, beacon: Round) -> None:
    """Refuse a round other than the acceptable one: earlier was predictable, later was chosen.

    Raises:
        VerificationError: BAD_BEACON.

    **Does not show** that the round is genuine (``beacon.verify`` does), nor that the witnesses'
    clocks were right to within the margin.
    """
    expected = acceptable_round(chain, cosigned_s, margin_s)
    if beacon.number != expected:
        raise VerificationError(
            Reason.BAD_BEACON,
            f"beacon: round {expected} (due at {due_s(chain, expected)}) decides over a checkpoint "
            f"cosigned at {cosigned_s}, not round {beacon.number}",
        )
