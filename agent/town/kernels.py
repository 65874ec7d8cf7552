"""The rasteriser's first half, compiled by numba: which triangle each pixel sees. `raster.py` drives it.

Screen y runs down. A triangle that faces the camera has a positive area there (UE axes are left-handed, and so are the camera's
right, up, forward). The visibility buffer holds, per pixel, 1 / depth and the number of the nearest triangle; colours are
worked out once per pixel afterwards (`shading.py`). No fast-math: the same input gives the same bytes.
"""

import math

import numpy as np

from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel, kernel

F = np.float32
NEAR = F(0.12)  # [m]


@kernel
def project(vertices: Singles, first: int, last: int, matrix: Singles, out: Singles) -> None:
    """Rows `first` to `last` of world points [V, 3] to (x, y, w) with ndc = x/w, y/w; `matrix` [3, 4]."""
    for i in range(first, last):
        x = vertices[i, 0]
        y = vertices[i, 1]
        z = vertices[i, 2]
        for r in range(3):
            out[i, r] = matrix[r, 0] * x + matrix[r, 1] * y + matrix[r, 2] * z + matrix[r, 3]


@inner_kernel
def _fill(
    x0: float, y0: float, w0: float, x1: float, y1: float, w1: float, x2: float, y2: float, w2: float,
    width: int, height: int, depth: Singles, ids: Ints, number: int,
) -> None:  # fmt: skip
    """Draw one triangle, given in pixels; keep it where it is nearer than what is there.

    In float64: float32 bends the edges of long thin triangles (road paint) by a pixel.
    """
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area <= 1e-9:
        return
    low_x = min(x0, min(x1, x2))
    high_x = max(x0, max(x1, x2))
    low_y = min(y0, min(y1, y2))
    high_y = max(y0, max(y1, y2))
    if high_x < 0.5 or high_y < 0.5 or low_x > width - 0.5 or low_y > height - 0.5:
        return
    first_x = math.ceil(max(low_x, 0.5) - 0.5)
    last_x = math.floor(min(high_x, width - 0.5) - 0.5)
    first_y = math.ceil(max(low_y, 0.5) - 0.5)
    last_y = math.floor(min(high_y, height - 0.5) - 0.5)
    if first_x > last_x or first_y > last_y:
        return
    # Where each edge crosses a row, worked out from its upper end: two triangles that share an edge agree to the bit.
    side0, from0, at0, slope0 = _edge(x0, y0, x1, y1)
    side1, from1, at1, slope1 = _edge(x1, y1, x2, y2)
    side2, from2, at2, slope2 = _edge(x2, y2, x0, y0)
    z0 = 1.0 / w0
    z1 = 1.0 / w1 - z0
    z2 = 1.0 / w2 - z0
    z_x = (z1 * (y2 - y0) - z2 * (y1 - y0)) / area
    z_y = (z2 * (x1 - x0) - z1 * (x2 - x0)) / area
    for iy in range(first_y, last_y + 1):
        y = iy + 0.5
        low = first_x + 0.5
        high = last_x + 0.5
        cross = from0 + (y - at0) * slope0
        if side0 > 0:
            high = min(high, cross)
        elif side0 < 0:
            low = max(low, cross)
        cross = from1 + (y - at1) * slope1
        if side1 > 0:
            high = min(high, cross)
        elif side1 < 0:
            low = max(low, cross)
        cross = from2 + (y - at2) * slope2
        if side2 > 0:
            high = min(high, cross)
        elif side2 < 0:
            low = max(low, cross)
        if low > high:
            continue
        start = math.ceil(low - 0.5)
        end = math.floor(high - 0.5)
        z = z0 + (start + 0.5 - x0) * z_x + (y - y0) * z_y
        for ix in range(start, end + 1):
            here = F(z)
            if here > depth[iy, ix]:
                depth[iy, ix] = here
                ids[iy, ix] = number
            z += z_x


@inner_kernel
def _edge(xa: float, ya: float, xb: float, yb: float) -> tuple[int, float, float, float]:
    """An edge of a triangle: 1 where it bounds rows on the right, -1 on the left, 0 for a level one; its upper end; dx/dy."""
    if yb > ya:
        return 1, xa, ya, (xb - xa) / (yb - ya)
    if yb < ya:
        return -1, xb, yb, (xa - xb) / (ya - yb)
    return 0, xa, ya, 0.0


@kernel
def draw(
    points: Singles, faces: Ints, first: int, last: int, far: float, width: int, height: int, depth: Singles, ids: Ints
) -> None:
    """Draw faces `first` to `last` (projected points [V, 3]) into the visibility buffer, clipping at the near plane."""
    sx = width * 0.5
    sy = height * 0.5
    polygon = np.empty((4, 3), np.float64)
    for t in range(first, last):
        a = faces[t, 0]
        b = faces[t, 1]
        c = faces[t, 2]
        wa = points[a, 2]
        wb = points[b, 2]
        wc = points[c, 2]
        if wa < NEAR and wb < NEAR and wc < NEAR:
            continue
        if wa > far and wb > far and wc > far:
            continue
        xa = points[a, 0]
        xb = points[b, 0]
        xc = points[c, 0]
        if (xa > wa and xb > wb and xc > wc) or (xa < -wa and xb < -wb and xc < -wc):
            continue
        ya = points[a, 1]
        yb = points[b, 1]
        yc = points[c, 1]
        if (ya > wa and yb > wb and yc > wc) or (ya < -wa and yb < -wb and yc < -wc):
            continue
        if wa >= NEAR and wb >= NEAR and wc >= NEAR:
            ia = 1.0 / wa
            ib = 1.0 / wb
            ic = 1.0 / wc
            _fill(
                sx + sx * xa * ia, sy - sy * ya * ia, np.float64(wa), sx + sx * xb * ib, sy - sy * yb * ib, np.float64(wb),
                sx + sx * xc * ic, sy - sy * yc * ic, np.float64(wc), width, height, depth, ids, t,
            )  # fmt: skip
            continue
        count = 0
        for e in range(3):
            u = faces[t, e]
            v = faces[t, (e + 1) % 3]
            wu = points[u, 2]
            wv = points[v, 2]
            if wu >= NEAR:
                polygon[count, 0] = points[u, 0]
                polygon[count, 1] = points[u, 1]
                polygon[count, 2] = wu
                count += 1
            if (wu >= NEAR) != (wv >= NEAR):
                share = (NEAR - wu) / (wv - wu)
                polygon[count, 0] = points[u, 0] + share * (points[v, 0] - points[u, 0])
                polygon[count, 1] = points[u, 1] + share * (points[v, 1] - points[u, 1])
                polygon[count, 2] = NEAR
                count += 1
        for e in range(1, count - 1):
            p = polygon[0]
            q = polygon[e]
            r = polygon[e + 1]
            _fill(
                sx + sx * p[0] / p[2], sy - sy * p[1] / p[2], p[2], sx + sx * q[0] / q[2], sy - sy * q[1] / q[2], q[2],
                sx + sx * r[0] / r[2], sy - sy * r[1] / r[2], r[2], width, height, depth, ids, t,
            )  # fmt: skip
