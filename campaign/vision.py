"""Image models written out: an SDXL-like UNet, ViT-L, ResNet-50, with random weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomise(model: nn.Module) -> nn.Module:
    """N(0, .02) in every matrix and kernel; never zeros, which run faster and cooler."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.02)
    return model


class Residual(nn.Module):
    """A residual block of convolutions."""

    def __init__(self, cin: int, cout: int, time: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, cin), nn.GroupNorm(32, cout)
        self.conv1, self.conv2 = (
            nn.Conv2d(cin, cout, 3, padding=1),
            nn.Conv2d(cout, cout, 3, padding=1),
        )
        self.time = nn.Linear(time, cout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return one pass."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Mixer(nn.Module):
    """Self-attention, cross-attention to the text, gated feed-forward."""

    def __init__(self, width: int, text: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out1 = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q, self.kv, self.out2 = (
            nn.Linear(width, width, bias=False),
            nn.Linear(text, 2 * width, bias=False),
            nn.Linear(width, width),
        )
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (-1, min(64, t.shape[-1]))).transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Return one pass."""
        x = x + self.out1(self._attend(*self.qkv(self.norms[0](x)).chunk(3, dim=-1)))
        x = x + self.out2(self._attend(self.q(self.norms[1](x)), *self.kv(text).chunk(2, dim=-1)))
        a, b = self.up(self.norms[2](x)).chunk(2, dim=-1)
        return x + self.down(a * F.gelu(b))


class Spatial(nn.Module):
    """Mixers over the places of a picture."""

    def __init__(self, width: int, depth: int, text: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width)
        self.into, self.back = nn.Linear(width, width), nn.Linear(width, width)
        self.mixers = nn.ModuleList(Mixer(width, text) for _ in range(depth))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Return one pass."""
        h = self.into(self.norm(x).flatten(2).transpose(1, 2))
        for mixer in self.mixers:
            h = mixer(h, text)
        return x + self.back(h).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """The shape of SDXL's UNet: 320/640/1280 channels, 0/2/10 mixers a level (about 2.6 B)."""

    def __init__(self, base: int = 320, depths: tuple[int, ...] = (0, 2, 10), text: int = 2048):
        super().__init__()
        widths, time = [base, 2 * base, 4 * base], 4 * base
        self.base = base
        self.time = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(4, base, 3, padding=1)
        self.down, self.up, skips, width = nn.ModuleList(), nn.ModuleList(), [base], base
        for level, (new, depth) in enumerate(zip(widths, depths, strict=True)):
            for _ in range(2):
                self.down.append(
                    nn.ModuleList(
                        [
                            Residual(width, new, time),
                            *([Spatial(new, depth, text)] if depth else []),
                        ]
                    )
                )
                width = new
                skips.append(width)
            if level < 2:
                self.down.append(nn.ModuleList([nn.Conv2d(width, width, 3, stride=2, padding=1)]))
                skips.append(width)
        self.middle = nn.ModuleList(
            [
                Residual(width, width, time),
                Spatial(width, depths[-1], text),
                Residual(width, width, time),
            ]
        )
        for level, (new, depth) in reversed(list(enumerate(zip(widths, depths, strict=True)))):
            for i in range(3):
                parts: list[nn.Module] = [
                    Residual(width + skips.pop(), new, time),
                    *([Spatial(new, depth, text)] if depth else []),
                ]
                width = new
                if level and i == 2:
                    parts.append(nn.Conv2d(width, width, 3, padding=1))
                self.up.append(nn.ModuleList(parts))
        self.last = nn.Sequential(
            nn.GroupNorm(32, base), nn.SiLU(), nn.Conv2d(base, 4, 3, padding=1)
        )

    @staticmethod
    def _run(parts: nn.ModuleList, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        for part in parts:
            if isinstance(part, Residual):
                x = part(x, t)
            elif isinstance(part, Spatial):
                x = part(x, text)
            elif isinstance(part, nn.Conv2d):
                x = part(x if part.stride[0] == 2 else F.interpolate(x, scale_factor=2))
        return x

    def forward(self, x: Tensor, when: Tensor, text: Tensor) -> Tensor:
        """Return one pass."""
        angle = when[:, None] * torch.exp(
            -9.2 * torch.arange(self.base // 2, device=x.device) / (self.base // 2)
        )
        t = self.time(torch.cat((angle.cos(), angle.sin()), dim=-1).to(x.dtype))
        x = self.first(x)
        kept = [x]
        for parts in self.down:
            x = self._run(parts, x, t, text)
            kept.append(x)
        x = self._run(self.middle, x, t, text)
        for parts in self.up:
            x = self._run(parts, torch.cat((x, kept.pop()), dim=1), t, text)
        return self.last(x)


class ViT(nn.Module):
    """The shape of ViT-L."""

    def __init__(
        self, layers: int = 24, width: int = 1024, heads: int = 16, patch: int = 16, side: int = 224
    ):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, stride=patch)
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        layer = [
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        ]
        self.layers, self.norm, self.head = (
            nn.ModuleList(layer),
            nn.LayerNorm(width),
            nn.Linear(width, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one pass."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((x[:, :1] * 0, x), dim=1) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, 0]))


class Bottleneck(nn.Module):
    """A block of ResNet."""

    def __init__(self, cin: int, mid: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU(inplace=True)),
            *(
                nn.Conv2d(mid, mid, 3, stride, 1, bias=False),
                nn.BatchNorm2d(mid),
                nn.ReLU(inplace=True),
            ),
            *(nn.Conv2d(mid, 4 * mid, 1, bias=False), nn.BatchNorm2d(4 * mid)),
        )
        same = stride == 1 and cin == 4 * mid
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(cin, 4 * mid, 1, stride, bias=False), nn.BatchNorm2d(4 * mid)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one pass."""
        return F.relu(self.body(x) + self.skip(x))


class ResNet(nn.Module):
    """The shape of ResNet-50."""

    def __init__(self, counts: tuple[int, ...] = (3, 4, 6, 3), base: int = 64):
        super().__init__()
        parts: list[nn.Module] = [
            nn.Conv2d(3, base, 7, 2, 3, bias=False),
            nn.BatchNorm2d(base),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
        width = base
        for level, count in enumerate(counts):
            for i in range(count):
                parts.append(Bottleneck(width, base << level, 2 if level and not i else 1))
                width = 4 * (base << level)
        self.body, self.head = nn.Sequential(*parts), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Return one pass."""
        return self.head(self.body(x).mean((2, 3)))
