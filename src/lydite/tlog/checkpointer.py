"""Keeps the log's newest checkpoint young and witnessed.

A checkpoint is signed at every beat at which the log has grown, and each witness is asked at once,
in a thread. What witnesses say is verified by their client; who is enough is the policy's to say.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lydite.errors import LyditeError, Reason, UnavailableError, VerificationError
from lydite.signing import notes
from lydite.tlog import policy as policies
from lydite.tlog.policy import Policy
from lydite.tlog.proof import Proof
from lydite.tlog.store import LogStore
from lydite.tlog.witness_client import WitnessClient

_logger = logging.getLogger(__name__)


class Witnessed(NamedTuple):
    """A checkpoint that enough witnesses cosigned: its note, and what the policy made of it."""

    note: bytes
    accepted: policies.Accepted


class Checkpointer:
    """Signs checkpoints of one log and gathers cosignatures, one round at a time."""

    def __init__(
        self,
        log: LogStore,
        policy: Policy,
        witnesses: tuple[WitnessClient, ...],
        beat_s: float,
        before: Callable[[], None],
    ) -> None:
        """``before`` makes safe what the log is completed from, and is called before each round."""
        self._log = log
        self._policy = policy
        self._witnesses = witnesses
        self._beat_s = beat_s
        self._lock = asyncio.Lock()
        self._threads = ThreadPoolExecutor(1 + len(witnesses), thread_name_prefix="checkpoint")
        self._covered = -1
        self._before = before

    async def run(self) -> None:
        """Do a round at every beat at which there is something to do, until cancelled."""
        while True:
            await asyncio.sleep(self._beat_s)
            if not self.behind:
                continue
            try:
                await self.witnessed()
            except LyditeError as error:
                _logger.warning("checkpoint: %s", error)
            except Exception:  # a bug in one round must not end all later ones unnoticed
                _logger.exception("checkpoint")

    @property
    def behind(self) -> bool:
        """Whether the log has grown since the last witnessed checkpoint."""
        return self._covered != self._log.size

    async def witnessed(self) -> Witnessed:
        """Return a witnessed checkpoint over everything that was in the log when this was called.

        Raises:
            UnavailableError: too few witnesses answered.
            StorageError: the disk refused.
        """
        async with self._lock:
            loop = asyncio.get_running_loop()
            size = self._log.size
            note = await loop.run_in_executor(self._threads, self._publish)
            try:
                found = self._accept(note)
            except VerificationError:
                note = await self._ask(note)
                try:
                    found = self._accept(note)
                except VerificationError as error:
                    raise UnavailableError(f"checkpoint: {error}", Reason.UNWITNESSED) from error
            self._covered = size
            return found

    def newest(self) -> bytes:
        """Return the newest checkpoint that satisfies the policy; before the first, any."""
        if self._policy.quorum == policies.NONE:
            return self._log.checkpoint()
        return self._log.witnessed() or self._log.checkpoint()

    def proof(self, index: int) -> Proof | None:
        """Return the proof of the entry at ``index`` by a checkpoint that satisfies the policy.

        None while no such checkpoint covers it: one that still waits for its witnesses proves
        nothing to those who ask for them.
        """
        try:
            proof = self._log.proof(index)
            policies.accept(proof.note, self._policy)
        except (UnavailableError, VerificationError):
            return None
        return proof

    def close(self) -> None:
        """Close the connections to the witnesses."""
        self._threads.shutdown()
        for witness in self._witnesses:
            witness.close()

    def _publish(self) -> bytes:
        self._before()
        return self._log.publish()

    def _accept(self, note: bytes) -> Witnessed:
        return Witnessed(note, policies.accept(notes.parse(note), self._policy))

    async def _ask(self, note: bytes) -> bytes:
        """Ask every witness, and return the checkpoint with what they answered."""
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(
            *(
                loop.run_in_executor(
                    self._threads, witness.cosign, note, self._log.consistency_proof
                )
                for witness in self._witnesses
            ),
            return_exceptions=True,
        )
        cosignatures = []
        for answer in answers:
            if isinstance(answer, notes.Signature):
                cosignatures.append(answer)
            elif isinstance(answer, LyditeError):
                _logger.warning("checkpoint: %s", answer)
            else:
                raise answer
        if not cosignatures:
            return note
        return await loop.run_in_executor(
            self._threads, self._log.attach_cosignatures, note, cosignatures
        )
