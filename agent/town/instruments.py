"""What a sensor is made to be: the attributes of its blueprint, read and checked once when it is spawned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import Stream

MAX_PIXELS = 1920 * 1080 * 4  # of one camera
MAX_SIDE = 8192  # [px]
MAX_CHANNELS = 1024
MAX_POINTS_PER_S = 10_000_000
MAX_REACH_M = 2000.0
STREAMS = {
    "sensor.camera.rgb": Stream.RGB,
    "sensor.camera.semantic_segmentation": Stream.SEMANTIC,
    "sensor.camera.instance_segmentation": Stream.INSTANCE,
    "sensor.camera.depth": Stream.DEPTH,
    "sensor.lidar.ray_cast": Stream.LIDAR,
    "sensor.lidar.ray_cast_semantic": Stream.SEMANTIC_LIDAR,
    "sensor.other.radar": Stream.RADAR,
    "sensor.other.obstacle": Stream.OBSTACLE,
    "sensor.other.collision": Stream.COLLISION,
    "sensor.other.lane_invasion": Stream.LANE_INVASION,
    "sensor.other.imu": Stream.IMU,
    "sensor.other.gnss": Stream.GNSS,
}


@dataclass(frozen=True)
class Camera:
    """The picture that a camera takes."""

    width: int  # [px]
    height: int  # [px]
    fov: float  # [deg] horizontal


@dataclass(frozen=True)
class Lidar:
    """A turning fan of lasers. The dropping and the noise are not a semantic lidar's."""

    channels: int
    reach_m: float
    points_per_s: int
    turns_per_s: float
    upper_deg: float
    lower_deg: float
    horizontal_deg: float
    attenuation_per_m: float  # of the intensity
    dropped: float  # share of rays that are lost before they are cast
    drop_limit: float  # intensity above which no point is lost
    drop_at_zero: float  # share of points lost at intensity 0
    noise_m: float  # standard deviation along the ray


@dataclass(frozen=True)
class Radar:
    """Random rays in an elliptic cone."""

    reach_m: float
    points_per_s: int
    horizontal_deg: float
    vertical_deg: float


@dataclass(frozen=True)
class Probe:
    """A ball pushed straight ahead until it touches something (the obstacle detector)."""

    reach_m: float
    radius_m: float
    only_dynamics: bool


@dataclass
class Sensor:
    """The part of an actor that measures."""

    kind: Stream
    stream: int
    period_s: float = 0.0  # 0: every tick
    due_s: float = 0.0  # simulation time of the next measurement
    instrument: Camera | Lidar | Radar | Probe | None = None
    noise: dict[str, float] = field(default_factory=dict)
    dice: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    ignored: frozenset[int] = frozenset()  # ids of vehicles that it does not see
    turned_deg: float = 0.0  # how far a lidar has turned within its horizontal field of view


def make_sensor(type_id: str, attributes: Mapping[str, str], stream: int) -> Sensor:
    """The sensor that a client's attributes describe. Raises `CallRefused` for impossible ones and unknown types."""
    if type_id not in STREAMS:
        raise CallRefused(f"sensor {type_id!r} is not available in the town; it has: {', '.join(STREAMS)}")
    kind, read = STREAMS[type_id], _Reader(attributes)
    noise = {key: read.number(key, 0.0) for key in attributes if key.startswith("noise_")}
    instrument: Camera | Lidar | Radar | Probe | None = None
    if type_id.startswith("sensor.camera."):
        instrument = _camera(read)
    elif kind in (Stream.LIDAR, Stream.SEMANTIC_LIDAR):
        instrument = _lidar(read, noisy=kind == Stream.LIDAR)
    elif kind == Stream.RADAR:
        fov = (read.within("horizontal_fov", 30.0, 0.0, 170.0), read.within("vertical_fov", 30.0, 0.0, 170.0))
        points = int(read.within("points_per_second", 1500, 0, MAX_POINTS_PER_S))
        instrument = Radar(read.within("range", 100.0, 0.0, MAX_REACH_M), points, *fov)
    elif kind == Stream.OBSTACLE:
        radius = read.within("hit_radius", 0.5, 0.001, 100.0)
        dynamic = attributes.get("only_dynamics", "false").lower() in ("true", "1")
        instrument = Probe(read.within("distance", 5.0, 0.0, MAX_REACH_M), radius, dynamic)
    period = max(read.number("sensor_tick", 0.0), 0.0)
    dice = np.random.default_rng(int(abs(noise.get("noise_seed", 0.0))) + 1)
    return Sensor(kind, stream, period, 0.0, instrument, noise, dice)


def _camera(read: _Reader) -> Camera:
    width, height = int(read.number("image_size_x", 800)), int(read.number("image_size_y", 600))
    if width < 1 or height < 1 or width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise CallRefused(f"image of {width}x{height}: expected 1x1 to {MAX_SIDE} a side and at most {MAX_PIXELS} pixels")
    return Camera(width, height, read.within("fov", 90.0, 1.0, 170.0))


def _lidar(read: _Reader, *, noisy: bool) -> Lidar:
    channels = int(read.within("channels", 32, 1, MAX_CHANNELS))
    points = int(read.within("points_per_second", 56_000, 0, MAX_POINTS_PER_S))
    upper, lower = read.within("upper_fov", 10.0, -90.0, 90.0), read.within("lower_fov", -30.0, -90.0, 90.0)
    return Lidar(
        channels, read.within("range", 10.0, 0.0, MAX_REACH_M), points, read.within("rotation_frequency", 10.0, 0.0, 1e4),
        upper, lower, read.within("horizontal_fov", 360.0, 0.0, 360.0),
        read.within("atmosphere_attenuation_rate", 0.004, 0.0, 1e3),
        read.within("dropoff_general_rate", 0.45, 0.0, 1.0) if noisy else 0.0,
        read.within("dropoff_intensity_limit", 0.8, 0.0, 1e3) if noisy else 0.0,
        read.within("dropoff_zero_intensity", 0.4, 0.0, 1.0) if noisy else 0.0,
        read.within("noise_stddev", 0.0, 0.0, 1e3) if noisy else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    """Numbers out of attributes, whose values are text."""

    attributes: Mapping[str, str]

    def number(self, key: str, default: float) -> float:
        """A finite number, or the default where the client left the attribute out. Raises `CallRefused`."""
        try:
            value = float(self.attributes.get(key, default))
        except ValueError as error:
            raise CallRefused(f"attribute {key!r}: expected a number, got {self.attributes[key]!r:.40}") from error
        if not math.isfinite(value):
            raise CallRefused(f"attribute {key!r}: expected a finite number, got {value}")
        return value

    def within(self, key: str, default: float, low: float, high: float) -> float:
        """A number between two limits. Raises `CallRefused`."""
        value = self.number(key, default)
        if not low <= value <= high:
            raise CallRefused(f"attribute {key!r}: expected {low:g} to {high:g}, got {value:g}")
        return value
