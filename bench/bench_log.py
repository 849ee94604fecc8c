"""``make bench-log``: the log, receipts and verifiable sampling, on one core."""

import os

import log_rows
import receipt_rows
import report
import sampling_rows


def main() -> None:
    """Measure, print and write ``bench/results/log.json``."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, threads included
    report.write("log", [*log_rows.rows(), *receipt_rows.rows(), *sampling_rows.rows()])


if __name__ == "__main__":
    main()
