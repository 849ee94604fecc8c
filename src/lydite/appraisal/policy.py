"""The appraisal policy: which evidence counts, how much, and what is done at which level.

A policy is a document with a digest; a relying party pins the digest. Knows no provider.
"""

import hashlib

from lydite.errors import FormatError
from lydite.messages.calibration import BY_BINS, Method
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode
from lydite.messages.epoch import Ppm

WHOLE_PPM = 1_000_000


class Weight(Message, frozen=True, kw_only=True):
    """The fixed share of one channel in the merged e-process."""

    channel: Word
    weight_ppm: Ppm


class Policy(Message, frozen=True, kw_only=True):
    """What a relying party asks for before it calls a provider consistent or inconsistent.

    ``accuse_milli`` and ``suspect_milli`` are levels of log10 E in thousandths: by Ville's
    inequality an honest provider ever reaches an accusation with probability at most
    10^(-accuse_milli/1000). ``alternatives`` name the cheats that have to be excluded, with power
    90 %, before the provider is called consistent. ``scored_ppm`` is the least share of drawn
    answers that must have been scored, ``odd_ppm`` the largest share that may be odd by the
    answer's own doing before the provider is called misconfigured. ``method`` names the
    arithmetic from scores to e-values, so that a verdict is never recomputed by another one.
    """

    name: Word
    method: Method = BY_BINS
    mandatory: tuple[Word, ...]
    weights: tuple[Weight, ...]
    alternatives: tuple[Word, ...]
    accuse_milli: Count
    suspect_milli: Count
    epsilon_ppm: Ppm
    beacon_margin_s: Count
    scored_ppm: Ppm
    odd_ppm: Ppm


def parse(payload: bytes) -> Policy:
    """Parse a policy and check that it can be met and means something.

    Raises:
        FormatError: not canonical, weights that do not sum to one, an empty or repeated name.
    """
    policy = decode(payload, Policy, limit=1 << 16)
    check(policy)
    return policy


def check(policy: Policy) -> None:
    """Refuse a policy that would affirm on nothing or spend more than its error budget."""
    if sum(w.weight_ppm for w in policy.weights) != WHOLE_PPM:
        raise FormatError(f"policy {policy.name}: weights do not sum to {WHOLE_PPM} ppm")
    if len({w.channel for w in policy.weights}) != len(policy.weights):
        raise FormatError(f"policy {policy.name}: a channel is weighted twice")
    if not policy.mandatory or not policy.alternatives:
        raise FormatError(f"policy {policy.name}: names no mandatory evidence or no alternative")
    if not 0 < policy.suspect_milli <= policy.accuse_milli:
        raise FormatError(f"policy {policy.name}: suspicion must come before accusation")
    if policy.epsilon_ppm == 0 or policy.scored_ppm == 0:
        raise FormatError(f"policy {policy.name}: a rate of zero would affirm on nothing")


def digest(policy: Policy) -> Hex32:
    """Return the digest by which relying parties pin this policy."""
    return hashlib.sha256(encode(policy)).hexdigest()


DEFAULT = Policy(
    name="tokens-1",
    mandatory=("tokens",),
    weights=(
        Weight(channel="tokens/margin", weight_ppm=500_000),
        Weight(channel="tokens/surprisal", weight_ppm=500_000),
    ),
    alternatives=("int4-weights",),
    accuse_milli=4000,
    suspect_milli=1301,
    epsilon_ppm=10_000,
    beacon_margin_s=1,
    scored_ppm=900_000,
    odd_ppm=10_000,
)
"""The embedded default: accuse at 10^4, suspect at 20, audit at least 1 % of requests, affirm only
if 90 % of the drawn answers could be scored and at most 1 % of them were odd."""
