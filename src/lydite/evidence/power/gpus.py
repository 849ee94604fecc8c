"""What makers state of their GPUs: bandwidth, operations, power. Knows no measurement.

Each row is the maker's data sheet: dense rates, without sparsity. A row is a Reference Value by
way of the reference that holds it.
"""

from typing import Annotated

import msgspec

from lydite.errors import ConfigurationError
from lydite.messages.canonical import Message, Word

_Rate = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Gpu(Message, frozen=True, kw_only=True):
    """One kind of GPU, as its maker states it."""

    name: Word
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
    memory_gb_s: _Rate
    """Billions of bytes a second between memory and chip."""
    tflops_16: _Rate
    """10^12 operations a second of its matrix units on 16-bit numbers."""
    tflops_8: _Rate
    """The same on 8-bit numbers."""
    tdp_w: _Rate
    source: Word


def _gpu(row: str) -> Gpu:
    name, source, *numbers = (cell.strip() for cell in row.split("|"))
    mib, gb_s, half, eighth, tdp = (int(number) for number in numbers)
    return Gpu(
        name=name,
        memory_mib=mib,
        memory_gb_s=gb_s,
        tflops_16=half,
        tflops_8=eighth,
        tdp_w=tdp,
        source=source,
    )


_ROWS = """
Tesla V100-SXM2-16GB    | NVIDIA V100 data sheet                |  16384 |  900 |  125 |  125 |  300
NVIDIA A100-SXM4-40GB   | NVIDIA A100 data sheet                |  40960 | 1555 |  312 |  624 |  400
NVIDIA A100-SXM4-80GB   | NVIDIA A100 data sheet                |  81920 | 2039 |  312 |  624 |  400
NVIDIA H100             | NVIDIA H100 data sheet, SXM           |  81559 | 3350 |  989 | 1979 |  700
NVIDIA H100 PCIe        | NVIDIA H100 data sheet, PCIe          |  81559 | 2000 |  756 | 1513 |  350
NVIDIA H200             | NVIDIA H200 data sheet, SXM           | 143771 | 4800 |  989 | 1979 |  700
NVIDIA B200             | NVIDIA DGX B200 data sheet, an eighth | 184320 | 8000 | 2250 | 4500 | 1000
NVIDIA L40S             | NVIDIA L40S data sheet                |  46068 |  864 |  362 |  733 |  350
NVIDIA L4               | NVIDIA L4 data sheet                  |  23034 |  300 |  121 |  242 |   72
NVIDIA GeForce RTX 4090 | NVIDIA Ada architecture, whitepaper   |  24564 | 1008 |  165 |  330 |  450
AMD Instinct MI300X     | AMD Instinct MI300X data sheet        | 196592 | 5300 | 1307 | 2614 |  750
"""

GPUS = {row.name: row for row in map(_gpu, _ROWS.strip().splitlines())}
"""By name."""


def known(name: str) -> bool:
    """Return whether ``find`` has a row of that name."""
    return bool(_matching(name))


def _matching(name: str) -> list[Gpu]:
    return [row for row in GPUS.values() if f"{name} ".startswith(f"{row.name} ")]


def find(name: str) -> Gpu:
    """Return the row of the GPU that a driver calls ``name``.

    Drivers may add the memory, as in ``NVIDIA H100 80GB HBM3``: the longest row counts that the
    name begins with, whole words alone.

    Raises:
        ConfigurationError: there is no such row.
    """
    matching = _matching(name)
    if not matching:
        raise ConfigurationError(f"no GPU is called {name}; there are {', '.join(GPUS)}")
    return max(matching, key=lambda row: len(row.name))


def is_called(row: Gpu, name: str) -> bool:
    """Say whether a driver's ``name`` is that of ``row``, and not of a longer one."""
    if name == row.name:
        return True
    try:
        return find(name) == row
    except ConfigurationError:
        return False
