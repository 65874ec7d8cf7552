"""A pinhole camera: its pose, its axes, its projection, and the sides of what it sees."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 1920 * 1080 * 4
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CameraPose:
    """A pinhole camera in UE axes (metres, degrees; pitch up, yaw clockwise, roll as CARLA's) and its picture."""

    x: float
    y: float
    z: float
    pitch: float
    yaw: float
    roll: float
    width: int  # [px]
    height: int  # [px]
    fov: float  # [deg] horizontal


def checked_size(camera: CameraPose) -> tuple[int, int]:
    """Width and height of the picture [px]; raises ValueError for an impossible camera."""
    numbers = (camera.x, camera.y, camera.z, camera.pitch, camera.yaw, camera.roll, camera.fov)
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"camera pose must be finite: {camera}")
    if camera.width < 1 or camera.height < 1 or camera.width * camera.height > MAX_PIXELS:
        raise ValueError(f"picture of {camera.width}x{camera.height}: expected 1x1 up to {MAX_PIXELS} pixels")
    if not 1.0 <= camera.fov <= 170.0:
        raise ValueError(f"field of view {camera.fov}: expected 1 to 170 degrees")
    return camera.width, camera.height


def camera_axes(camera: CameraPose) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
    """Rows right, up, forward [3, 3]; the eye [3]; half the picture's width and height at distance 1."""
    cp, sp = math.cos(math.radians(camera.pitch)), math.sin(math.radians(camera.pitch))
    cy, sy = math.cos(math.radians(camera.yaw)), math.sin(math.radians(camera.yaw))
    cr, sr = math.cos(math.radians(camera.roll)), math.sin(math.radians(camera.roll))
    forward = (cp * cy, cp * sy, sp)
    right = (cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr)
    up = (-cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr)
    half_x = math.tan(math.radians(camera.fov) / 2)
    axes = np.array([right, up, forward], np.float32)
    return axes, np.array([camera.x, camera.y, camera.z], np.float32), half_x, half_x * camera.height / camera.width


def view(axes: NDArray[np.float32], eye: NDArray[np.float32], half_x: float, half_y: float) -> tuple[Floats, Floats]:
    """Projection [3, 4] to (x, y, w), and the four side planes [4, 4] with unit normals, positive inside; float32."""
    ex, ey, ez = eye.tolist()
    rows = []
    for (x, y, z), half in zip(axes.tolist(), (half_x, half_y, 1.0), strict=True):
        rows.append((x / half, y / half, z / half, -(x * ex + y * ey + z * ez) / half))
    ahead = rows[2]
    planes = []
    for row in rows[:2]:
        for sign in (1.0, -1.0):
            a, b, c, d = (f + sign * r for f, r in zip(ahead, row, strict=True))
            length = math.sqrt(a * a + b * b + c * c)
            planes.append((a / length, b / length, c / length, d / length))
    return np.array(rows, np.float32), np.array(planes, np.float32)


def padded(planes: NDArray[np.float32], margin: float = 12.0) -> NDArray[np.float32]:
    """Planes moved outwards, so that actors just out of sight still cast their shadow into the picture."""
    wider = planes.copy()
    wider[:, 3] += margin
    return wider
