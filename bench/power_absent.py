"""How a table of ``bench_power`` says that it cannot be measured on this machine."""


class AbsentError(Exception):
    """What a table needs is not here; the message says what."""
