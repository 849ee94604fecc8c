"""The features of a window by torch, on a GPU where there is one: the second, independent writing.

Agrees with ``evidence.power.features`` to 1e-5 of each value; tests hold the two together. Works in
double precision throughout. Knows nothing of channels' names beyond what a table does.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lydite.errors import FormatError
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.features import frequency, model
from lydite.evidence.power.features import time as times
from lydite.evidence.power.features.feature import FLAT
from lydite.evidence.power.features.table import PHASE_CHANNELS, Table
from lydite.evidence.power.trace import Values

ROWS_AT_ONCE = 4096
"""So many windows are on the device together."""


class Rows:
    """Windows on a device, with what several groups need of them."""

    def __init__(self, x: Tensor, rate_hz: float) -> None:
        self.x, self.rate_hz, self.size = x, rate_hz, x.shape[1]
        self.ordered = x.sort(dim=1).values
        self.mean = x.mean(dim=1)
        centred = x - self.mean[:, None]
        self.std = centred.square().mean(dim=1).sqrt()
        greatest = self.ordered[:, [0, -1]].abs().amax(dim=1)
        self.scale = torch.where(self.std > FLAT * greatest, self.std, math.inf)
        self.z = centred / self.scale[:, None]

    def quantile(self, share: float) -> Tensor:
        """Return the order statistic at ``floor(share (n - 1))``."""
        return self.ordered[:, int(share * (self.size - 1))]


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))


def _rises(mask: Tensor) -> Tensor:
    before = torch.zeros_like(mask)
    before[:, 1:] = mask[:, :-1]
    return mask & ~before


def _levels(rows: Rows) -> list[Tensor]:
    middles = [rows.quantile(share) for share in times.QUANTILES]
    return [rows.mean, rows.std, rows.ordered[:, 0], *middles, rows.ordered[:, -1]]


def _swings(rows: Rows) -> list[Tensor]:
    low, high = rows.ordered[:, 0], rows.ordered[:, -1]
    steps, leaps = rows.x.diff(dim=1), rows.z.diff(dim=1)
    return [
        high - low,
        _ratio(high, torch.maximum(low, high / 1000)),
        steps.abs().amax(dim=1) * rows.rate_hz,
        steps.abs().mean(dim=1) * rows.rate_hz,
        leaps.abs().mean(dim=1),
        (steps == 0).double().mean(dim=1),
        leaps.abs().amax(dim=1),
        leaps.pow(3).mean(dim=1),
    ]


def _moments(rows: Rows) -> list[Tensor]:
    ramp = torch.linspace(-1, 1, rows.size, dtype=torch.float64, device=rows.x.device)
    shares = (*times.QUANTILES, 0.0, 1.0)
    placed = [(rows.quantile(share) - rows.mean) / rows.scale for share in shares]
    return [
        rows.z.pow(3).mean(dim=1),
        rows.z.pow(4).mean(dim=1),
        (rows.z * ramp).mean(dim=1),
        *placed,
    ]


def _autocorrelations(rows: Rows) -> list[Tensor]:
    z, size = rows.z, rows.size
    steps = times.lags(rows.rate_hz, size).values()
    return [(z[:, step:] * z[:, :-step]).sum(dim=1) / size for step in steps]


def _longest(mask: Tensor) -> Tensor:
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    last_false = torch.where(mask, 0, places).cummax(dim=1).values
    return (places - last_false).amax(dim=1).double()


def _runs(rows: Rows) -> list[Tensor]:
    line = (rows.quantile(0.1) + rows.quantile(0.9)) / 2
    high = rows.x > line[:, None]
    found = [high.double().mean(dim=1), _rises(high).sum(dim=1) / (rows.size / rows.rate_hz)]
    for mask in (high, ~high):
        mean = _ratio(mask.sum(dim=1).double(), _rises(mask).sum(dim=1).double())
        found += [mean / rows.rate_hz, _longest(mask) / rows.rate_hz]
    return found


def _flatness(rows: Rows) -> list[Tensor]:
    found = []
    for step in times.spans(rows.rate_hz, rows.size).values():
        pieces = rows.x.unfold(1, step, step)
        swing = pieces.amax(dim=2) - pieces.amin(dim=2)
        mean = rows.mean.abs()
        found.append(_ratio(swing.mean(dim=1), mean))
        found.append((swing <= times.FLAT_SHARE * mean[:, None]).double().mean(dim=1))
    return found


def _spectral(rows: Rows) -> list[Tensor]:
    hann = torch.hann_window(rows.size, dtype=torch.float64, device=rows.x.device)
    power = torch.fft.rfft(rows.z * hann, dim=1)[:, 1:].abs().square()
    shares = _ratio(power, power.sum(dim=1, keepdim=True))
    at_hz = torch.as_tensor(frequency.frequencies(rows.rate_hz, rows.size), device=rows.x.device)
    top = shares.amax(dim=1)
    first = (shares >= top[:, None] * (1 - frequency.TIE)).int().argmax(dim=1)
    rolled = (shares.cumsum(dim=1) > frequency.ROLL_OFF).int().argmax(dim=1)
    centroid = (shares * at_hz).sum(dim=1)
    width = (shares * at_hz.square()).sum(dim=1) - centroid.square()
    logs = torch.where(shares > 0, shares, 1.0).log()
    bands = [
        shares[:, (at_hz > low) & (at_hz <= high)].sum(dim=1)
        for low, high in frequency.bands(rows.rate_hz)
    ]
    moving = top > 0
    return [
        -(shares * logs).sum(dim=1) / math.log(max(shares.shape[1], 2)),
        torch.where(moving, at_hz[first], 0.0),
        top,
        centroid,
        width.clamp_min(0).sqrt(),
        torch.where(moving, at_hz[rolled], 0.0),
        *bands,
    ]


def _wavelets(rows: Rows) -> list[Tensor]:
    smooth, found = rows.z, []
    for _ in range(frequency.levels(rows.size)):
        even = smooth.shape[1] // 2 * 2
        pairs = smooth[:, :even].reshape(len(smooth), -1, 2)
        found.append(((pairs[..., 0] - pairs[..., 1]) * math.sqrt(0.5)).square().sum(dim=1))
        smooth = pairs.sum(dim=2) * math.sqrt(0.5)
    energies = torch.stack(found, dim=1) / rows.size
    shares = _ratio(energies, energies.sum(dim=1, keepdim=True))
    logs = torch.where(shares > 0, shares, 1.0).log()
    entropy = -(shares * logs).sum(dim=1) / math.log(max(len(found), 2))
    return [*energies.unbind(dim=1), entropy]


def _bursts(rows: Rows) -> list[Tensor]:
    x, rate_hz = rows.x, rows.rate_hz
    places = model.envelope_places(rate_hz, rows.size)
    if not places:
        return []
    half = places // 2
    padded = torch.nn.functional.pad(x[:, None], (half, half), mode="replicate")[:, 0]
    smooth = padded.unfold(1, places, 1).mean(dim=2)
    low, high = smooth.amin(dim=1), smooth.amax(dim=1)
    moves = high - low > 1e-6 * high.abs()
    line = torch.where(moves, low + model.BURST_SHARE * (high - low), math.inf)
    over = smooth > line[:, None]
    above = x - smooth
    ordered, last = above.sort(dim=1).values, rows.size - 1
    spread = ordered[:, int(0.95 * last)] - ordered[:, int(0.05 * last)]
    enough = spread > 1e-6 * x.abs().amax(dim=1)
    begins = _rises(above > torch.where(enough, model.BURST_SHARE * spread, math.inf)[:, None])
    height = above.std(dim=1, correction=0)
    seconds = rows.size / rate_hz
    return [
        torch.where(moves, _ratio(high - low, high), 0.0),
        over.double().mean(dim=1),
        _rises(over).sum(dim=1) / seconds,
        begins.sum(dim=1) / seconds,
        _irregularity(begins),
        torch.where(height > 1e-6 * rows.mean.abs(), _ratio(height, rows.std), 0.0),
    ]


def _irregularity(begins: Tensor) -> Tensor:
    places = torch.arange(1, begins.shape[1] + 1, device=begins.device)
    marked = torch.where(begins, places, 0)
    before = torch.zeros_like(marked)
    before[:, 1:] = marked.cummax(dim=1).values[:, :-1]
    steps = torch.where(begins & (before > 0), places - before, 0).double()
    count = begins.sum(dim=1)
    number = (count - 1).clamp_min(1)
    mean = steps.sum(dim=1) / number
    spread = (steps.square().sum(dim=1) / number - mean.square()).clamp_min(0).sqrt()
    return torch.where(count >= 3, _ratio(spread, mean), 0.0)


def _cadence(rows: Rows) -> list[Tensor]:
    length = 1 << (2 * rows.size - 1).bit_length()
    power = torch.fft.rfft(rows.z, length, dim=1).abs().square()
    correlations = torch.fft.irfft(power, length, dim=1) / rows.size
    most = min(int(model.CADENCE_S * rows.rate_hz), rows.size // 2)
    if most < 3:
        return [torch.zeros_like(rows.mean)] * 2
    before, here, after = (correlations[:, k : most - 2 + k + 1] for k in range(3))
    peaks = (here > before + model.ALIKE) & (here >= after - model.ALIKE)
    heights = torch.where(peaks, here, -1.0)
    best = heights.amax(dim=1)
    first = (heights >= best[:, None] - model.ALIKE).int().argmax(dim=1)
    return [
        torch.where(best > 0, rows.rate_hz / (first + 1), 0.0),
        torch.where(best > 0, best, 0.0),
    ]


_POWER: tuple[Callable[[Rows], list[Tensor]], ...] = (
    _levels,
    _swings,
    _moments,
    _autocorrelations,
    _runs,
    _flatness,
    _spectral,
    _wavelets,
    _bursts,
    _cadence,
)


def _phases(sm: Tensor, tensor: Tensor, dram: Tensor, rate_hz: float) -> list[Tensor]:
    bounds = model.Bounds()
    busy = torch.where(torch.maximum(tensor, dram) >= bounds.busy, 0, 3)
    code = torch.where(busy == 3, 3, torch.where(tensor >= dram, 1, 2))
    code = torch.where(sm < bounds.idle_sm, 0, code)
    active = sm.sum(dim=1)
    return [
        *((code == index).double().mean(dim=1) for index in range(len(model.PHASES))),
        (code.diff(dim=1) != 0).sum(dim=1) / (sm.shape[1] / rate_hz),
        _ratio(tensor.sum(dim=1), active),
        _ratio(dram.sum(dim=1), active),
    ]


def compute(table: Table, windows: Mapping[str, Values], device: str | None = None) -> Values:
    """Return what ``table.compute`` does, by torch, on ``device`` or the GPU if there is one.

    Raises:
        FormatError: a channel is missing, or rows are not those of the plan.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    shapes = {windows[name].shape for name in table.channels if name in windows}
    absent = [name for name in table.channels if name not in windows]
    if absent or len(shapes) != 1 or next(iter(shapes))[1:] != (table.plan.size,):
        raise FormatError(f"windows of shapes {shapes}, without {', '.join(absent) or 'none'}")
    count = next(iter(shapes))[0]
    parts: list[Any] = [
        _some(table, windows, slice(first, first + ROWS_AT_ONCE), place)
        for first in range(0, count, ROWS_AT_ONCE)
    ]
    return np.concatenate([np.zeros((0, len(table.names))), *parts])


def _some(table: Table, windows: Mapping[str, Values], rows: slice, place: str) -> Values:
    rate_hz = table.plan.rate_hz
    there = {
        name: torch.tensor(windows[name][rows], dtype=torch.float64, device=place)
        for name in table.channels
    }
    found: list[Tensor] = []
    for name, x in there.items():
        groups = _POWER if CHANNELS[name].unit == "W" else _POWER[:1]
        own = Rows(x, rate_hz)
        for group in groups:
            found += group(own)
    if set(PHASE_CHANNELS) <= set(there):
        sm, tensor, dram = (there[name] for name in PHASE_CHANNELS)
        found += _phases(sm, tensor, dram, rate_hz)
    return np.asarray(torch.stack(found, dim=1).cpu().numpy())
