"""The commands: one method each, typed, every refusal by name. Part 3 of the specification.

Holds no state but the connection. What it loads the caller flushes; ``loaded`` does so.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lydite.errors import DeviceError, Reason
from lydite.tpm import codec, sessions
from lydite.tpm.codec import Reader, pcr_selection, sized, u8, u16, u32
from lydite.tpm.sessions import Authorisation, Password, Session
from lydite.tpm.transport import Transport

_AGAIN = {0x908, 0x90A, 0x920, 0x922}
"""Not now: the TPM did nothing, and takes the same command again."""
_TRIES = 40
_WAIT_S = 0.05
_HMAC, _POLICY, _TRIAL = 0x00, 0x01, 0x03
_PCRS_AT_ONCE = 8
_TRANSIENT, _LOADED_SESSION, _SAVED_SESSION = 0x80000000, 0x02000000, 0x03000000


class Handle(NamedTuple):
    """What a command acts on, and the name under which authorisations are bound to it."""

    number: int
    name: bytes


class Primary(NamedTuple):
    """A storage key of the TPM's own making, and its public point."""

    handle: Handle
    point: sessions.Point


def permanent(number: int) -> Handle:
    """Return the handle of a hierarchy or of a register, which is its own name."""
    return Handle(number, u32(number))


class Tpm:
    """A TPM behind a connection."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.managed = transport.managed

    def run(
        self,
        code: int,
        handles: Sequence[Handle] = (),
        parameters: bytes = b"",
        authorisations: Sequence[Authorisation] = (),
        returns_handle: bool = False,
    ) -> Reader:
        """Run one command and return its answer's handle, if any, and parameters.

        Raises:
            DeviceError: no answer, a refusal (``code`` says which), or one that is not authentic.
        """
        salted = _roll(authorisations)
        if salted is not None and salted.attributes & sessions.DECRYPT:
            first = Reader(parameters)
            hidden = salted.encrypt(first.sized())
            parameters = sized(hidden) + first.rest()
        body = b"".join(u32(handle.number) for handle in handles)
        if authorisations:
            names = b"".join(handle.name for handle in handles)
            digest = hashlib.sha256(u32(code) + names + parameters).digest()
            area = b"".join(_authorise(each, digest) for each in authorisations)
            body += u32(len(area)) + area
        tag = codec.SESSIONS if authorisations else codec.NO_SESSIONS
        answer = self._send(code, tag, body + parameters)
        handle = answer.take(4) if returns_handle else b""
        if not authorisations:
            return Reader(handle + answer.rest())
        content = answer.take(answer.u32())
        digest = hashlib.sha256(u32(0) + u32(code) + content).digest()
        for each in authorisations:
            _accept(each, digest, answer)
        answer.end()
        if salted is not None and salted.attributes & sessions.ENCRYPT:
            first = Reader(content)
            content = sized(salted.decrypt(first.sized())) + first.rest()
        return Reader(handle + content)

    def _send(self, code: int, tag: int, body: bytes) -> Reader:
        command = u16(tag) + u32(10 + len(body)) + u32(code) + body
        for _ in range(_TRIES):
            answer = Reader(self._transport.transmit(command))
            back, size, result = answer.u16(), answer.u32(), answer.u32()
            if result in _AGAIN:
                time.sleep(_WAIT_S)
                continue
            if result:
                raise DeviceError(
                    f"the TPM refused command 0x{code:x}: {codec.name(result)}",
                    Reason.TPM_REFUSED,
                    code=result,
                )
            rest = answer.rest()
            if back != tag or size != 10 + len(rest):
                raise DeviceError("the TPM's answer has another header", Reason.MALFORMED)
            return Reader(rest)
        raise DeviceError("the TPM puts its work off for ever")

    def startup(self) -> None:
        """Start a TPM that nobody started (``TPM2_Startup(CLEAR)``); a started one says so."""
        try:
            self.run(0x144, parameters=u16(0))
        except DeviceError as error:
            if error.code != 0x100:
                raise

    def random(self, count: int) -> bytes:
        """Return ``count`` bytes of the TPM's randomness, at most 32."""
        return self.run(0x17B, parameters=u16(count)).sized(count)

    def handles(self, first: int) -> tuple[int, ...]:
        """Return the handles of the kind of ``first`` that are loaded or defined.

        A policy session's own handle is of the kind of saved ones, loaded or not.
        """
        answer = self.run(0x17A, parameters=u32(1) + u32(first) + u32(254))
        answer.u8()
        answer.u32()
        return tuple(answer.u32() for _ in range(answer.u32()))

    def property(self, number: int) -> int:
        """Return one of the TPM's fixed or variable properties (``TPM_PT``)."""
        answer = self.run(0x17A, parameters=u32(6) + u32(number) + u32(1))
        answer.u8()
        answer.u32()
        if answer.u32() != 1 or answer.u32() != number:
            raise DeviceError(f"the TPM has no property 0x{number:x}", Reason.TPM_REFUSED)
        return answer.u32()

    def flush(self, handle: int) -> None:
        """Unload an object or a session."""
        self.run(0x165, parameters=u32(handle))

    def flush_leftovers(self) -> None:
        """Unload what a killed user left, where no resource manager does; for a sole user."""
        if self.managed:
            return
        for kind in (_TRANSIENT, _LOADED_SESSION, _SAVED_SESSION):
            for handle in self.handles(kind):
                self.flush(handle)

    @contextlib.contextmanager
    def loaded(self, handle: int) -> Iterator[None]:
        """Unload ``handle`` at the end."""
        try:
            yield
        finally:
            with contextlib.suppress(DeviceError):  # the first error is the one to tell
                self.flush(handle)

    def pcr_read(self, pcrs: Sequence[int]) -> dict[int, bytes]:
        """Return the SHA-256 values of registers, by number.

        Raises:
            DeviceError: the TPM keeps no SHA-256 bank of one of them.
        """
        found: dict[int, bytes] = {}
        wanted = sorted(set(pcrs))
        for start in range(0, len(wanted), _PCRS_AT_ONCE):
            asked = tuple(wanted[start : start + _PCRS_AT_ONCE])
            answer = self.run(0x17E, parameters=pcr_selection(asked))
            answer.u32()
            if answer.take(len(pcr_selection(asked))) != pcr_selection(asked):
                raise DeviceError("the TPM has no such SHA-256 register", Reason.TPM_REFUSED)
            count = answer.u32()
            values = [answer.sized(32) for _ in range(count)]
            found |= dict(zip(asked, values, strict=True))
        return found

    def pcr_extend(self, pcr: int, digest: bytes) -> None:
        """Extend a register's SHA-256 bank by 32 bytes."""
        value = u32(1) + u16(codec.SHA256) + digest
        self.run(0x182, [permanent(pcr)], value, [Password()])

    def pcr_reset(self, pcr: int) -> None:
        """Set a register to zero; most can only be reset by a reboot."""
        self.run(0x13D, [permanent(pcr)], b"", [Password()])

    def start_session(self, kind: int, salted: Primary | None = None) -> Session:
        """Start a session, salted if a storage key is given; the caller flushes it."""
        caller = os.urandom(32)
        salt, told, key_handle = b"", b"", codec.NULL_HIERARCHY
        symmetric = u16(codec.NULL)
        if salted is not None:
            salt, told = sessions.salt_for(salted.point)
            key_handle = salted.handle.number
            symmetric = u16(codec.AES) + u16(128) + u16(codec.CFB)
        answer = self.run(
            0x176,
            [permanent(key_handle), permanent(codec.NULL_HIERARCHY)],
            sized(caller) + sized(told) + u8(kind) + symmetric + u16(codec.SHA256),
            returns_handle=True,
        )
        handle, tpm = answer.u32(), answer.sized(64)
        key = sessions.kdfa(salt, b"ATH", tpm, caller, 256) if salt else b""
        session = Session(handle, (caller, tpm), key)
        session.policy = kind != _HMAC
        return session

    @contextlib.contextmanager
    def hmac_session(self, value: bytes, salted: Primary | None = None) -> Iterator[Session]:
        """Yield a session that authorises with ``value``, which never travels."""
        session = self.start_session(_HMAC, salted)
        session.value = value
        with self.loaded(session.handle):
            yield session

    @contextlib.contextmanager
    def policy_session(
        self, salted: Primary | None = None, *, trial: bool = False
    ) -> Iterator[Session]:
        """Yield a policy session; a trial only computes what a policy's digest is."""
        session = self.start_session(_TRIAL if trial else _POLICY, salted)
        with self.loaded(session.handle):
            yield session

    def policy_pcr(self, session: Session, pcrs: tuple[int, ...], digest: bytes = b"") -> None:
        """Hold a session to the registers' present values, or to ``digest`` over them."""
        parameters = sized(digest) + pcr_selection(pcrs)
        self.run(0x17F, [permanent(session.handle)], parameters)

    def policy_digest(self, session: Session) -> bytes:
        """Return what a session's policy amounts to so far."""
        return self.run(0x189, [permanent(session.handle)]).sized(64)


def _roll(authorisations: Sequence[Authorisation]) -> Session | None:
    """Give each session its next nonce, and return the one that hides a parameter."""
    found = None
    live = [each for each in authorisations if isinstance(each, Session)]
    for each in live:
        each.roll()
        if each.attributes & (sessions.DECRYPT | sessions.ENCRYPT):
            found = each
    if found is not None and len(live) > 1:  # their HMACs would depend on one another
        raise DeviceError("only one session a command where a parameter is hidden")
    return found


def _authorise(each: Authorisation, digest: bytes) -> bytes:
    if isinstance(each, Session):
        return each.authorise(digest)
    return u32(codec.PASSWORD) + sized(b"") + u8(sessions.CONTINUE) + sized(b"")


def _accept(each: Authorisation, digest: bytes, answer: Reader) -> None:
    if isinstance(each, Session):
        each.accept(digest, answer)
        return
    answer.sized(0)
    answer.u8()
    answer.sized(0)
