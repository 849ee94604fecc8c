"""What a monitor sealed, or a stored trace's file, as traces: a device each, bit for bit.

Reads the columns; whether seals hold is for `lydite monitor check` to say, and nothing here does.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from lydite.monitor.columns import traces as by_device
from lydite.monitor.sources.replay import load
from lydite.monitor.store.entry import Labelled, Origin


def traces(path: Path, labels: Mapping[str, str], origin: Origin) -> Iterator[Labelled]:
    """Yield a trace for each device of a file of columns, or of a directory of them.

    Raises:
        ConfigurationError: nothing can be read there.
        FormatError: a file is cut short, or its samples are no series.
    """
    for device, trace in by_device(load(path)).items():
        yield Labelled(trace=trace, labels={"device_name": device, **labels}, origin=origin)
