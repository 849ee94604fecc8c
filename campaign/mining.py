"""Hashing on a GPU, checked against its own vectors before it counts; no pool, no coin.

Knows nothing of declarations, nor of the work that it may be hidden in.
"""

import kernels
import torch
from kernels import UnavailableError
from works import Emit, Kernels, Place, Work, now


class Miner:
    """Hashes of one kind: `run(seconds)` returns how many. Built only if its own check passes."""

    def __init__(self, place: Place, kind: str, dag_gb: float = 4, seed: int = 1):
        self.place, self.kind, self.rate, self.nonce, self.unit = (
            place,
            kind,
            1e5,
            seed * 7_919_001,
            8,
        )
        if place.dry:
            return
        source = kernels.kawpow_source(seed) if kind == "kawpow" else kernels.SOURCES[kind]
        self.code = Kernels(source)
        self.found = torch.zeros(64, dtype=torch.int32, device=place.device)
        if kind == "sha256d":
            self.job = (
                torch.tensor(kernels.job_words(kernels.GENESIS), dtype=torch.int64)
                .to(torch.int32)
                .to(place.device)
            )
            self._check()
            self.unit = 132 * 8 * 256
        else:
            item = 128 if kind == "ethash" else 256
            self.dag = torch.empty(int(dag_gb * 2**30) // 4, dtype=torch.int32, device=place.device)
            for part in self.dag.split(1 << 28):
                part.random_(-(2**31), 2**31 - 1)
            self.items = self.dag.numel() * 4 // item
            self.unit = 132 * 4 * 256 // (1 if kind == "ethash" else 16)
        self._launch(self.unit)
        self.place.sync()
        for units in (4, 64):
            begin = now()
            self._launch(units * self.unit)
            self.place.sync()
            self.rate = units * self.unit * 1e9 / (now() - begin)

    def _check(self) -> None:
        out = torch.zeros(256 * 8, dtype=torch.int32, device=self.place.device)
        first = 2083236893
        self.code.launch("sha256d_digests", 1, 256, self.job, first, out)
        words = [w & 0xFFFFFFFF for w in out.tolist()]
        for i in range(256):
            digest = b"".join(w.to_bytes(4, "big") for w in words[8 * i : 8 * i + 8])
            if digest != kernels.sha256d(kernels.GENESIS, first + i):
                raise UnavailableError(
                    f"SHA-256d on the GPU differs from hashlib at nonce {first + i}"
                )

    def _launch(self, hashes: int) -> int:
        units = max(1, round(hashes / self.unit))
        if self.kind == "sha256d":
            self.code.launch(
                "sha256d_scan", 132 * 8, 256, self.job, self.nonce, units, 32, self.found
            )
        else:
            self.code.launch(
                f"{self.kind}_scan",
                132 * 4 * units,
                256,
                self.dag,
                self.items,
                self.nonce,
                self.found,
            )
        self.nonce += units * self.unit
        return units * self.unit

    def launch(self, seconds: float) -> int:
        """Queue about this much hashing without waiting for it."""
        if self.place.dry:
            for i in range(8):
                kernels.sha256d(kernels.GENESIS, i)
            return 8
        return self._launch(int(self.rate * seconds))

    def run(self, seconds: float) -> int:
        """Hash for some seconds and return how many hashes."""
        begin = now()
        hashes = self.launch(seconds)
        self.place.sync()
        if not self.place.dry and seconds > 1e-3:
            self.rate = 0.8 * self.rate + 0.2 * hashes * 1e9 / (now() - begin)
        return hashes


class Mine(Work):
    """Hashing as fast as it goes."""

    def __init__(self, place: Place, kind: str, dag_gb: float = 4, seed: int = 1):
        super().__init__(place)
        self.miner = Miner(place, kind, dag_gb, seed)
        self.notes["hashes_per_s"] = round(self.miner.rate)

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0 = now()
        hashes = self.miner.run(0.06)
        emit("mine", t0=t0, t1=now(), step=self.count, hashes=hashes)
        self.count += 1
