"""Pack one provider's case into the bundle that ``lydite verify`` checks. Judges nothing."""

from collections.abc import Sequence

from lydite.appraisal.bundle import Bundle, Bystander, Logged, LoggedEpoch
from lydite.appraisal.policy import Policy
from lydite.appraisal.references import Reference
from lydite.auditor.casebook import Casebook
from lydite.errors import UnavailableError
from lydite.messages.canonical import decode
from lydite.signing.dsse import Envelope
from lydite.tlog.checkpoint import encode_hash


def pack(case: Casebook, policy: Policy, references: tuple[Reference, ...]) -> Bundle:
    """Return the bundle of everything up to the mirror's checkpoint.

    Raises:
        UnavailableError: no result is in the witnessed log yet.
    """
    mirror = case.mirror
    if mirror.checkpoint is None or not case.result_entry:
        raise UnavailableError("no result is in the witnessed log yet")
    audited = sorted(case.audits)
    return Bundle(
        provider=case.anchor.provider,
        checkpoint=mirror.note.decode(),
        declaration=_logged(case, case.declaration_entry),
        epochs=tuple(
            LoggedEpoch(
                logged=_logged(case, number),
                pledge=_logged(case, statement.predicate.tree_size),
                retention=_retention(case, statement.predicate.epoch),
                consistency=_hashes(
                    mirror.tree.consistency_proof(statement.predicate.tree_size, mirror.size)
                ),
            )
            for number, statement in case.epochs.items()
        ),
        receipts=tuple(_logged(case, number) for number in audited),
        bystanders=tuple(
            Bystander(
                entry=number, leaf=mirror.leaves[number - 1].decode(), path=_path(case, number)
            )
            for number in sorted(case.bystanders)
        ),
        audits=tuple(_logged(case, case.audits[number][0]) for number in audited),
        policy=policy,
        references=references,
        result=_logged(case, case.result_entry),
    )


def _retention(case: Casebook, epoch: int) -> Logged | None:
    number = case.disposals.statements.get(epoch)
    return None if number is None else _logged(case, number)


def _logged(case: Casebook, number: int) -> Logged:
    envelope = decode(case.envelope(number), Envelope)
    return Logged(entry=number, envelope=envelope, path=_path(case, number))


def _path(case: Casebook, number: int) -> tuple[str, ...]:
    return _hashes(case.mirror.tree.inclusion_proof(number - 1, case.mirror.size))


def _hashes(path: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(encode_hash(each) for each in path)
