"""What a block computes: one class a kind of work.

Each `step` launches about 10-300 ms and waits for it. Events are
`emit(kind, t0=, t1=, tokens=, step=)` in monotonic ns; `mine` events carry `hashes`. Knows no
declarations.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import kernels
import numpy as np
import torch
from kernels import UnavailableError
from shapes import CONFIGS, Config

from models import LINEARS, Decoder, Experts, Int4, normal

Emit = Callable[..., None]
now = time.monotonic_ns
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Place:
    """Where work runs: the GPU at full size, or a small stand-in on the CPU."""

    def __init__(self, dry: bool, seed: int = 0):
        self.dry, self.device = dry, "cpu" if dry else "cuda"
        if not dry and not torch.cuda.is_available():
            raise UnavailableError("torch sees no CUDA device")
        torch.manual_seed(seed)
        self.rng = random.Random(seed)

    def sync(self) -> None:
        """Wait for the device."""
        if not self.dry:
            torch.cuda.synchronize()

    def config(self, name: str) -> Config:
        """Return the shape of a model, tiny in a rehearsal."""
        return CONFIGS[name].tiny() if self.dry else CONFIGS[name]


class Work:
    """`step` until told to stop, then `close`. `notes` holds what only the run can know."""

    def __init__(self, place: Place):
        self.place, self.notes, self.count = place, {}, 0

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what the block held."""
        for name in [n for n in self.__dict__ if n not in ("place", "notes", "count")]:
            setattr(self, name, None)
        if not self.place.dry:
            torch.cuda.empty_cache()


def rest_until(when: int) -> None:
    """Sleep to a monotonic time, the last 300 us awake."""
    if (left := when - now()) > 400_000:
        time.sleep((left - 300_000) / 1e9)
    while now() < when:
        pass


class Idle(Work):
    """Nothing; `context` first makes a CUDA context and a little memory."""

    def __init__(self, place: Place, context: bool):
        super().__init__(place)
        self.held = torch.ones(1 << 20, device=place.device) if context else None

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        time.sleep(0.01 if self.place.dry else 0.1)


class Loop(Work):
    """A launch repeated so often that a step takes about `target` seconds."""

    def __init__(self, place: Place, kind: str, launch: Callable[[], Any], target: float = 0.06):
        super().__init__(place)
        self.kind, self.launch, self.repeat = kind, launch, 1
        launch()
        place.sync()
        begin = now()
        for _ in range(3):
            launch()
        place.sync()
        self.repeat = (
            max(1, min(4000, int(target / max((now() - begin) / 3e9, 1e-6))))
            if not place.dry
            else 1
        )

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0 = now()
        for _ in range(self.repeat):
            self.launch()
        self.place.sync()
        emit(self.kind, t0=t0, t1=now(), step=self.count, launches=self.repeat)
        self.count += 1


def gemm_launch(place: Place, kind: str, n: int = 8192) -> Callable[[], Any]:
    """Return a launch of one matrix product."""
    n = 64 if place.dry else n
    if kind == "fp8":
        product = LINEARS["fp8"](n, n, torch.bfloat16, place.device)
        x = normal(n, n, dtype=torch.bfloat16, device=place.device)
        return lambda: product(x)
    if kind == "random":
        a = normal(n, n, dtype=torch.bfloat16, device=place.device)

        def launch() -> None:
            m, k, w = (16 * place.rng.randrange(1, n // 16 + 1) for _ in range(3))
            a[:m, :k] @ a[:k, :w]

        return launch
    a, b = (normal(n, n, dtype=torch.bfloat16, device=place.device) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def hbm_launch(place: Place) -> Callable[[], Any]:
    """Return a launch of one copy in memory."""
    size = 1 << (12 if place.dry else 32)
    a = torch.randint(0, 255, (size,), dtype=torch.uint8, device=place.device)
    b = torch.empty_like(a)
    return lambda: b.copy_(a)


class Kernels:
    """Kernels compiled by cupy, else by torch; launched on the default stream, over torch's memory.

    Every argument is a tensor or a 32-bit integer.
    """

    def __init__(self, source: str):
        self.source, self.functions, self.module, self.reason = source, {}, None, ""
        try:
            import cupy

            self.module = cupy.RawModule(code=source, options=("--std=c++17",))
            self.module.compile()
        except Exception as error:  # not there, or does not compile: torch's compiler is next
            self.module, self.reason = None, f"cupy: {type(error).__name__}: {error}"[:300]

    def _function(self, name: str) -> Any:
        if name not in self.functions:
            try:
                self.functions[name] = (
                    self.module.get_function(name)
                    if self.module
                    else torch.cuda._compile_kernel(self.source, name)
                )
            except Exception as error:  # no compiler is left, and the block says so
                said = f"torch: {type(error).__name__}: {error}"
                raise UnavailableError(
                    f"{name} does not compile; {self.reason}; {said}"[:600]
                ) from error
        return self.functions[name]

    def launch(self, name: str, grid: int, block: int, *arguments: Any) -> None:
        """Launch one kernel."""
        function = self._function(name)
        if self.module:
            ready = (
                np.uint64(a.data_ptr())
                if isinstance(a, torch.Tensor)
                else np.uint32(a & 0xFFFFFFFF)
                for a in arguments
            )
            function((grid,), (block,), tuple(ready))
        else:
            signed = (
                a if isinstance(a, torch.Tensor) else (a + 2**31) % 2**32 - 2**31 for a in arguments
            )
            function((grid, 1, 1), (block, 1, 1), tuple(signed))


def loop_launch(place: Place, kind: str) -> Callable[[], Any]:
    """fp32, int32 or l2: arithmetic alone, or a 24 MB buffer that stays in the second cache."""
    if place.dry:
        x = torch.rand(256)
        return lambda: x * 0.99 + 0.01
    code, grid = Kernels(kernels.LOOPS_CUDA), 132 * 8
    out = torch.empty(grid * 256, dtype=torch.int32, device=place.device)
    if kind == "l2":
        buffer = torch.randint(
            -(2**31), 2**31 - 1, (6 << 20,), dtype=torch.int32, device=place.device
        )
        items, n = buffer.numel() // 4, 400
        return lambda: code.launch("l2_loop", grid, 256, buffer, items, out, n)
    return lambda: code.launch(f"{kind}_loop", grid, 256, out, 4000)


class Wave(Work):
    """GEMM on for half of each period, off for the other, edges on a fixed grid."""

    def __init__(self, place: Place, period_ms: float):
        super().__init__(place)
        self.launch, self.half = gemm_launch(place, "bf16", 4096), int(period_ms * 5e5)
        self.launch()
        place.sync()
        self.edge = 0

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0 = max(self.edge, now())
        rest_until(t0)
        while now() < t0 + self.half - 150_000:
            self.launch()
            self.place.sync()
        t1 = now()
        emit("on", t0=t0, t1=t1, step=self.count)
        self.edge, self.count = t0 + 2 * self.half, self.count + 1
        rest_until(self.edge)
        emit("off", t0=t1, t1=now(), step=self.count - 1)


class Serve(Work):
    """Batches of requests: prefill in pieces, then decode; `between` runs after each step."""

    def __init__(
        self, place: Place, model: str, quant: str, dtype: str, batch: int, prompt: int, output: int
    ):
        super().__init__(place)
        if place.dry:
            batch, prompt, output, dtype = (
                min(batch, 4),
                16,
                min(output, 4),
                "fp32" if quant == "none" else "bf16",
            )
        self.cfg, self.batch, self.prompt, self.output = place.config(model), batch, prompt, output
        self.model = Decoder(
            self.cfg, quant, DTYPES[dtype], place.device, batch, prompt + max(output, 1)
        )
        self.notes["weights"] = Int4.path if quant == "int4" else LINEARS[quant].path
        self.rows = max(1, min(batch, int((0.08 * 4e14) / (2 * self.cfg.active * prompt))))
        self.row = self.made = 0
        self.between: Callable[[Emit, float], None] | None = None
        self.after_prefill: Callable[[Emit, float], None] | None = None
        self.model.prefill(self._prompts(1), 0)
        if not place.dry and output:
            self._capture()

    def _capture(self) -> None:
        self.notes["graph"] = "captured"
        try:
            if self.cfg.experts and not Experts.grouped:
                raise RuntimeError("no grouped product: experts run one by one")
            self.model.capture()
        except Exception as error:  # runs eagerly, and the block's notes say why
            self.model.graph, self.notes["graph"] = (
                None,
                f"eager: {type(error).__name__}: {error}"[:300],
            )

    def _prompts(self, rows: int) -> torch.Tensor:
        return torch.randint(self.cfg.vocab, (rows, self.prompt), device=self.place.device)

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        if self.row < self.batch:
            self._prefill(emit)
        elif self.made < self.output:
            self._decode(emit)
        if self.row >= self.batch and self.made >= self.output:
            self.row = self.made = 0

    def _prefill(self, emit: Emit) -> None:
        t0, rows = now(), min(self.rows, self.batch - self.row)
        self.model.prefill(self._prompts(rows), self.row)
        self.place.sync()
        t1 = now()
        emit("prefill", t0=t0, t1=t1, tokens=rows * self.prompt, step=self.row)
        self.row += rows
        if self.after_prefill:
            self.after_prefill(emit, (t1 - t0) / 1e9)

    def _decode(self, emit: Emit) -> None:
        t0 = start = now()
        made = 0
        while self.made < self.output and (not made or now() - start < 60_000_000):
            t0 = now()
            self.model.advance()
            self.model.token.cpu()  # the server reads each token, and so waits
            self.made, made = self.made + 1, made + 1
            if self.between:
                self.between(emit, (now() - t0) / 1e9)
        emit(
            "decode", t0=start, t1=now(), tokens=made * self.batch, step=self.made, iterations=made
        )
