"""Light after dark on a strip of pixels, compiled by numba: street lamps and headlamps."""

import math

import numpy as np

from roadworthy.agent.town.compiling import Singles, inner_kernel
from roadworthy.agent.town.strip import BEAM, LAMPS, NORMAL_X, NORMAL_Y, NORMAL_Z, X, Y, Z

F = np.float32


@inner_kernel
def light_street(
    s: Singles, n: int, strength: float, lamp_map: Singles, origin_x: float, origin_y: float, lamp_cell: float
) -> None:
    """Light of the street lamps, read from their map on the ground; it fades above the lamps."""
    per_cell = F(1.0) / lamp_cell
    rows, columns = lamp_map.shape
    for i in range(n):
        mx = (s[X + i] - origin_x) * per_cell
        my = (s[Y + i] - origin_y) * per_cell
        floor_x = np.floor(mx)
        floor_y = np.floor(my)
        column = int(floor_x)
        row = int(floor_y)
        if column < 0 or row < 0 or column >= columns - 1 or row >= rows - 1:
            s[LAMPS + i] = F(0.0)
            continue
        sx = mx - floor_x
        sy = my - floor_y
        low = lamp_map[row, column] * (F(1.0) - sx) + lamp_map[row, column + 1] * sx
        high = lamp_map[row + 1, column] * (F(1.0) - sx) + lamp_map[row + 1, column + 1] * sx
        fade = min(max(F(1.3) - s[Z + i] * F(0.14), F(0.0)), F(1.0))
        s[LAMPS + i] = strength * (low * (F(1.0) - sy) + high * sy) * fade * (F(0.55) + F(0.45) * abs(s[NORMAL_Z + i]))


@inner_kernel
def light_beams(s: Singles, n: int, headlamps: Singles) -> None:
    """Light of the vehicles' low beams: a flat, wide cone ahead of each.

    `headlamps` float32 [h, 6]: position, heading (cosine, sine), strength.
    """
    for h in range(headlamps.shape[0]):
        from_x, from_y, from_z = headlamps[h, 0], headlamps[h, 1], headlamps[h, 2]
        heading_x, heading_y, strength = headlamps[h, 3], headlamps[h, 4], headlamps[h, 5]
        for i in range(n):
            ox = s[X + i] - from_x
            oy = s[Y + i] - from_y
            oz = s[Z + i] - from_z
            ahead = ox * heading_x + oy * heading_y
            within = F(1.0) if ahead > F(0.2) and ahead < F(70.0) else F(0.0)
            inverse = F(1.0) / max(ahead, F(0.2))
            across = (oy * heading_x - ox * heading_y) * inverse
            up = oz * inverse + F(0.05)
            spread = F(1.0) / (F(1.0) + F(5.0) * across * across + F(60.0) * up * up)
            square = ox * ox + oy * oy + oz * oz
            against = s[NORMAL_X + i] * ox + s[NORMAL_Y + i] * oy + s[NORMAL_Z + i] * oz
            cosine = max(-against / math.sqrt(max(square, F(1e-4))), F(0.0))
            s[BEAM + i] += within * strength * spread * spread * (F(0.5) + F(0.5) * cosine) * F(60.0) / (F(90.0) + square)
