"""Codecs of CARLA 0.9.16's wire protocol: pure functions between Python values and what the real client sends and reads.

Calls are msgpack-rpc on one port; sensor data and the episode state are length-prefixed binary messages on another.
All binary integers and floats are little-endian and packed. Lengths are metres, angles degrees, axes Unreal's
(left-handed, z up).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.errors import CallRefused

VERSION = "0.9.16"

Wire = Any  # a msgpack value: None, bool, int, float, str, bytes, or a list of these
Vector = tuple[float, float, float]


class Stream(IntEnum):
    """Sensor type index in the header of every stream message (client 0.9.16)."""

    COLLISION = 0
    DEPTH = 1
    NORMALS = 2
    GNSS = 4
    IMU = 5
    LANE_INVASION = 6
    OBSTACLE = 7
    RADAR = 9
    SEMANTIC_LIDAR = 10
    LIDAR = 11
    RGB = 13
    SEMANTIC = 14
    INSTANCE = 15
    WORLD = 17


class AttributeType(IntEnum):
    """Type of a blueprint attribute (the client's own numbering starts at 1)."""

    BOOL = 1
    INT = 2
    FLOAT = 3
    STRING = 4
    COLOUR = 5


class LightState(IntEnum):
    """State of a traffic light."""

    RED = 0
    YELLOW = 1
    GREEN = 2
    OFF = 3
    UNKNOWN = 4


class Command(IntEnum):
    """Alternative number of a command inside `apply_batch`."""

    SPAWN_ACTOR = 0
    DESTROY_ACTOR = 1
    VEHICLE_CONTROL = 2
    ACKERMANN_CONTROL = 3
    WALKER_CONTROL = 4
    PHYSICS_CONTROL = 5
    TRANSFORM = 6
    WALKER_STATE = 7
    TARGET_VELOCITY = 8
    TARGET_ANGULAR_VELOCITY = 9
    IMPULSE = 10
    FORCE = 11
    ANGULAR_IMPULSE = 12
    TORQUE = 13
    SIMULATE_PHYSICS = 14
    ENABLE_GRAVITY = 15
    AUTOPILOT = 16
    DEBUG_TELEMETRY = 17
    LIGHT_STATE = 18
    LOCATION = 19
    CONSOLE = 20
    TRAFFIC_LIGHT_STATE = 21


STATE_STREAM = 1  # stream id of the episode state
MAP_CHANGED = 1  # flag in the episode state's header

_HEADER = struct.Struct("<QQd6f")  # sensor type, frame, simulation time [s], x y z [m], pitch yaw roll [deg]
_EPISODE = struct.Struct("<Qdf3iI")  # episode id, platform time [s], step [s], map origin, flags
_IMAGE = struct.Struct("<IIf")  # width, height [px], horizontal field of view [deg]
_TOKEN = struct.Struct("<IHBB16x")  # stream id, port, protocol (1 = TCP), address type (0 = the host you called)

# One actor in the episode state: 65 common bytes, then a union by kind of actor (offsets overlap).
RECORD = np.dtype(
    {
        "names": [
            "id", "state", "pose", "velocity", "angular_velocity", "acceleration",
            "control", "hand_brake", "reverse", "manual_gear", "gear", "speed_limit",
            "light", "at_light", "light_id", "failure",
            "walk", "jump",
            "sign_id", "green", "yellow", "red", "elapsed", "pole", "frozen", "light_state",
        ],
        "formats": [
            "<u4", "u1", ("<f4", 6), ("<f4", 3), ("<f4", 3), ("<f4", 3),
            ("<f4", 3), "u1", "u1", "u1", "<i4", "<f4",
            "u1", "u1", "<u4", "u1",
            ("<f4", 4), "u1",
            "S32", "<f4", "<f4", "<f4", "<f4", "<u4", "u1", "u1",
        ],
        "offsets": [
            0, 4, 5, 29, 41, 53,
            65, 77, 78, 79, 80, 84,
            88, 89, 90, 94,
            65, 81,
            65, 97, 101, 105, 109, 113, 117, 118,
        ],
        "itemsize": 119,
    }
)  # fmt: skip


def token(stream: int, port: int) -> bytes:
    """24 bytes that tell a client where to subscribe to `stream`."""
    return _TOKEN.pack(stream, port, 1, 0)


# ---- results ---------------------------------------------------------------------------------------------------------


def ok(value: Wire) -> Wire:
    """Wrap the result of a call that returns a value (and one entry of `apply_batch`'s result)."""
    return [[1, value]]


def failed(message: str) -> Wire:
    """Wrap the failure of a call that returns a value."""
    return [[0, [message]]]


VOID: Wire = [[False]]  # success of a call that returns nothing


def void_failed(message: str) -> Wire:
    """Wrap the failure of a call that returns nothing."""
    return [[True, [message]]]


def refusal(result: Wire) -> str | None:
    """The message of a wrapped failure (of either kind), None for a success."""
    failure = result[0][0] is True or (result[0][0] == 0 and result[0][0] is not False)
    return str(result[0][1][0]) if failure else None


def response(message_id: int, error: str | None, result: Wire) -> bytes:
    """One msgpack-rpc answer; a non-empty `error` is for calls that the server does not have."""
    return pack([1, message_id, error, result])


def pack(value: Wire) -> bytes:
    """Msgpack with text as str and bytes as bin; text that was not UTF-8 when it came goes back as it was."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")
    return packed


# ---- stream messages -------------------------------------------------------------------------------------------------


def message_header(kind: Stream, frame: int, time_s: float, pose: Sequence[float]) -> bytes:
    """48 bytes before every stream body; `pose` is x, y, z [m], pitch, yaw, roll [deg] of the sensor."""
    return _HEADER.pack(kind, frame, time_s, *pose)


def episode_header(episode: int, platform_s: float, step_s: float, flags: int) -> bytes:
    """36 bytes before the actor records of an episode state."""
    return _EPISODE.pack(episode, platform_s, step_s, 0, 0, 0, flags)


def image_header(width: int, height: int, fov: float) -> bytes:
    """12 bytes before the pixels (BGRA rows, top to bottom) of a camera message."""
    return _IMAGE.pack(width, height, fov)


def encode_depth(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """CARLA's depth picture of `depth_m [H, W]`: 24 bits over 1000 m, R the lowest byte. Returns BGRA `[H, W, 4]`."""
    value = (np.clip(depth_m, 0.0, 1000.0).astype(np.float64) * ((2**24 - 1) / 1000.0)).astype(np.uint32)
    picture = np.empty((*depth_m.shape, 4), np.uint8)
    picture[..., 2] = value & 255
    picture[..., 1] = (value >> 8) & 255
    picture[..., 0] = value >> 16
    picture[..., 3] = 255
    return picture


def encode_tags(tags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """CARLA's raw semantic picture of `tags [H, W]`: the tag in R. Returns BGRA `[H, W, 4]`."""
    picture = np.zeros((*tags.shape, 4), np.uint8)
    picture[..., 2] = tags
    picture[..., 3] = 255
    return picture


def encode_instances(tags: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """CARLA's instance picture: tag in R, 16-bit instance id in G (low) and B (high). Returns BGRA `[H, W, 4]`."""
    picture = encode_tags(tags)
    picture[..., 1] = instances & 255
    picture[..., 0] = (instances >> 8) & 255
    return picture


def _lidar_header(angle: float, counts: npt.NDArray[np.integer]) -> bytes:
    return struct.pack("<fI", angle, len(counts)) + counts.astype("<u4").tobytes()


def lidar_body(
    angle: float, counts: npt.NDArray[np.integer], points: npt.NDArray[np.floating], intensity: npt.NDArray[np.floating]
) -> bytes:
    """A lidar's message: its horizontal angle [rad], points per channel [C], then x, y, z, intensity of every point."""
    return _lidar_header(angle, counts) + np.column_stack([points, intensity]).astype("<f4").tobytes()


def semantic_lidar_body(
    angle: float, counts: npt.NDArray[np.integer], points: npt.NDArray[np.floating], cosine: npt.NDArray[np.floating],
    actors: npt.NDArray[np.integer], tags: npt.NDArray[np.integer],
) -> bytes:  # fmt: skip
    """A semantic lidar's message: as a lidar's, with x, y, z, cosine of incidence, actor id and tag of every point."""
    rows = np.empty(len(points), [("point", "<f4", 3), ("cosine", "<f4"), ("actor", "<u4"), ("tag", "<u4")])
    rows["point"], rows["cosine"], rows["actor"], rows["tag"] = points, cosine, actors, tags
    return _lidar_header(angle, counts) + rows.tobytes()


def radar_body(detections: npt.NDArray[np.floating]) -> bytes:
    """A radar's message: velocity, azimuth, altitude, depth of every detection [D, 4]."""
    return detections.astype("<f4").tobytes()


# ---- reading what a client sent --------------------------------------------------------------------------------------


def number(value: Wire, name: str = "number") -> float:
    """A finite float from the wire; raises `CallRefused` for anything else (NaN and infinity included)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CallRefused(f"{name}: expected a finite number, got {value!r:.60}")
    return float(value)


def integer(value: Wire, name: str = "integer") -> int:
    """An int from the wire; raises `CallRefused` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallRefused(f"{name}: expected an integer, got {value!r:.60}")
    return value


def flag(value: Wire, name: str = "flag") -> bool:
    """A bool from the wire; raises `CallRefused` for anything else."""
    if not isinstance(value, bool):
        raise CallRefused(f"{name}: expected true or false, got {value!r:.60}")
    return value


def text(value: Wire, name: str = "text") -> str:
    """A string from the wire; raises `CallRefused` for anything else."""
    if not isinstance(value, str):
        raise CallRefused(f"{name}: expected text, got {value!r:.60}")
    return value


def array(value: Wire, name: str = "array", length: int | None = None) -> list[Wire]:
    """A list from the wire (of `length` items when given); raises `CallRefused` for anything else."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        wanted = "a list" if length is None else f"a list of {length}"
        raise CallRefused(f"{name}: expected {wanted}, got {value!r:.60}")
    return value


def numbers(value: Wire, length: int, name: str = "numbers") -> list[float]:
    """A list of `length` finite numbers; raises `CallRefused` for anything else."""
    return [number(item, name) for item in array(value, name, length)]


def vector(value: Wire, name: str = "vector") -> Vector:
    """Three finite numbers; raises `CallRefused` for anything else."""
    x, y, z = numbers(value, 3, name)
    return x, y, z


def transform(value: Wire, name: str = "transform") -> tuple[float, float, float, float, float, float]:
    """A Transform from the wire as x, y, z [m], pitch, yaw, roll [deg]; raises `CallRefused` when it is not one."""
    location, rotation = array(value, name, 2)
    x, y, z = numbers(location, 3, name)
    if max(abs(x), abs(y), abs(z)) > MAX_COORDINATE:
        raise CallRefused(f"{name}: location ({x:.0f}, {y:.0f}, {z:.0f}) is outside ±{MAX_COORDINATE:.0f} m")
    pitch, yaw, roll = numbers(rotation, 3, name)
    return x, y, z, math.remainder(pitch, 360.0), math.remainder(yaw, 360.0), math.remainder(roll, 360.0)


MAX_COORDINATE = 1.0e6  # [m] beyond this float32 positions are no longer good to a decimetre


def control_value(value: Wire, low: float, high: float, if_nan: float) -> float:
    """A control axis clamped to `[low, high]`. NaN, which the Traffic Manager sends as brake, becomes `if_nan`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CallRefused(f"control: expected a number, got {value!r:.60}")
    if math.isnan(value):
        return if_nan
    return min(max(float(value), low), high)


def optional(value: float | None) -> Wire:
    """An optional number on the wire."""
    return [False] if value is None else [True, value]


def wire_transform(pose: Sequence[float]) -> Wire:
    """A Transform on the wire from x, y, z, pitch, yaw, roll."""
    return [list(pose[:3]), list(pose[3:6])]


def bounding_box(centre: Iterable[float], extent: Iterable[float], yaw: float = 0.0, actor: int = 0) -> Wire:
    """A BoundingBox on the wire: centre and half sizes [m], its own yaw [deg], the actor it belongs to."""
    return [list(centre), list(extent), [0.0, yaw, 0.0], actor]
