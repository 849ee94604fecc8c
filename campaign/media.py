"""The media engines, through ctypes: nvJPEG decode; NVDEC and NVENC asked for and reported."""

import ctypes
import glob
import sys
import time

import torch
from works import Emit, Place, UnavailableError, Work, now

SITE = [f"{p}/nvidia/**/lib*/libnvjpeg.so*" for p in sys.path if p.endswith("-packages")]


def library(names: list[str], patterns: list[str]) -> ctypes.CDLL:
    """Return the first library that loads."""
    tried = names + [
        hit
        for pattern in patterns
        for hit in glob.glob(pattern, recursive=True)  # noqa: PTH207 - patterns from the root
    ]
    for name in tried:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise UnavailableError(f"none of these libraries loads: {', '.join(tried)}")


class Probe(Work):
    """Asks whether the NVDEC or NVENC library is there and answers; the answer is in the notes."""

    def __init__(self, place: Place, engine: str):
        super().__init__(place)
        name = {"nvdec": "libnvcuvid.so.1", "nvenc": "libnvidia-encode.so.1"}[engine]
        try:
            lib = ctypes.CDLL(name)
        except OSError as error:
            self.notes[engine] = f"absent: {error}"
            return
        if engine == "nvenc":
            version = ctypes.c_uint(0)
            code = lib.NvEncodeAPIGetMaxSupportedVersion(ctypes.byref(version))
            self.notes[engine] = (
                f"library answers {code}, version {version.value >> 4}.{version.value & 15};"
                " no session opened"
            )
        else:
            self.notes[engine] = "library loads; no video stream at hand, nothing decoded"

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        emit("probe", step=self.count)
        self.count += 1
        time.sleep(0.05)


class Channels(ctypes.Structure):
    """nvJPEG's planes of a picture."""

    _fields_ = [("channel", ctypes.c_void_p * 4), ("pitch", ctypes.c_size_t * 4)]


class Jpeg(Work):
    """Decodes batches of a random 1024x1024 picture with nvJPEG, on its engine if it answers."""

    def __init__(self, place: Place):
        super().__init__(place)
        if place.dry:
            self.notes["nvjpeg"] = "not tried without a GPU"
            return
        self.lib = lib = library(
            ["libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so"],
            [*SITE, "/usr/local/cuda*/lib64/libnvjpeg.so*"],
        )
        self.handle, self.side, self.batch = ctypes.c_void_p(), 1024, 32
        self._ok(lib.nvjpegCreateSimple(ctypes.byref(self.handle)), "create")
        coarse = torch.rand(3, 1, 128, 128, device=place.device)
        planes = (
            torch.nn.functional.interpolate(coarse, size=self.side, mode="bilinear")
            .mul(255)
            .to(torch.uint8)
        )
        self.out = planes.squeeze(1).contiguous()
        self.image = Channels()
        for i in range(3):
            self.image.channel[i], self.image.pitch[i] = self.out[i].data_ptr(), self.side
        self.data = self._encode()
        self.notes["jpeg_bytes"] = len(self.data)
        self.all = (Channels * self.batch)(*[self.image] * self.batch)
        self.pictures = (ctypes.c_char_p * self.batch)(*[self.data] * self.batch)
        self.sizes = (ctypes.c_size_t * self.batch)(*[len(self.data)] * self.batch)
        try:
            self._prepare(3)
            self.notes["backend"] = "hardware"
        except UnavailableError as error:
            self._prepare(0)
            self.notes["backend"] = f"default, since {error}"

    def _prepare(self, backend: int) -> None:
        self.engine, self.state = ctypes.c_void_p(), ctypes.c_void_p()
        self._ok(
            self.lib.nvjpegCreateEx(backend, None, None, 0, ctypes.byref(self.engine)),
            f"backend {backend}",
        )
        self._ok(self.lib.nvjpegJpegStateCreate(self.engine, ctypes.byref(self.state)), "state")
        self._ok(
            self.lib.nvjpegDecodeBatchedInitialize(self.engine, self.state, self.batch, 1, 3),
            "batch",
        )
        self._decode()
        torch.cuda.synchronize()

    def _ok(self, code: int, what: str) -> None:
        if code:
            raise UnavailableError(f"nvJPEG {what} answers {code}")

    def _encode(self) -> bytes:
        lib, state, params, length = (
            self.lib,
            ctypes.c_void_p(),
            ctypes.c_void_p(),
            ctypes.c_size_t(),
        )
        self._ok(
            lib.nvjpegEncoderStateCreate(self.handle, ctypes.byref(state), None), "encoder state"
        )
        self._ok(
            lib.nvjpegEncoderParamsCreate(self.handle, ctypes.byref(params), None),
            "encoder parameters",
        )
        self._ok(lib.nvjpegEncoderParamsSetSamplingFactors(params, 2, None), "4:2:0")
        torch.cuda.synchronize()
        self._ok(
            lib.nvjpegEncodeImage(
                self.handle, state, params, ctypes.byref(self.image), 3, self.side, self.side, None
            ),
            "encode",
        )
        self._ok(
            lib.nvjpegEncodeRetrieveBitstream(self.handle, state, None, ctypes.byref(length), None),
            "length",
        )
        data = ctypes.create_string_buffer(length.value)
        self._ok(
            lib.nvjpegEncodeRetrieveBitstream(self.handle, state, data, ctypes.byref(length), None),
            "bits",
        )
        torch.cuda.synchronize()
        return data.raw[: length.value]

    def _decode(self) -> None:
        self._ok(
            self.lib.nvjpegDecodeBatched(
                self.engine, self.state, self.pictures, self.sizes, self.all, None
            ),
            "decode",
        )

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, made = now(), 0
        if self.place.dry:
            time.sleep(0.01)
        while not self.place.dry and now() - t0 < 60_000_000:
            self._decode()
            torch.cuda.synchronize()
            made += self.batch
        emit("decode-jpeg", t0=t0, t1=now(), step=self.count, images=made)
        self.count += 1
