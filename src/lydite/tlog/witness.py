"""The decision of a witness (C2SP tlog-witness v1.0.0, add-checkpoint), as a pure function.

Knows nothing of HTTP, disks or clocks: the caller must hold the stored state still between
reading it and keeping the new one, or the log can be rolled back.
"""

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import verification
from lydite.tlog.hashing import EMPTY_ROOT

MAX_HASHES = 63
"""Most lines of a consistency proof."""
MAX_REQUEST_BYTES = 64 + 45 * MAX_HASHES + notes.MAX_NOTE_BYTES
"""Longest request that is looked at."""
SIZE_TYPE = "text/x.tlog.size"
"""Content type of a 409, which says the size that the witness has stored."""

_TEXT_TYPE = "text/plain; charset=utf-8"


class Request(msgspec.Struct, frozen=True):
    """A log asks for a cosignature; nothing in it is verified."""

    old_size: int
    path: tuple[bytes, ...]
    note: notes.Note
    checkpoint: checkpoints.Checkpoint

    def encode(self) -> bytes:
        """Return the body of the request."""
        lines = [f"old {self.old_size}", *(checkpoints.encode_hash(each) for each in self.path)]
        return "\n".join(lines).encode() + b"\n\n" + self.note.encode()


class Witness(msgspec.Struct, frozen=True):
    """Who cosigns, and for which logs (each key bears the origin of its log as its name)."""

    name: str
    signer: notes.Signer
    logs: tuple[notes.VerifierKey, ...]

    @property
    def key(self) -> notes.VerifierKey:
        """Return the key that verifies this witness's cosignatures."""
        return notes.verifier_key(self.name, self.signer, notes.Kind.COSIGNATURE)


class Answer(msgspec.Struct, frozen=True):
    """What to answer, and what to have on disk before answering.

    ``keep`` is the new state; ``evidence`` is a checkpoint that contradicts the stored one, both
    signed by the log: deterministic proof that it misbehaved.
    """

    status: int
    body: bytes
    content_type: str = _TEXT_TYPE
    keep: notes.Note | None = None
    evidence: notes.Note | None = None


def parse_request(body: bytes) -> Request:
    """Parse the body of an add-checkpoint request.

    Raises:
        FormatError: it is none (a 400); sizes are bounded before anything is decoded.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise FormatError(f"request: more than {MAX_REQUEST_BYTES} bytes", Reason.TOO_LARGE)
    head, gap, rest = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if not gap or not first.startswith(b"old "):
        raise FormatError("request: expected an old size, a proof and a checkpoint")
    if len(lines) > MAX_HASHES:
        raise FormatError(f"request: more than {MAX_HASHES} hashes", Reason.TOO_LARGE)
    note = notes.parse(rest)
    return Request(
        old_size=checkpoints.parse_decimal(first.removeprefix(b"old ")),
        path=tuple(checkpoints.decode_hash(line) for line in lines),
        note=note,
        checkpoint=checkpoints.parse(note.text),
    )


def add_checkpoint(
    request: Request, witness: Witness, stored: notes.Note | None, time_s: int
) -> Answer:
    """Decide whether to cosign, given what this witness cosigned last for the same origin.

    1. The origin is known (else 404), and the log signed (else 403).
    2. The old size is not above the new one (else 400), and is the stored one (else 409).
    3. The new tree begins with the stored one (else 422); evidence of a fork is handed out.
    4. The clock has not gone back behind our last cosignature (else 503).

    Raises:
        VerificationError: ``stored`` does not bear this witness's cosignature.

    **Does not show** that the log's entries are good, or that other witnesses see the same tree.
    """
    head, last = request.checkpoint, _last(witness, stored)
    try:
        # 1.
        checkpoints.open_note(request.note, witness.logs)
        # 2.
        if request.old_size > head.size:
            return _refuse(400, f"old size {request.old_size} is above the size {head.size}")
        if request.old_size != last.size:
            return Answer(status=409, body=b"%d\n" % last.size, content_type=SIZE_TYPE)
        # 3.
        verification.consistency(last.size, last.root, head.size, head.root, request.path)
    except FormatError as error:
        return _refuse(400, str(error))
    except VerificationError as error:
        forked = stored is not None and last.size == head.size and last.root != head.root
        signed = error.reason is Reason.INCONSISTENT_LOG
        evidence = request.note if forked and signed else None
        return _refuse(_STATUS[error.reason], str(error), evidence)
    # 4.
    if time_s < last.time_s:
        return _refuse(503, "the clock of this witness is behind its last cosignature")
    cosignature = notes.cosign(request.note.text, witness.name, witness.signer, time_s)
    keys = {(log.name, log.key_id) for log in witness.logs}
    by_log = [each for each in request.note.signatures if (each.name, each.key_id) in keys]
    return Answer(
        status=200,
        body=cosignature.line(),
        keep=notes.Note(text=request.note.text, signatures=(*by_log, cosignature)),
    )


class _Last(msgspec.Struct, frozen=True):
    size: int
    root: bytes
    time_s: int


_STATUS = {
    Reason.WRONG_ORIGIN: 404,
    Reason.UNKNOWN_KEY: 403,
    Reason.BAD_SIGNATURE: 403,
    Reason.INCONSISTENT_LOG: 422,
}


def _last(witness: Witness, stored: notes.Note | None) -> _Last:
    """Return what this witness cosigned last, verifying that it did."""
    if stored is None:
        return _Last(size=0, root=EMPTY_ROOT, time_s=0)
    head = checkpoints.parse(stored.text)
    times = [each.time_s or 0 for each in notes.verify(stored, [witness.key]).signed]
    return _Last(size=head.size, root=head.root, time_s=max(times))


def _refuse(status: int, why: str, evidence: notes.Note | None = None) -> Answer:
    return Answer(status=status, body=f"{why}\n".encode(), evidence=evidence)
