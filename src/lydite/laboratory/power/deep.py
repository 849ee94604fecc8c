"""The neural candidate that the source design names: a CNN on a spectrogram and a recurrent net.

Small, trained for a fixed number of steps, their shares averaged. Needs torch; stays a candidate
of the laboratory whatever it reaches, since what ships runs from plain arrays without it.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lydite.evidence.power.trace import Values
from lydite.laboratory.power.traces import Windows

STEPS, BATCH = 250, 64


class Spectrogram(nn.Module):
    """Two convolutions over log power by frequency and time."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d((4, 2)), nn.Flatten(),
        )  # fmt: skip
        self.last = nn.Linear(16 * 8 + 2, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits of windows as shares of the stated power."""
        pieces = windows.unfold(1, 20, 5)
        hann = torch.hann_window(20, periodic=True)
        power = torch.fft.rfft((pieces - pieces.mean(-1, keepdim=True)) * hann).abs()
        image = torch.log(power + 1e-3).transpose(1, 2)[:, None]
        level = torch.stack([windows.mean(1), windows.std(1)], 1)
        return self.last(torch.cat([self.inner(image), level], 1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A GRU over the window, five places at a step."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = nn.GRU(5, 24, batch_first=True)
        self.last = nn.Linear(24, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits of windows as shares of the stated power."""
        cut = windows[:, : windows.shape[1] // 5 * 5].reshape(len(windows), -1, 5)
        return self.last(self.inner(cut)[1][0])  # type: ignore[no-any-return]


class Ensemble:
    """Both nets, each class weighted by its rarity."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.classes: list[str] = []

    def learn(self, windows: Windows) -> None:
        """Train both nets."""
        names, label = np.unique(windows.label, return_inverse=True)
        self.classes = [str(name) for name in names]
        inputs, truth = _tensor(windows), torch.from_numpy(label)
        weight = torch.from_numpy(1.0 / np.bincount(label)).float()
        loss = nn.CrossEntropyLoss(weight=weight / weight.mean())
        torch.manual_seed(self._seed)
        order = torch.Generator().manual_seed(self._seed)
        self._nets = [Spectrogram(len(names)), Recurrent(len(names))]
        for net in self._nets:
            optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
            for _ in range(STEPS):
                drawn = torch.randint(len(truth), (BATCH,), generator=order)
                optimiser.zero_grad()
                loss(net(inputs[drawn]), truth[drawn]).backward()
                optimiser.step()

    @torch.no_grad()
    def shares(self, windows: Windows) -> Values:
        """Return the mean of both nets' shares."""
        inputs = _tensor(windows)
        made = [torch.softmax(net(inputs), 1) for net in self._nets]
        return np.asarray(torch.stack(made).mean(0).double().numpy())


def _tensor(windows: Windows) -> Tensor:
    return torch.from_numpy(windows.watts / windows.tdp_w[:, None]).float()
