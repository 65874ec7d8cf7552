"""Upright boxes in the plane: the grid over the scenery's boxes, and how two oriented boxes overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import Floats
from roadworthy.agent.town.compiling import inner_kernel, kernel

CELL_M = 8.0  # of the grid over the scenery's boxes

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StaticBoxes:
    """The scenery's boxes with a grid over them: cell c holds `items[starts[c]:starts[c + 1]]`."""

    boxes: Floats  # [K, 6] x, y, yaw [rad], half length, half width, height [m]
    origin: tuple[float, float]
    columns: int
    rows: int
    starts: Ints
    items: Ints

    @classmethod
    def build(cls, boxes: Floats) -> StaticBoxes:
        """Sort `boxes [K, 6]` into cells of `CELL_M`; each box is listed in every cell that its bounding square touches."""
        boxes = np.ascontiguousarray(boxes, np.float64).reshape(-1, 6)
        if not len(boxes):
            return cls(boxes, (0.0, 0.0), 1, 1, np.zeros(2, np.int64), np.zeros(0, np.int64))
        cos, sin = np.abs(np.cos(boxes[:, 2])), np.abs(np.sin(boxes[:, 2]))
        half = np.stack([boxes[:, 3] * cos + boxes[:, 4] * sin, boxes[:, 3] * sin + boxes[:, 4] * cos], 1)  # [K, 2]
        low, high = boxes[:, :2] - half, boxes[:, :2] + half
        origin = low.min(0)
        first = ((low - origin) // CELL_M).astype(np.int64)
        last = ((high - origin) // CELL_M).astype(np.int64)
        columns, rows = (last.max(0) + 1).tolist()
        cells: list[int] = []
        items: list[int] = []
        for k in range(len(boxes)):
            for row in range(first[k, 1], last[k, 1] + 1):
                for column in range(first[k, 0], last[k, 0] + 1):
                    cells.append(row * columns + column)
                    items.append(k)
        order = np.argsort(cells, kind="stable")
        starts = np.searchsorted(np.asarray(cells)[order], np.arange(columns * rows + 1))
        return cls(boxes, (float(origin[0]), float(origin[1])), columns, rows, starts, np.asarray(items, np.int64)[order])


@kernel
def overlap(
    ax: float, ay: float, ayaw: float, al: float, aw: float, bx: float, by: float, byaw: float, bl: float, bw: float
) -> tuple[float, float, float, float, float]:
    """Depth [m], normal (from a to b) and contact point of two boxes (centre, yaw [rad], half sizes); depth <= 0: apart."""
    ca, sa, cb, sb = math.cos(ayaw), math.sin(ayaw), math.cos(byaw), math.sin(byaw)
    dx, dy = bx - ax, by - ay
    best, nx, ny = 1e30, 0.0, 0.0
    c, s = abs(ca * cb + sa * sb), abs(ca * sb - sa * cb)
    for axis in range(4):
        if axis == 0:
            ux, uy, reach = ca, sa, al + bl * c + bw * s
        elif axis == 1:
            ux, uy, reach = -sa, ca, aw + bl * s + bw * c
        elif axis == 2:
            ux, uy, reach = cb, sb, bl + al * c + aw * s
        else:
            ux, uy, reach = -sb, cb, bw + al * s + aw * c
        along = dx * ux + dy * uy
        depth = reach - abs(along)
        if depth <= 0.0:
            return depth, 0.0, 0.0, 0.0, 0.0
        if depth < best - 1e-9:
            best = depth
            sign = 1.0 if along >= 0.0 else -1.0
            nx, ny = sign * ux, sign * uy
    px, py = _common_centre(ax, ay, ca, sa, al, aw, bx, by, cb, sb, bl, bw)
    return best, nx, ny, px, py


@inner_kernel
def _common_centre(
    ax: float, ay: float, ca: float, sa: float, al: float, aw: float,
    bx: float, by: float, cb: float, sb: float, bl: float, bw: float,
) -> tuple[float, float]:  # fmt: skip
    """Centroid of the area that two overlapping boxes share: a's corners clipped by b's four sides (Sutherland-Hodgman)."""
    points = np.empty((10, 2))  # in the axes of b
    clipped = np.empty((10, 2))
    for corner in range(4):
        i = 1.0 if corner in (0, 3) else -1.0
        j = 1.0 if corner < 2 else -1.0
        x, y = ax + i * al * ca - j * aw * sa - bx, ay + i * al * sa + j * aw * ca - by
        points[corner, 0], points[corner, 1] = x * cb + y * sb, y * cb - x * sb
    n = 4
    for side in range(4):
        axis, sign, limit = side // 2, 1.0 - 2.0 * (side % 2), bl if side < 2 else bw
        m = 0
        for k in range(n):
            here, there = points[k], points[(k + 1) % n]
            inside = limit - sign * here[axis]
            next_inside = limit - sign * there[axis]
            if inside >= 0.0:
                clipped[m, 0], clipped[m, 1] = here[0], here[1]
                m += 1
            if (inside >= 0.0) != (next_inside >= 0.0):
                share = inside / (inside - next_inside)
                clipped[m, 0] = here[0] + (there[0] - here[0]) * share
                clipped[m, 1] = here[1] + (there[1] - here[1]) * share
                m += 1
        n = m
        for k in range(n):
            points[k, 0], points[k, 1] = clipped[k, 0], clipped[k, 1]
    area, x, y = 0.0, 0.0, 0.0
    for k in range(n):
        here, there = points[k], points[(k + 1) % n]
        cross = here[0] * there[1] - there[0] * here[1]
        area += cross
        x += (here[0] + there[0]) * cross
        y += (here[1] + there[1]) * cross
    if n == 0 or abs(area) < 1e-12:
        x, y = 0.0, 0.0
        for k in range(n):
            x += points[k, 0]
            y += points[k, 1]
        x, y = x / max(n, 1), y / max(n, 1)
    else:
        x, y = x / (3.0 * area), y / (3.0 * area)
    return bx + x * cb - y * sb, by + x * sb + y * cb
