"""C2SP tlog-policy: which logs are accepted, and which witnesses are enough.

Knows nothing of how cosignatures are gathered, and reads no clock.
"""

import re
from collections.abc import Mapping

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints

MAX_POLICY_BYTES = 1 << 20
"""Longest policy that is looked at."""
NONE = "none"
"""The quorum that asks for no witness."""

_ALLOWED = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*")
_MAX_DEPTH = 64


class Log(msgspec.Struct, frozen=True):
    """An accepted log, and where it may be reached."""

    key: notes.VerifierKey
    url: str | None = None


class Witness(msgspec.Struct, frozen=True):
    """A witness, and where it may be reached."""

    key: notes.VerifierKey
    url: str | None = None


class Group(msgspec.Struct, frozen=True):
    """At least ``threshold`` of ``members`` (witnesses or groups, by name)."""

    threshold: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """A parsed policy. Names are those of the policy file."""

    logs: tuple[Log, ...]
    witnesses: Mapping[str, Witness]
    groups: Mapping[str, Group]
    quorum: str


class Accepted(msgspec.Struct, frozen=True):
    """A checkpoint that satisfies a policy.

    ``time_s`` (POSIX seconds) is the earliest moment by which the witnesses that cosigned made up
    the quorum; None where the quorum is ``none``. ``witnesses`` are the names of all that cosigned.
    """

    checkpoint: checkpoints.Checkpoint
    time_s: int | None
    witnesses: tuple[str, ...]
    ignored: int


def parse(text: bytes) -> Policy:
    """Parse a policy file.

    Raises:
        FormatError: a line that is not of the four kinds, a name used twice or before its
            definition, a key given twice, a threshold out of range, or not exactly one quorum.
    """
    if len(text) > MAX_POLICY_BYTES:
        raise FormatError(f"policy: more than {MAX_POLICY_BYTES} bytes", Reason.TOO_LARGE)
    if not _ALLOWED.fullmatch(text) or not text.endswith(b"\n"):
        raise FormatError("policy: expected lines of text, each ending in a newline")
    reader = _Reader()
    # Names are opaque octets: undecodable ones survive as lone surrogates, one for each.
    for number, line in enumerate(text.decode(errors="surrogateescape").split("\n"), start=1):
        words = re.split("[ \t]+", line.strip(" \t"))
        if words[0] and not words[0].startswith("#"):
            try:
                reader.read(words[0], words[1:])
            except FormatError as error:
                raise FormatError(f"policy, line {number}: {error}", error.reason) from error
    return reader.policy()


def accept(note: notes.Note, policy: Policy) -> Accepted:
    """Check the checkpoint in ``note`` against ``policy``.

    1. Its origin is that of a log of the policy, and that log signed it.
    2. No line by a witness of the policy is bad.
    3. The witnesses that cosigned make up the quorum.

    Raises:
        FormatError: the note holds no checkpoint.
        VerificationError: 1 (``WRONG_ORIGIN``, ``UNKNOWN_KEY``, ``BAD_SIGNATURE``), 2
            (``BAD_SIGNATURE``) or 3 (``UNWITNESSED``) fails.

    **Does not show** that the time is right if a quorum of witnesses is dishonest: it is at or
    after the creation of the checkpoint as long as the dishonest ones alone make up no quorum.
    """
    # 1. and 2.
    logs = [log.key for log in policy.logs]
    keys = [witness.key for witness in policy.witnesses.values()]
    opened = checkpoints.open_note(note, logs, keys)
    times = {signed.key: signed.time_s for signed in opened.verified.signed}
    witnessed = {
        name: time_s
        for name, witness in policy.witnesses.items()
        if (time_s := times.get(witness.key)) is not None
    }
    # 3.
    time_s = None
    if policy.quorum != NONE:
        time_s = _time_of(policy.quorum, policy, witnessed)
        if time_s is None:
            raise VerificationError(
                Reason.UNWITNESSED,
                f"policy: {len(witnessed)} witnesses do not make up {policy.quorum}",
            )
    return Accepted(
        checkpoint=opened.checkpoint,
        time_s=time_s,
        witnesses=tuple(witnessed),
        ignored=opened.verified.ignored,
    )


def _time_of(name: str, policy: Policy, witnessed: Mapping[str, int]) -> int | None:
    """Return when ``name`` had witnessed: for a group, the time of its k-th member to do so."""
    group = policy.groups.get(name)
    if group is None:
        return witnessed.get(name)
    times = sorted(
        time_s
        for member in group.members
        if (time_s := _time_of(member, policy, witnessed)) is not None
    )
    return times[group.threshold - 1] if len(times) >= group.threshold else None


class _Reader:
    """Takes a policy line by line, each kind by its own method."""

    def __init__(self) -> None:
        self._logs: dict[bytes, Log] = {}
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._depths: dict[str, int] = {}
        self._members: set[str] = set()
        self._quorums: list[str] = []

    def read(self, word: str, rest: list[str]) -> None:
        """Take one line, split into words."""
        kinds = {
            "log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum
        }  # fmt: skip
        if word not in kinds:
            raise FormatError("expected log, witness, group or quorum")
        kinds[word](rest)

    def policy(self) -> Policy:
        """Return what was read."""
        if len(self._quorums) != 1:
            raise FormatError(f"policy: expected one quorum line, got {len(self._quorums)}")
        keys = {witness.key.public for witness in self._witnesses.values()}
        if keys & self._logs.keys():
            raise FormatError("policy: a log cannot be its own witness")
        return Policy(
            logs=tuple(self._logs.values()),
            witnesses=self._witnesses,
            groups=self._groups,
            quorum=self._quorums[0],
        )

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise FormatError("expected log <vkey> [<url>]")
        key = _key(words[0], notes.Kind.ED25519)
        if key.public in self._logs:
            raise FormatError("this log's key was given before")
        self._logs[key.public] = Log(key=key, url=words[1] if words[1:] else None)

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise FormatError("expected witness <name> <vkey> [<url>]")
        key = _key(words[1], notes.Kind.COSIGNATURE)
        if any(witness.key.public == key.public for witness in self._witnesses.values()):
            raise FormatError("this witness's key was given before")
        self._define(words[0], depth=0)
        self._witnesses[words[0]] = Witness(key=key, url=words[2] if words[2:] else None)

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise FormatError("expected group <name> <k|any|all> <name>...")
        name, threshold, *members = words
        for member in members:
            if member not in self._depths:
                raise FormatError(f"{member} is not defined above")
            if member in self._members:
                raise FormatError(f"{member} is a member twice")
            self._members.add(member)
        self._define(name, depth=1 + max(self._depths[member] for member in members))
        self._groups[name] = Group(
            threshold=_threshold(threshold, len(members)), members=tuple(members)
        )

    def _quorum(self, words: list[str]) -> None:
        if len(words) != 1:
            raise FormatError("expected quorum <name>")
        if words[0] != NONE and words[0] not in self._depths:
            raise FormatError(f"{words[0]} is not defined above")
        self._quorums.append(words[0])

    def _define(self, name: str, depth: int) -> None:
        if name == NONE or name in self._depths:
            raise FormatError(f"the name {name} is taken")
        if depth > _MAX_DEPTH:
            raise FormatError(f"groups nest deeper than {_MAX_DEPTH}", Reason.TOO_LARGE)
        self._depths[name] = depth


def _key(vkey: str, kind: notes.Kind) -> notes.VerifierKey:
    key = notes.parse_key(vkey)
    if key.kind is not kind:
        raise FormatError(f"expected a key of type {kind:#04x}, got {key.kind:#04x}")
    return key


def _threshold(word: str, members: int) -> int:
    if word in ("any", "all"):
        return 1 if word == "any" else members
    threshold = int(word) if re.fullmatch("[1-9][0-9]{0,5}", word) else 0
    if not 1 <= threshold <= members:
        raise FormatError(f"expected any, all or a number from 1 to {members}, got {word}")
    return threshold
