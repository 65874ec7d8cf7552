"""Rotations in CARLA's convention, and the poses of actors that ride on others (sensors on cars)."""

from __future__ import annotations

import math

import numpy as np

from roadworthy.agent.town.bodies import Floats
from roadworthy.agent.town.compiling import kernel


@kernel
def _matrix(pose: Floats) -> tuple[float, float, float, float, float, float, float, float, float]:
    """Rotation matrix, row by row, of a pose's pitch, yaw and roll [deg]."""
    p, y, r = math.radians(pose[3]), math.radians(pose[4]), math.radians(pose[5])
    cp, sp, cy, sy, cr, sr = math.cos(p), math.sin(p), math.cos(y), math.sin(y), math.cos(r), math.sin(r)
    return (
        cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr,
        cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr,
        sp, -cp * sr, cp * cr,
    )  # fmt: skip


def rotation(pose: Floats) -> Floats:
    """Rotation matrix [3, 3] of a pose's pitch, yaw and roll [deg]: its columns are the axes."""
    return np.array(_matrix(pose)).reshape(3, 3)


@kernel
def mount(parent: Floats, relative: Floats, out: Floats) -> None:
    """World pose `out` of something at pose `relative` in the axes of `parent`; each x, y, z [m], pitch, yaw, roll [deg]."""
    a = _matrix(parent)
    b = _matrix(relative)
    x, y, z = relative[0], relative[1], relative[2]
    out[0] = parent[0] + a[0] * x + a[1] * y + a[2] * z
    out[1] = parent[1] + a[3] * x + a[4] * y + a[5] * z
    out[2] = parent[2] + a[6] * x + a[7] * y + a[8] * z
    m00 = a[0] * b[0] + a[1] * b[3] + a[2] * b[6]
    m10 = a[3] * b[0] + a[4] * b[3] + a[5] * b[6]
    m20 = a[6] * b[0] + a[7] * b[3] + a[8] * b[6]
    m21 = a[6] * b[1] + a[7] * b[4] + a[8] * b[7]
    m22 = a[6] * b[2] + a[7] * b[5] + a[8] * b[8]
    out[3] = math.degrees(math.asin(min(max(m20, -1.0), 1.0)))
    out[4] = math.degrees(math.atan2(m10, m00))
    out[5] = math.degrees(math.atan2(-m21, m22))


@kernel
def to_local(pose: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A world vector in the axes of `pose`."""
    a = _matrix(pose)
    return a[0] * x + a[3] * y + a[6] * z, a[1] * x + a[4] * y + a[7] * z, a[2] * x + a[5] * y + a[8] * z


@kernel
def to_world(pose: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A vector given in the axes of `pose` in world axes."""
    a = _matrix(pose)
    return a[0] * x + a[1] * y + a[2] * z, a[3] * x + a[4] * y + a[5] * z, a[6] * x + a[7] * y + a[8] * z
