"""The documents that a Reference Value names, read and compiled once for many appraisals.

Knows nothing of evidence.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import reference as references
from lydite.evidence.tpm import refstate, runtime
from lydite.evidence.tpm.reference import Dated, Reference
from lydite.evidence.tpm.refstate import RefState
from lydite.evidence.tpm.runtime import Runtime


class Policies(NamedTuple):
    """What a Reference Value amounts to for some time."""

    reference: Reference
    digest: str
    states: tuple[RefState, ...]
    runtime: Runtime | None
    from_s: int
    until_s: int
    """Later than this, one of the documents has ended: prepare anew."""

    @property
    def files_digest(self) -> str:
        """Names all that the list of files is judged by, in hex."""
        name = "" if self.runtime is None else self.runtime.digest
        return hashlib.sha256(f"{self.digest} {name}".encode()).hexdigest()


def prepare(
    reference: Reference,
    documents: Mapping[str, bytes],
    now_s: int,
    templates: Sequence[str] = ("ima-ng", "ima-sig"),
) -> Policies:
    """Return what ``reference`` demands at ``now_s``; ``documents`` by SHA-256 in hexadecimal.

    Raises:
        FormatError: a document, or the reference, is in another form than it has to be.
        Refusal: a document is missing (``policy.missing``), all have ended (``policy.expired``),
            or one allows everything or nothing.
    """
    references.check(reference)
    ends = [reference.machine.not_after_s]
    states: tuple[RefState, ...] = ()
    compiled = None
    if reference.boot:
        current = references.current(reference.boot, "boot", now_s)
        ends += [each.not_after_s for each in current]
        states = tuple(refstate.parse(each) for each in _documents(current, documents))
    if reference.files is not None:
        current = references.current(reference.files.runtime, "files", now_s)
        ends += [each.not_after_s for each in current]
        compiled = runtime.compile_policy(
            _documents(current, documents),
            weak=reference.files.weak,
            demanded=reference.files.demanded,
            templates=templates,
        )
    digest = references.digest(reference)
    return Policies(reference, digest, states, compiled, now_s, min(ends))


def _documents(current: Sequence[Dated], documents: Mapping[str, bytes]) -> list[bytes]:
    found = []
    for each in current:
        content = documents.get(each.document)
        if content is None or hashlib.sha256(content).hexdigest() != each.document:
            raise Refusal(Reason.POLICY_MISSING, "document", each.document, "none of this digest")
        found.append(content)
    return found
