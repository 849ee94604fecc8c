"""Rows of ``make bench-attest``: reports of SEV-SNP and NVIDIA devices appraised a second.

Evidence is made here, by vendors of software: a chain of three with RSA 2048 (AMD's have 4096), and
one of five on P-384, as NVIDIA's. A signature alone bounds what is left for all else.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

import report

sys.path.insert(0, str(Path(__file__).parents[1]))

from lydite import certificates
from lydite.errors import Reason
from lydite.evidence.nvgpu import claims as gpu_claims
from lydite.evidence.nvgpu import verifier as gpus
from lydite.evidence.snp import claims as snp_claims
from lydite.evidence.snp import report as guest_report
from lydite.evidence.snp import verifier as guests
from lydite.messages.finding import Finding
from tests.evidence.nvgpu import devices
from tests.evidence.snp import processor

COUNT = 200


def rows(runs: int) -> list[report.Row]:
    """Return reports a second, from the bytes of the evidence to an affirming finding."""
    issued = processor.challenge()
    guest = snp_claims.write(processor.Processor().claims(issued))
    gpu = gpu_claims.write(devices.claims_of(devices.Gpu()))
    expected_guest, expected_gpu = processor.reference(), devices.reference()

    def of_guest() -> Finding:
        return guests.examine(guest, expected_guest, issued, processor.NOW)

    def of_gpu() -> Finding:
        return gpus.examine(gpu, expected_gpu, issued, processor.NOW)

    leaf = certificates.load(processor.Processor().certificate(), "leaf", Reason.SNP_FORM)
    made = guest_report.parse(bytes.fromhex(snp_claims.parse(guest).report))

    def of_signature() -> Finding | None:
        certificates.check_p384(leaf, made.r, made.s, made.signed, "", Reason.SNP_SIGNATURE)
        return None

    return [
        report.row("P-384 signatures alone", rate(of_signature, runs), "1/s"),
        report.row("snp/report, chain known", rate(of_guest, runs), "1/s", goal=1_400),
        report.row("snp/report, cold", rate(of_guest, runs, cold=True), "1/s"),
        report.row("nvgpu/report, cold", rate(of_gpu, runs, cold=True), "1/s", goal=350),
        report.row("nvgpu/report, chain known", rate(of_gpu, runs), "1/s", goal=2_500),
    ]


def rate(appraise: Callable[[], Finding | None], runs: int, *, cold: bool = False) -> float:
    """Return how often a second of processor time is enough for, at best."""
    least = float("inf")
    for _ in range(runs):
        started = process_time()
        for _ in range(COUNT):
            if cold:
                certificates.forget()
            found = appraise()
            if found is not None and found.reason is not Reason.CONSISTENT:
                raise AssertionError("the evidence is good")
        least = min(least, process_time() - started)
    return COUNT / least
