"""Attack 10: whoever runs the log changes, drops or reorders what it once logged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lydite.errors import LyditeError, Reason, StorageError, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy, verification
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.store import LogStore

ORIGIN = "log.example"
LOG = Signer(b"log!" * 8)
RECEIPTS = [b"receipt %d" % number for number in range(600)]
TRUST = policy.parse(f"log {notes.verifier_key(ORIGIN, LOG)}\nquorum none\n".encode())


def write(path: Path, entries: list[bytes]) -> LogStore:
    log = LogStore.open(path, ORIGIN, LOG)
    log.append_durable(entries)
    log.publish()
    return log


def changed(entries: list[bytes]) -> list[bytes]:
    return [*entries[:300], b"another receipt", *entries[301:]]


def dropped(entries: list[bytes]) -> list[bytes]:
    return entries[:300] + entries[301:]


def swapped(entries: list[bytes]) -> list[bytes]:
    return [*entries[:300], entries[301], entries[300], *entries[302:]]


def cut_off(entries: list[bytes]) -> list[bytes]:
    return entries[:300]


def put_in(entries: list[bytes]) -> list[bytes]:
    return [*entries[:300], b"a receipt made later", *entries[300:]]


EDITS = [changed, dropped, swapped, cut_off, put_in]


@pytest.mark.parametrize("edit", EDITS)
def test_a_client_s_proof_does_not_lead_to_an_edited_log(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    with (
        write(tmp_path / "honest", RECEIPTS) as honest,
        write(tmp_path / "edited", edit(RECEIPTS)) as edited,
    ):
        held = honest.proof(300)
        assert proofs.verify(held, leaf_hash(RECEIPTS[300]), TRUST).checkpoint.size == 600
        moved = proofs.Proof(held.index, held.path, notes.parse(edited.checkpoint()))
        with pytest.raises(LyditeError) as caught:
            proofs.verify(moved, leaf_hash(RECEIPTS[300]), TRUST)
        assert caught.value.reason in (Reason.NOT_IN_LOG, Reason.MALFORMED)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_disk_is_not_opened_under_the_signed_checkpoint(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    write(tmp_path / "honest", RECEIPTS).close()
    write(tmp_path / "edited", edit(RECEIPTS)).close()
    shutil.copy(tmp_path / "honest" / "checkpoint", tmp_path / "edited" / "checkpoint")
    with pytest.raises((VerificationError, StorageError)) as caught:
        LogStore.open(tmp_path / "edited", ORIGIN, LOG)
    assert caught.value.reason is Reason.INCONSISTENT_LOG


@pytest.mark.parametrize("edit", EDITS)
def test_no_consistency_proof_joins_an_edited_log_to_what_was_signed(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    with (
        write(tmp_path / "honest", RECEIPTS) as honest,
        write(tmp_path / "edited", edit(RECEIPTS) + RECEIPTS) as edited,
    ):
        old = checkpoints.parse(notes.parse(honest.checkpoint()).text)
        new = checkpoints.parse(notes.parse(edited.checkpoint()).text)
        path = edited.consistency_proof(old.size, new.size)
        with pytest.raises(VerificationError) as caught:
            verification.consistency(old.size, old.root, new.size, new.root, path)
        assert caught.value.reason is Reason.INCONSISTENT_LOG
