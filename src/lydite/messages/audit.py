"""What an auditor writes: a record of each drawn receipt, and a result for each provider."""

from typing import Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.canonical import Count, Hex32, Integer, Message, Word, decode
from lydite.messages.epoch import Ppm
from lydite.messages.finding import Finding
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject
from lydite.messages.tier import Tier


class AuditPredicate(Message, frozen=True, kw_only=True):
    """The findings on the receipt at 1-based ``entry``, drawn in ``epoch``."""

    epoch: Count
    entry: Count
    findings: tuple[Finding, ...]
    provider: Word
    auditor: Word


class Audit(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the audited receipt's envelope."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/inference-audit/v1"] = (
        "https://lydite.dev/attestations/inference-audit/v1"
    )
    predicate: AuditPredicate


class Channel(Message, frozen=True, kw_only=True):
    """One signal's e-process: its fixed weight and log10 of its e-value in thousandths."""

    name: Word
    weight_ppm: Ppm
    log10_e_milli: Integer


class Skip(Message, frozen=True, kw_only=True):
    """Evidence that taught nothing: its kind, why, and how often."""

    kind: Word
    reason: Reason
    count: Count


class Verdict(Message, frozen=True, kw_only=True):
    """The judgement on one provider over every epoch so far, and the numbers it follows from.

    ``audited`` receipts were drawn, ``scored`` of them said something about the model.
    """

    tier: Tier
    reason: Reason
    log10_e_milli: Integer
    channels: tuple[Channel, ...]
    audited: Count
    scored: Count
    tokens: Count
    tokens_needed: Count
    skipped: tuple[Skip, ...]


class ResultPredicate(Message, frozen=True, kw_only=True):
    """An Attestation Result: the verdict, and the policy and reference it rests on."""

    verdict: Verdict
    epochs: Count
    tree_size: Count
    declaration: Hex32
    policy: Hex32
    references: tuple[Hex32, ...]
    provider: Word
    auditor: Word
    issued: Timestamp


class Result(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the provider's declaration."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/attestation-result/v1"] = (
        "https://lydite.dev/attestations/attestation-result/v1"
    )
    predicate: ResultPredicate


def parse_audit(payload: bytes) -> Audit:
    """Parse an audit record's payload, at most 4 MiB, in its one spelling."""
    return decode(payload, Audit, limit=1 << 22)


def parse_result(payload: bytes) -> Result:
    """Parse an attestation result's payload, at most 256 KiB, in its one spelling."""
    return decode(payload, Result, limit=1 << 18)
