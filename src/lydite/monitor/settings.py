"""What a monitor is told: frozen, parsed once. Reads no environment and no clock.

Times are in milliseconds or seconds, as their names say. Without a word about sources it replays a
made-up recording, so that a monitor runs anywhere.
"""

from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(gt=0)]
Hz = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Speed = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
PowerChannel = Literal["power_wall_w", "power_instant_w"]


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings."""


class Nvml(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="nvml"):
    """One NVIDIA device, by the driver's number for it."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    hz: Hz = 100


class Amd(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="amd"):
    """One AMD device, by the library's number for it."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    hz: Hz = 50


class Dcgm(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="dcgm"):
    """One GPU, by number or UUID, of the exporter at ``url``."""

    url: str
    gpu: Name = "0"
    hz: Hz = 1


class Daq(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="daq"):
    """A fast meter: ``file``, or ``address`` (``tcp://HOST:PORT`` or ``unix:PATH``)."""

    name: Name
    file: str | None = None
    address: str | None = None
    channel: PowerChannel = "power_wall_w"
    grid_hz: Hz = 100


class Replay(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="replay"):
    """A recording: a file of columns, a directory of segments, or a made-up one.

    ``speed`` is how many times as fast as it was recorded; 0: as fast as it is taken.
    """

    path: str | None = None
    device: str | None = None
    speed: Speed = 1.0


class Simulated(_Frozen, frozen=True, kw_only=True, tag_field="kind", tag="simulated"):
    """A made-up GPU behind a made-up driver, for trying things out."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    hz: Hz = 100


Source = Nvml | Amd | Dcgm | Daq | Replay | Simulated


class Selfcheck(_Frozen, frozen=True, kw_only=True):
    """How sensors are tried when a monitor starts."""

    seconds: Annotated[int, msgspec.Meta(ge=0, le=600)] = 5
    """How long they are watched at most; 0: not at all, and every channel is believed."""
    burst: tuple[str, ...] = ()
    """A command that loads the GPU as it is told on its standard input; none: sensors are watched
    at whatever load there is, and their averaging windows stay unknown."""
    rise_w: Positive = 50
    """What a burst has to add to the power."""


class Metrics(_Frozen, frozen=True, kw_only=True):
    """Where Prometheus finds the monitor."""

    host: str = "127.0.0.1"
    port: Port = 9464


class Settings(_Frozen, frozen=True, kw_only=True):
    """A monitor of the sensors of one machine."""

    state: str
    """Directory of the segments."""
    key: str
    """File of the private key that seals them."""
    sources: tuple[Source, ...] = (Replay(),)
    core: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The processor core that samples; none: wherever the system puts it."""
    segment_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 10
    """How much is lost at most when the machine fails."""
    ring: Annotated[int, msgspec.Meta(ge=1000, le=100_000_000)] = 200_000
    """How many samples may wait to be kept."""
    drain_ms: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 500
    selfcheck: Selfcheck = Selfcheck()
    metrics: Metrics | None = Metrics()
