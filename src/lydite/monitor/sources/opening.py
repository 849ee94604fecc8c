"""From settings to sources: the one place that knows every kind.

Heavy libraries are imported only for the sources that need them.
"""

from collections.abc import Sequence
from pathlib import Path

from lydite.errors import ConfigurationError
from lydite.monitor import settings
from lydite.monitor.readings import Source
from lydite.monitor.timing import Timing

_SECOND_NS = 10**9


def open_sources(wanted: Sequence[settings.Source], timing: Timing) -> list[Source]:
    """Open every source, or none.

    Raises:
        ConfigurationError: a setting cannot be used, or two sources are of one device.
        UnavailableError: a device cannot be read.
    """
    found: list[Source] = []
    try:
        for each in wanted:
            found.append(_open(each, timing))
            names = [source.device for source in found]
            if len(set(names)) < len(names):
                raise ConfigurationError(f"two sources are of the device {names[-1]}")
        if not found:
            raise ConfigurationError("the settings name no source")
        if len({source.clock for source in found}) > 1:
            raise ConfigurationError("recordings have times of their own: replay them alone")
    except BaseException:
        close_sources(found)
        raise
    return found


def close_sources(sources: Sequence[Source]) -> None:
    """Let go of every device."""
    for source in sources:
        source.close()


def _open(wanted: settings.Source, timing: Timing) -> Source:
    match wanted:
        case settings.Nvml():
            from lydite.monitor.sources.driver import DriverLibrary
            from lydite.monitor.sources.nvml import NvmlSource

            library = DriverLibrary(wanted.index)
            return NvmlSource(library, wanted.index, _SECOND_NS // wanted.hz, timing.now_ns)
        case settings.Amd():
            from lydite.monitor.sources.amd import AmdLibrary, AmdSource

            return AmdSource(AmdLibrary(wanted.index), wanted.index, _SECOND_NS // wanted.hz)
        case settings.Dcgm():
            from lydite.monitor.sources.dcgm import Dcgm

            return Dcgm(wanted.url, wanted.gpu, _SECOND_NS // wanted.hz)
        case settings.Daq():
            return _open_daq(wanted, timing)
        case settings.Replay():
            from lydite.monitor.sources.replay import open_recording

            path = None if wanted.path is None else Path(wanted.path)
            return open_recording(path, wanted.speed, wanted.device)
        case settings.Simulated():
            from lydite.monitor.sources.nvml import NvmlSource
            from lydite.monitor.sources.simulated import CYCLE, Load, SimulatedNvml

            made_up = SimulatedNvml(timing.now_ns, Load(CYCLE))
            return NvmlSource(made_up, wanted.index, _SECOND_NS // wanted.hz, timing.now_ns)


def _open_daq(wanted: settings.Daq, timing: Timing) -> Source:
    from lydite.monitor.sources.daq import Daq, FileBytes, SocketBytes

    if (wanted.file is None) == (wanted.address is None):
        raise ConfigurationError(f"fast meter {wanted.name}: name either a file or an address")
    if wanted.file is not None:
        return Daq(FileBytes(Path(wanted.file)), wanted.name, wanted.channel, wanted.grid_hz, None)
    source = SocketBytes(str(wanted.address))
    return Daq(source, wanted.name, wanted.channel, wanted.grid_hz, timing.now_ns)
