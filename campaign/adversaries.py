"""Work that pretends to be other work: hidden mining, padded small models.

What it hides is in the block's labels.

Clocks and power limits stay as they are: throttling is sleeping.
"""

import time
from itertools import pairwise

import torch
import torch.nn.functional as F
from mining import Miner
from shapes import CONFIGS
from works import Emit, Place, Serve, Work, gemm_launch, now, rest_until

from models import normal


def power_reader():
    """Instant power in watts, or None where the driver does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)

        def read() -> float:
            value = pynvml.nvmlDeviceGetFieldValues(handle, [(186, 0)])[0]
            if value.nvmlReturn:
                raise RuntimeError(f"NVML field 186 answers {value.nvmlReturn}")
            return value.value.uiVal / 1e3

        read()
        return read
    except Exception:  # no library, no driver, no such field: whatever it is, there is no reading
        return None


class Spikes(Work):
    """Mining with a short GEMM once a token time: tensor cores at a decoder's cadence."""

    def __init__(self, place: Place, kind: str, cadence_ms: float, seed: int):
        super().__init__(place)
        self.miner, self.spike, self.cadence = (
            Miner(place, kind, seed=seed),
            gemm_launch(place, "bf16", 4096),
            cadence_ms / 1e3,
        )

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, hashes, spikes = now(), 0, 0
        while not spikes or now() - t0 < (1 if self.place.dry else 60_000_000):
            hashes += self.miner.run(self.cadence * 0.93)
            for _ in range(2):
                self.spike()
            self.place.sync()
            spikes += 1
        emit("mine", t0=t0, t1=now(), step=self.count, hashes=hashes, spikes=spikes)
        self.count += 1


class Interleaved(Serve):
    """A true server that hashes for a share `duty` of the time, after each step of its work."""

    def __init__(
        self,
        place: Place,
        kind: str,
        duty: float,
        model: str,
        dtype: str,
        batch: int,
        prompt: int,
        output: int,
        seed: int,
    ):
        super().__init__(place, model, "none", dtype, batch, prompt, output)
        self.miner, self.duty, self.hashes, self.debt = Miner(place, kind, seed=seed), duty, 0, 0.0
        self.between = self.after_prefill = self._mine

    def _mine(self, emit: Emit, spent: float) -> None:
        """Owed time gathers until it is worth a launch; what is hashed is told once a step."""
        self.debt += spent * self.duty / (1 - self.duty)
        if self.debt > 3e-4:
            t0 = now()
            self.hashes += self.miner.run(self.debt)
            self.debt -= (now() - t0) / 1e9

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, before = now(), self.hashes
        super().step(emit)
        emit("mine", t0=t0, t1=now(), step=self.count, hashes=self.hashes - before)
        self.count += 1


class Duty(Work):
    """Mining for a share of each period, nothing in the rest, like an idle or bursty server."""

    def __init__(self, place: Place, kind: str, duty: float, period_s: float, seed: int):
        super().__init__(place)
        self.miner, self.on, self.off = (
            Miner(place, kind, seed=seed),
            int(duty * period_s * 1e9),
            int((1 - duty) * period_s * 1e9),
        )
        self.until, self.mining = now() + self.on, True

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, left = now(), self.until - now()
        if left <= 0:
            self.mining = not self.mining
            left += self.on if self.mining else self.off
            self.until = t0 + left
        if self.mining:
            hashes = self.miner.run(max(0.0005, min(left / 1e9, 0.1)))
            emit("mine", t0=t0, t1=now(), step=self.count, hashes=hashes)
        else:
            rest_until(t0 + max(0, min(left, 100_000_000)))
        self.count += 1


class Blind(Serve):
    """Hashes in the 75 of 100 ms that the instant reading does not see, decodes in the others.

    The readings' phase is found by watching when their value changes, again every five seconds.
    """

    def __init__(
        self,
        place: Place,
        kind: str,
        model: str,
        dtype: str,
        batch: int,
        prompt: int,
        output: int,
        seed: int,
    ):
        super().__init__(place, model, "none", dtype, batch, prompt, output)
        self.miner, self.read = Miner(place, kind, seed=seed), None if place.dry else power_reader()
        self.period, self.origin, self.locked = 100_000_000, now(), 0
        self._lock(2.0)

    def _lock(self, seconds: float) -> None:
        self.locked = now()
        if self.read is None:
            self.notes["phase"] = "free-running: no power reading"
            return
        last, edges, end = self.read(), [], now() + int(seconds * 1e9)
        while now() < end:
            self.model.advance()  # some load, so that the value moves
            self.place.sync()
            if (value := self.read()) != last:
                last = value
                edges.append(now())
        gaps = sorted(b - a for a, b in pairwise(edges))
        if len(gaps) > 3:
            middle = gaps[len(gaps) // 2]
            if 40_000_000 < middle < 250_000_000:
                self.period = middle
            self.origin = edges[-1]
        self.notes["phase"] = {"period_ms": self.period / 1e6, "edges": len(edges)}

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        if now() - self.locked > 5_000_000_000:
            self._lock(0.4)
        t0 = now()
        start = self.origin + ((t0 - self.origin) // self.period + 1) * self.period
        super().step(emit) if self.row < self.batch else self._until(emit, start)
        t1, blind = now(), int(self.period * 0.75)
        if (left := start + blind - t1) > 2_000_000:
            hashes = self.miner.run(left / 1e9 - 0.001)
            emit("mine", t0=t1, t1=now(), step=self.count, hashes=hashes)
        self.count += 1

    def _until(self, emit: Emit, end: int) -> None:
        t0, made = now(), 0
        while now() < end - 4_000_000 or not made:
            self.model.advance()
            self.model.token.cpu()
            made += 1
        self.made += made
        emit("decode", t0=t0, t1=now(), tokens=made * self.batch, step=self.made, iterations=made)
        if self.made >= self.output:
            self.row = self.made = 0


class Masked(Work):
    """Mining with useless GEMM and memory traffic, for the shares of a decoder."""

    def __init__(self, place: Place, kind: str, tensor: float, seed: int):
        super().__init__(place)
        self.miner, self.gemm = Miner(place, kind, seed=seed), gemm_launch(place, "bf16", 2048)
        self.weights = [
            normal(
                *((64, 64) if place.dry else (8192, 8192)),
                dtype=torch.bfloat16,
                device=place.device,
            )
            for _ in range(8)
        ]
        self.x = normal(8, self.weights[0].shape[1], dtype=torch.bfloat16, device=place.device)
        self.tensor, self.gemms = tensor, 1
        if not place.dry:
            place.sync()
            t0 = now()
            for _ in range(50):
                self.gemm()
            place.sync()
            self.gemms = max(1, round(tensor * 10e6 / ((now() - t0) / 50)))

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, hashes = now(), 0
        for _ in range(1 if self.place.dry else 6):
            hashes += self.miner.launch(0.01 * (0.8 - self.tensor))
            for _ in range(self.gemms):
                self.gemm()
            for weight in self.weights * 4:
                F.linear(self.x, weight)
            self.place.sync()
        emit("mine", t0=t0, t1=now(), step=self.count, hashes=hashes)
        self.count += 1


class Matched(Work):
    """Mining slowed by sleeps to the mean power of an honest server, measured for 3 s."""

    def __init__(
        self,
        place: Place,
        kind: str,
        model: str,
        dtype: str,
        batch: int,
        prompt: int,
        output: int,
        seed: int,
    ):
        super().__init__(place)
        self.miner, self.duty = Miner(place, kind, seed=seed), 0.7
        read = None if place.dry else power_reader()
        if read is None:
            self.notes["matched"] = "no power reading: duty .7 assumed"
            return
        server = Serve(place, model, "none", dtype, batch, prompt, output)
        watts = {}
        for name, act in (
            ("serve", lambda: server.step(lambda *a, **k: None)),
            ("mine", lambda: self.miner.run(0.05)),
            ("idle", lambda: time.sleep(0.05)),
        ):
            end, seen = now() + 3_500_000_000, []
            while now() < end:
                act()
                if now() > end - 2_500_000_000:
                    seen.append(read())
            watts[name] = sum(seen) / max(1, len(seen))
        server.close()
        span = watts["mine"] - watts["idle"]
        self.duty = (
            min(1.0, max(0.05, (watts["serve"] - watts["idle"]) / span)) if span > 10 else 0.7
        )
        self.notes["matched"] = {
            **{k: round(v, 1) for k, v in watts.items()},
            "duty": round(self.duty, 3),
        }

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, hashes, cycle = now(), 0, 0.012
        for _ in range(1 if self.place.dry else 5):
            begin = now()
            hashes += self.miner.run(cycle * self.duty)
            rest_until(begin + int((now() - begin) / self.duty))
        emit("mine", t0=t0, t1=now(), step=self.count, hashes=hashes)
        self.count += 1


class Padded(Serve):
    """A smaller model that reads and multiplies dummy weights until it costs what it claims."""

    def __init__(
        self,
        place: Place,
        model: str,
        quant: str,
        dtype: str,
        claim_bytes: float,
        batch: int,
        prompt: int,
        output: int,
    ):
        super().__init__(place, model, quant, dtype, batch, prompt, output)
        own = self.cfg.params * (1 if quant in ("fp8", "int8") else 2)
        side = 64 if place.dry else 8192
        missing = 4 * side * side * 2 if place.dry else max(0.0, claim_bytes - own)
        # The dummy matrices together exceed the second cache, so each pass truly reads memory.
        self.dummy = [
            normal(side, side, dtype=torch.bfloat16, device=place.device)
            for _ in range(4 if place.dry else 16)
        ]
        self.x = normal(self.batch, side, dtype=torch.bfloat16, device=place.device)
        self.big = normal(
            64 if place.dry else 4096, side, dtype=torch.bfloat16, device=place.device
        )
        self.reads, self.extra = (
            max(1, round(missing / (2 * side * side))),
            missing / max(1.0, float(own)),
        )
        self.notes["filler"] = {"matrices_per_token": self.reads, "share": round(self.extra, 3)}
        self.graph, self.one = None, 1e-3
        if not place.dry:
            for weight in self.dummy:
                F.linear(self.x, weight)
            place.sync()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._read()
            F.linear(self.big, self.dummy[0])
            place.sync()
            t0 = now()
            for weight in self.dummy:
                F.linear(self.big, weight)
            place.sync()
            self.one = (now() - t0) / 16e9
        self.between, self.after_prefill = self._fill, self._multiply

    def _read(self) -> None:
        for i in range(self.reads):
            F.linear(self.x, self.dummy[i % len(self.dummy)])

    def _fill(self, emit: Emit, spent: float) -> None:
        self._read() if self.graph is None else self.graph.replay()
        self.place.sync()

    def _multiply(self, emit: Emit, spent: float) -> None:
        for i in range(max(1, min(2000, round(spent * self.extra / self.one)))):
            F.linear(self.big, self.dummy[i % len(self.dummy)])
        self.place.sync()


class Warmed(Work):
    """Another work, cold or right after a preamble: seconds of GEMM, or of rest."""

    def __init__(self, place: Place, inner: Work, hot: bool, seconds: float):
        super().__init__(place)
        self.inner, self.hot, self.left_ns = inner, hot, int(seconds * 1e9)
        self.gemm = gemm_launch(place, "bf16") if hot else None
        self.notes, self.end = inner.notes, None

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0 = now()
        self.end = self.end or t0 + self.left_ns
        if t0 >= self.end:
            self.inner.step(emit)
        elif self.gemm is None:
            time.sleep(0.01 if self.place.dry else 0.1)
            emit("cool", t0=t0, t1=now(), step=self.count)
        else:
            for _ in range(1 if self.place.dry else 40):
                self.gemm()
            self.place.sync()
            emit("preheat", t0=t0, t1=now(), step=self.count)
        self.count += 1

    def close(self) -> None:
        """Let go of what the block held."""
        self.inner.close()
        super().close()


def claimed_bytes(model: str, bits: int = 16) -> float:
    """Return the bytes of the weights of a model."""
    return CONFIGS[model].params * bits / 8
