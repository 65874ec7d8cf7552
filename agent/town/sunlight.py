"""Sunlight on a strip of pixels, compiled by numba: the cosine, and whether something stands in the way (`shadows.py`)."""

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.compiling import Singles, inner_kernel
from roadworthy.agent.town.strip import (
    DIRECT,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    PLACE_U,
    PLACE_V,
    SCRATCH_A,
    SHARE_U,
    SHARE_V,
    X,
    Y,
    Z,
)

F = np.float32


@inner_kernel
def light_sun(
    s: Singles, n: int, sun_x: float, sun_y: float, sun_z: float, shadow: npt.NDArray[np.int16], drift_x: float, drift_y: float,
    origin_x: float, origin_y: float, cell: float,
) -> None:  # fmt: skip
    """Share of direct sun: the cosine times how many of the four nearest shadow cells leave the place lit."""
    per_cell = F(1.0) / cell
    rows, columns = shadow.shape
    for i in range(n):
        cosine = max(s[NORMAL_X + i] * sun_x + s[NORMAL_Y + i] * sun_y + s[NORMAL_Z + i] * sun_z, F(0.0))
        lift = F(0.06) + F(0.22) * (F(1.0) - cosine)  # along the normal, against speckles of self-shadow
        z = s[Z + i] + s[NORMAL_Z + i] * lift
        gx = (s[X + i] + s[NORMAL_X + i] * lift - drift_x * z - origin_x) * per_cell - F(0.5)
        gy = (s[Y + i] + s[NORMAL_Y + i] * lift - drift_y * z - origin_y) * per_cell - F(0.5)
        s[PLACE_U + i] = np.floor(gx)
        s[PLACE_V + i] = np.floor(gy)
        s[SHARE_U + i] = gx - s[PLACE_U + i]
        s[SHARE_V + i] = gy - s[PLACE_V + i]
        s[SCRATCH_A + i] = z * F(100.0) + F(6.0)
        s[DIRECT + i] = cosine
    for i in range(n):
        if s[DIRECT + i] <= F(0.0):
            continue
        column = int(s[PLACE_U + i])
        row = int(s[PLACE_V + i])
        if column < 0 or row < 0 or column >= columns - 1 or row >= rows - 1:
            continue
        sx = s[SHARE_U + i]
        sy = s[SHARE_V + i]
        level = s[SCRATCH_A + i]
        near = F(1.0) - sx if F(shadow[row, column]) <= level else F(0.0)
        near += sx if F(shadow[row, column + 1]) <= level else F(0.0)
        far = F(1.0) - sx if F(shadow[row + 1, column]) <= level else F(0.0)
        far += sx if F(shadow[row + 1, column + 1]) <= level else F(0.0)
        s[DIRECT + i] *= near + (far - near) * sy
