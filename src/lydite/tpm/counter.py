"""A counter in the TPM that only ever goes up, and that nobody else can read or raise.

Its authorisation travels in no message: answers are proved by it, so neither a stranger on the bus
nor a counter that somebody put in its place can make up a number. Whoever owns the TPM can remove
it; a counter made anew begins above every number that any counter of that TPM has had.
"""

import secrets
from typing import NamedTuple

from lydite.errors import DeviceError, Reason, SealError
from lydite.tpm import codec, objects, sessions
from lydite.tpm.codec import Reader, sized, u16, u32
from lydite.tpm.commands import Handle, Tpm, permanent
from lydite.tpm.sessions import Password

_AUTH_WRITE, _COUNTER, _AUTH_READ, _NO_LOCKOUT, _WRITTEN = 1 << 2, 1 << 4, 1 << 18, 1 << 25, 1 << 29
POLICY_WRITE, POLICY_READ = 1 << 3, 1 << 19
_ATTRIBUTES = _AUTH_WRITE | _COUNTER | _AUTH_READ | _NO_LOCKOUT
_FIRST, _LAST = 0x01800000, 0x01BFFFFF
"""Indices that the TPM's owner may use."""
_DEFINED = 0x14C
_BYTES = 8


class Space(NamedTuple):
    """The public area of an NV index."""

    number: int
    attributes: int
    policy: bytes
    size: int
    name: bytes

    @property
    def handle(self) -> Handle:
        """What commands on it take."""
        return Handle(self.number, self.name)


def public_area(index: int, attributes: int, size: int, policy: bytes = b"") -> bytes:
    """Return a ``TPMS_NV_PUBLIC``."""
    return u32(index) + u16(codec.SHA256) + u32(attributes) + sized(policy) + u16(size)


def read_public(tpm: Tpm, index: int) -> Space:
    """Return what an index is; whoever is on the bus may make this up."""
    answer = tpm.run(0x169, [permanent(index)])
    area = Reader(answer.sized())
    number, _, attributes = area.u32(), area.u16(), area.u32()
    policy, size = area.sized(64), area.u16()
    return Space(number, attributes, policy, size, answer.sized(68))


def define_space(tpm: Tpm, area: bytes, value: bytes) -> None:
    """Make an index that ``value``, encrypted on its way, authorises."""
    parent = objects.create_primary(tpm)
    with tpm.loaded(parent.handle.number), tpm.hmac_session(b"", parent) as session:
        session.attributes |= sessions.DECRYPT
        tpm.run(0x12A, [permanent(codec.OWNER)], sized(value) + sized(area), [Password(), session])


def undefine_space(tpm: Tpm, index: int) -> None:
    """Remove an index, with the empty authorisation of the owner."""
    space = read_public(tpm, index)
    tpm.run(0x122, [permanent(codec.OWNER), space.handle], b"", [Password()])


def read_space(tpm: Tpm, space: Space, value: bytes, size: int) -> bytes:
    """Return the first ``size`` bytes of an index; the answer is authentic."""
    with tpm.hmac_session(value) as session:
        parameters = u16(size) + u16(0)
        return tpm.run(0x14E, [space.handle, space.handle], parameters, [session]).sized(size)


class Counter:
    """One counter, by its index and what authorises it."""

    def __init__(self, index: int, value: bytes) -> None:
        self.index = index
        self._value = value

    @classmethod
    def create(cls, tpm: Tpm, value: bytes) -> "Counter":
        """Make a counter at a free index, and count it to its first number.

        Raises:
            DeviceError: the TPM has no room.
        """
        while True:
            index = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
            try:
                define_space(tpm, public_area(index, _ATTRIBUTES, _BYTES), value)
            except DeviceError as error:
                if error.code == _DEFINED:
                    continue
                raise
            made = cls(index, value)
            made.increment(tpm)
            return made

    def read(self, tpm: Tpm) -> int:
        """Return the number that it stands at.

        Raises:
            SealError: it is gone, or another is in its place (``COUNTER_LOST``).
        """
        space = self._space(tpm)
        if space.attributes & ~_WRITTEN != _ATTRIBUTES or space.size != _BYTES:
            raise _lost(f"index 0x{self.index:08x} is not a counter of ours")
        try:
            return int.from_bytes(read_space(tpm, space, self._value, _BYTES), "big")
        except DeviceError as error:
            raise self._strange(error) from error

    def increment(self, tpm: Tpm) -> None:
        """Count up by one.

        Raises:
            SealError: it is gone, or another is in its place (``COUNTER_LOST``).
        """
        space = self._space(tpm)
        try:
            with tpm.hmac_session(self._value) as session:
                tpm.run(0x134, [space.handle, space.handle], b"", [session])
        except DeviceError as error:
            raise self._strange(error) from error

    def _space(self, tpm: Tpm) -> Space:
        try:
            return read_public(tpm, self.index)
        except DeviceError as error:
            raise self._strange(error) from error

    def _strange(self, error: DeviceError) -> DeviceError | SealError:
        if error.reason in {Reason.TPM_REFUSED, Reason.BAD_SIGNATURE}:
            return _lost(f"the counter at 0x{self.index:08x} is gone or another's: {error}")
        return error


def _lost(message: str) -> SealError:
    return SealError(Reason.COUNTER_LOST, message)
