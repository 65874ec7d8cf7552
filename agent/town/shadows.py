"""The sun's shadow map, compiled by numba.

The map lies on the ground: a point (x, y, z) throws its shadow on (x - drift_x z, y - drift_y z) at level 0, and each cell
keeps the highest z that falls on it. So its resolution is the same at noon and at dusk, and only what
is higher shades what is lower.
"""

import math

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.compiling import Ints, Singles, kernel

F = np.float32
Heights = npt.NDArray[np.int16]  # [cm]
NOTHING = -32000  # [cm] a cell that no shadow falls on


@kernel
def cast_shadows(
    vertices: Singles, faces: Ints, first: int, last: int, drift_x: float, drift_y: float, origin_x: float, origin_y: float,
    cell: float, shadow: Heights,
) -> None:  # fmt: skip
    """Draw faces into the shadow map, which is laid out on the ground.

    A point (x, y, z) throws its shadow on (x - drift_x z, y - drift_y z) at level 0; the map keeps the highest z [cm, int16]
    that falls on each cell.
    """
    rows, columns = shadow.shape
    for t in range(first, last):
        a = faces[t, 0]
        b = faces[t, 1]
        c = faces[t, 2]
        za = vertices[a, 2]
        zb = vertices[b, 2]
        zc = vertices[c, 2]
        xa = (vertices[a, 0] - drift_x * za - origin_x) / cell
        ya = (vertices[a, 1] - drift_y * za - origin_y) / cell
        xb = (vertices[b, 0] - drift_x * zb - origin_x) / cell
        yb = (vertices[b, 1] - drift_y * zb - origin_y) / cell
        xc = (vertices[c, 0] - drift_x * zc - origin_x) / cell
        yc = (vertices[c, 1] - drift_y * zc - origin_y) / cell
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if abs(area) < F(1e-6):
            continue
        if max(xa, max(xb, xc)) < F(0.0) or max(ya, max(yb, yc)) < F(0.0):
            continue
        if min(xa, min(xb, xc)) > F(columns) or min(ya, min(yb, yc)) > F(rows):
            continue
        x0 = max(0, math.ceil(min(xa, min(xb, xc)) - F(0.5)))
        x1 = min(columns - 1, math.floor(max(xa, max(xb, xc)) - F(0.5)))
        y0 = max(0, math.ceil(min(ya, min(yb, yc)) - F(0.5)))
        y1 = min(rows - 1, math.floor(max(ya, max(yb, yc)) - F(0.5)))
        inverse = F(1.0) / area
        for iy in range(y0, y1 + 1):
            dy = F(iy) + F(0.5) - ya
            for ix in range(x0, x1 + 1):
                dx = F(ix) + F(0.5) - xa
                lb = (dx * (yc - ya) - (xc - xa) * dy) * inverse
                lc = ((xb - xa) * dy - dx * (yb - ya)) * inverse
                if lb >= F(0.0) and lc >= F(0.0) and lb + lc <= F(1.0):
                    z = np.int16(min(max((za + (zb - za) * lb + (zc - za) * lc) * F(100.0), F(-32000.0)), F(32000.0)))
                    if z > shadow[iy, ix]:
                        shadow[iy, ix] = z


@kernel
def actor_shadows(
    vertices: Singles, faces: Ints, placed: Ints, actors: Singles, eye: Singles, reach: float, drift_x: float, drift_y: float,
    origin_x: float, origin_y: float, cell: float, base: Heights, shadow: Heights, dirty: Ints,
) -> Ints:  # fmt: skip
    """Put back what `dirty` int32 [n, 4] covers, then draw the shadows of actors within `reach`; returns the new `dirty`."""
    rows, columns = shadow.shape
    for k in range(dirty.shape[0]):
        for iy in range(dirty[k, 1], dirty[k, 3]):
            for ix in range(dirty[k, 0], dirty[k, 2]):
                shadow[iy, ix] = base[iy, ix]
    touched = np.empty((actors.shape[0], 4), np.int32)
    count = 0
    for k in range(actors.shape[0]):
        first = np.int64(placed[k, 0])
        last = np.int64(placed[k, 1])
        dx = actors[k, 1] - eye[0]
        dy = actors[k, 2] - eye[1]
        if last == first or dx * dx + dy * dy > reach * reach:
            continue
        low_x = F(1e9)
        low_y = F(1e9)
        high_x = F(-1e9)
        high_y = F(-1e9)
        for t in range(first, last):
            for e in range(3):
                v = faces[t, e]
                x = (vertices[v, 0] - drift_x * vertices[v, 2] - origin_x) / cell
                y = (vertices[v, 1] - drift_y * vertices[v, 2] - origin_y) / cell
                low_x = min(low_x, x)
                high_x = max(high_x, x)
                low_y = min(low_y, y)
                high_y = max(high_y, y)
        x0 = int(max(low_x, F(0.0)))
        y0 = int(max(low_y, F(0.0)))
        x1 = int(min(high_x + F(1.0), F(columns)))
        y1 = int(min(high_y + F(1.0), F(rows)))
        if x0 >= x1 or y0 >= y1:
            continue
        touched[count, 0] = x0
        touched[count, 1] = y0
        touched[count, 2] = x1
        touched[count, 3] = y1
        count += 1
        cast_shadows(vertices, faces, first, last, drift_x, drift_y, origin_x, origin_y, cell, shadow)
    return touched[:count].copy()
