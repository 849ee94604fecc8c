"""A decoder written out: attention, MLPs, top-2 experts, static cache, CUDA graph.

Weights are random N(0, .02), made on the device. Knows nothing of blocks, power or declarations.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from shapes import Config

Tensor = torch.Tensor


def normal(*shape: int, dtype: torch.dtype, device: str) -> Tensor:
    """Return a tensor of N(0, .02)."""
    return torch.empty(shape, dtype=dtype, device=device).normal_(0, 0.02)


class Dense:
    """A 16-bit matrix, built from `normal`, called on the last axis; those below are alike."""

    path = "F.linear"

    def __init__(self, out: int, inner: int, dtype: torch.dtype, device: str):
        self.weight = normal(out, inner, dtype=dtype, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""
        return F.linear(x, self.weight)

    def parameters(self) -> list[Tensor]:
        """Return the weights."""
        return [self.weight]


def _rows(x: Tensor, inner: int) -> tuple[Tensor, int]:
    """Return two dimensions, padded to 32 rows where there are fewer than 17."""
    flat = x.reshape(-1, inner)
    rows = flat.shape[0]
    return (F.pad(flat, (0, 0, 0, 32 - rows)) if rows < 17 else flat), rows


class Fp8(Dense):
    """e4m3 weights and activations, one scale each."""

    path = "torch._scaled_mm"

    def __init__(self, out: int, inner: int, dtype: torch.dtype, device: str):
        self.scale = torch.tensor(0.12 / 448, device=device)
        dense = normal(out, inner, dtype=torch.bfloat16, device=device)
        self.weight = dense.div_(0.12 / 448).clamp_(-448, 448).to(torch.float8_e4m3fn)
        self.inner, self.out_dtype = inner, dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""
        flat, rows = _rows(x, self.inner)
        scale = flat.abs().amax().float().clamp(min=1e-6) / 448
        small = (flat / scale.to(flat.dtype)).clamp(-448, 448).to(torch.float8_e4m3fn)
        if x.is_cuda:
            y = torch._scaled_mm(
                small,
                self.weight.t(),
                scale_a=scale,
                scale_b=self.scale,
                out_dtype=self.out_dtype,
                use_fast_accum=True,
            )
        else:
            y = (small.float() @ self.weight.float().t() * scale * self.scale).to(self.out_dtype)
        return y[:rows].view(*x.shape[:-1], -1)


class Int8(Dense):
    """int8 weights, one scale a row; activations quantised per token."""

    path = "torch._int_mm"

    def __init__(self, out: int, inner: int, dtype: torch.dtype, device: str):
        self.scale = torch.full((out,), 0.1 / 127, device=device, dtype=torch.float32)
        dense = normal(out, inner, dtype=torch.bfloat16, device=device)
        self.weight = dense.div_(0.1 / 127).round_().clamp_(-127, 127).to(torch.int8)
        self.inner = inner

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""
        flat, rows = _rows(x, self.inner)
        scale = flat.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127
        small = (flat / scale).round_().to(torch.int8)
        y = (torch._int_mm(small, self.weight.t()) * (scale.float() * self.scale)).to(x.dtype)
        return y[:rows].view(*x.shape[:-1], -1)


class Int4(Dense):
    """Packed int4, groups of 128: packed kernel up to 64 rows, else unpacked to 16 bits."""

    path = "aten._weight_int4pack_mm to 64 rows, unpacked above"

    def __init__(self, out: int, inner: int, dtype: torch.dtype, device: str):
        self.inner, self.group, self.step = inner, 128 if inner % 128 == 0 else 32, 0.06 / 7
        self.weight = torch.randint(0, 256, (out, inner // 2), dtype=torch.uint8, device=device)
        low, high = (
            torch.empty(out, inner // 2, device=device).normal_(0, 0.02 / self.step)
            for _ in range(2)
        )
        low, high = ((v.round_().clamp_(-8, 7) + 8).to(torch.uint8) for v in (low, high))
        self.weight.copy_(low | (high << 4))
        self.packed = self.scales = None
        if device == "cuda" and Int4.path.startswith("aten"):
            try:
                if dtype is not torch.bfloat16:
                    raise RuntimeError("the packed kernel takes bf16 only")
                self.packed = torch.ops.aten._convert_weight_to_int4pack((low << 4) | high, 8)
                self.scales = torch.full(
                    (inner // self.group, out, 2), self.step, dtype=dtype, device=device
                )
                self.scales[..., 1] = 0
                torch.ops.aten._weight_int4pack_mm(
                    torch.zeros(1, inner, dtype=dtype, device=device),
                    self.packed,
                    self.group,
                    self.scales,
                )
            except Exception as error:  # the reason is recorded with the block
                Int4.path, self.packed = (
                    f"unpacked to 16 bits in torch: {type(error).__name__}: {error}"[:200],
                    None,
                )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""
        flat = x.reshape(-1, self.inner)
        if self.packed is not None and flat.shape[0] <= 64:
            return torch.ops.aten._weight_int4pack_mm(
                flat, self.packed, self.group, self.scales
            ).view(*x.shape[:-1], -1)
        both = torch.stack((self.weight & 15, self.weight >> 4), dim=-1).view(
            self.weight.shape[0], self.inner
        )
        return F.linear(x, (both.to(x.dtype) - 8) * self.step)


LINEARS: dict[str, type[Dense]] = {"none": Dense, "fp8": Fp8, "int8": Int8, "int4": Int4}


class Experts:
    """Top-2 of `n` SwiGLU experts: one grouped product where it exists, else each in turn."""

    grouped: bool | None = None

    def __init__(self, cfg: Config, dtype: torch.dtype, device: str):
        self.n = cfg.experts
        self.router = normal(self.n, cfg.hidden, dtype=dtype, device=device)
        self.up = normal(self.n, 2 * cfg.ffn, cfg.hidden, dtype=dtype, device=device)
        self.down = normal(self.n, cfg.hidden, cfg.ffn, dtype=dtype, device=device)
        if Experts.grouped is None:
            try:
                self(normal(1, cfg.hidden, dtype=dtype, device=device), attempt=device == "cuda")
                Experts.grouped = device == "cuda"
            except Exception:  # no kernel for this type or device: experts run one by one
                Experts.grouped = False

    def __call__(self, x: Tensor, attempt: bool = False) -> Tensor:
        """Return what the two best experts make of each row."""
        flat = x.reshape(-1, x.shape[-1])
        gate, chosen = F.linear(flat, self.router).float().softmax(-1).topk(2, dim=-1)
        gate = (gate / gate.sum(-1, keepdim=True)).to(x.dtype)
        order = chosen.flatten().argsort()
        rows = flat[order // 2]
        if attempt or self.grouped:
            ends = (
                (chosen.view(-1, 1) == torch.arange(self.n, device=x.device))
                .sum(0)
                .cumsum(0)
                .to(torch.int32)
            )
            a, b = torch._grouped_mm(rows, self.up.transpose(1, 2), offs=ends).chunk(2, dim=-1)
            y = torch._grouped_mm(F.silu(a) * b, self.down.transpose(1, 2), offs=ends)
        else:
            parts, counts = [], torch.bincount(chosen.flatten(), minlength=self.n).tolist()
            for i, part in enumerate(rows.split(counts)):
                a, b = F.linear(part, self.up[i]).chunk(2, dim=-1)
                parts.append(F.linear(F.silu(a) * b, self.down[i]))
            y = torch.cat(parts)
        y = y * gate.flatten()[order].unsqueeze(1)
        return torch.zeros_like(flat).index_add_(0, order // 2, y).view_as(x)


class Decoder:
    """`prefill` rows, then `decode` a token for every row; `logits` without a cache trains."""

    def __init__(
        self, cfg: Config, quant: str, dtype: torch.dtype, device: str, batch: int, room: int
    ):
        self.cfg, self.dtype, self.device, self.room = cfg, dtype, device, room
        make = LINEARS[quant]
        qkv, gated = (cfg.heads + 2 * cfg.kv) * cfg.head, 2 if cfg.act == "swiglu" else 1

        def build(out: int, inner: int) -> Dense:
            return make(out, inner, dtype, device)

        self.layers: list[dict[str, Any]] = []
        for _ in range(cfg.layers):
            layer: dict[str, Any] = {
                "qkv": build(qkv, cfg.hidden),
                "out": build(cfg.hidden, cfg.hidden),
            }
            if cfg.experts:
                layer["moe"] = Experts(cfg, dtype, device)
            else:
                layer |= {
                    "up": build(gated * cfg.ffn, cfg.hidden),
                    "down": build(cfg.hidden, cfg.ffn),
                }
            layer |= {
                n: torch.ones(cfg.hidden, dtype=dtype, device=device) for n in ("norm1", "norm2")
            }
            self.layers.append(layer)
        self.embed = normal(cfg.vocab, cfg.hidden, dtype=dtype, device=device)
        self.head = normal(cfg.vocab, cfg.hidden, dtype=dtype, device=device)
        self.learned = None if cfg.rotary else normal(room, cfg.hidden, dtype=dtype, device=device)
        rot = int(cfg.head * cfg.rotary) // 2 * 2
        angle = torch.arange(room, device=device)[:, None] * 10000.0 ** (
            -torch.arange(0, max(rot, 2), 2, device=device) / max(rot, 2)
        )
        self.rot, self.cos, self.sin = rot, angle.cos().to(dtype), angle.sin().to(dtype)
        self.graph: Any = None
        if batch:
            cache = (batch, cfg.kv, room, cfg.head)
            self.keys = [torch.zeros(cache, dtype=dtype, device=device) for _ in self.layers]
            self.values = [torch.zeros(cache, dtype=dtype, device=device) for _ in self.layers]
            self.row = torch.arange(batch, device=device)
            self.slot = torch.arange(room, device=device)
            self.token = torch.randint(cfg.vocab, (batch,), device=device)
            self.noise = torch.randint(cfg.vocab, (batch,), device=device)
            self.position = torch.zeros(batch, dtype=torch.long, device=device)

    def trainables(self) -> list[Tensor]:
        """Return the weights that training changes."""
        found = [self.embed, self.head, *([self.learned] if self.learned is not None else [])]
        for layer in self.layers:
            found += [
                t
                for part in layer.values()
                for t in ([part] if isinstance(part, Tensor) else part.parameters())
            ]
        return found

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        shape = (self.cfg.hidden,)
        return (
            F.rms_norm(x, shape, weight, 1e-5)
            if self.cfg.norm == "rms"
            else F.layer_norm(x, shape, weight, None, 1e-5)
        )

    def _rotate(self, x: Tensor, position: Tensor) -> Tensor:
        """`x` is [rows, heads, tokens, head]; `position` is [rows or 1, tokens]."""
        if not self.rot:
            return x
        cos, sin = self.cos[position].unsqueeze(1), self.sin[position].unsqueeze(1)
        a, b, rest = x.split((self.rot // 2, self.rot // 2, x.shape[-1] - self.rot), dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1).to(x.dtype)

    def _body(
        self,
        tokens: Tensor,
        position: Tensor,
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        cfg, (rows, n) = self.cfg, tokens.shape
        x = F.embedding(tokens, self.embed)
        if self.learned is not None:
            x = x + self.learned[position]
        for i, layer in enumerate(self.layers):
            h = self._norm(x, layer["norm1"])
            qkv = layer["qkv"](h).view(rows, n, cfg.heads + 2 * cfg.kv, cfg.head).transpose(1, 2)
            q, k, v = qkv.split((cfg.heads, cfg.kv, cfg.kv), dim=1)
            mixed = attend(i, self._rotate(q, position), self._rotate(k, position), v)
            mixed = layer["out"](mixed.transpose(1, 2).reshape(rows, n, cfg.hidden))
            if not cfg.parallel:
                x = x + mixed
                h = self._norm(x, layer["norm2"])
            x = x + self._mlp(layer, h)
            if cfg.parallel:
                x = x + mixed
        return self._norm(x, self.layers[-1]["norm2"])

    def _mlp(self, layer: dict[str, Any], h: Tensor) -> Tensor:
        if "moe" in layer:
            return layer["moe"](h)
        up = layer["up"](h)
        if self.cfg.act == "gelu":
            return layer["down"](F.gelu(up, approximate="tanh"))
        a, b = up.chunk(2, dim=-1)
        return layer["down"](F.silu(a) * b)

    def _causal(self, i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.cfg.kv != self.cfg.heads
        )

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits of whole sequences, without a cache."""
        position = torch.arange(tokens.shape[1], device=self.device)[None]
        return F.linear(self._body(tokens, position, self._causal), self.head)

    @torch.no_grad()
    def prefill(self, tokens: Tensor, first: int) -> None:
        """Fill rows `first`... of the cache and choose each row's first token."""
        rows, n = tokens.shape

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.keys[i][first : first + rows, :, :n] = k
            self.values[i][first : first + rows, :, :n] = v
            return self._causal(i, q, k, v)

        last = self._body(tokens, torch.arange(n, device=self.device)[None], attend)[:, -1]
        self.token[first : first + rows] = F.linear(last, self.head).argmax(-1)
        self.position[first : first + rows] = n

    @torch.no_grad()
    def decode(self) -> None:
        """One token for each row, from static buffers only, so that a graph can hold it."""
        cfg = self.cfg
        unseen = (self.slot[None] > self.position[:, None])[:, None, None]

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.keys[i], self.values[i]
            keys[self.row, :, self.position] = k[:, :, 0]
            values[self.row, :, self.position] = v[:, :, 0]
            q = q.reshape(q.shape[0], cfg.kv, cfg.heads // cfg.kv, cfg.head) * cfg.head**-0.5
            score = (
                (q @ keys.transpose(2, 3))
                .masked_fill(unseen, -3e4)
                .softmax(-1, dtype=torch.float32)
            )
            return (score.to(q.dtype) @ values).reshape(q.shape[0], cfg.heads, 1, cfg.head)

        last = self._body(self.token[:, None], self.position[:, None], attend)[:, 0]
        best = F.linear(last, self.head).argmax(-1)
        self.token.copy_(
            (best + self.noise) % cfg.vocab
        )  # the noise keeps random weights out of short cycles
        self.noise.mul_(5).add_(12345).remainder_(cfg.vocab)
        self.position.add_(1).clamp_(max=self.room - 1)

    def capture(self) -> None:
        """Capture one decode step as a CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.decode()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.decode()

    def advance(self) -> None:
        """Decode one token for every row."""
        if self.graph is None:
            self.decode()
        else:
            self.graph.replay()
