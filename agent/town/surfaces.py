"""What the ground is at any point: a fine raster of the drivable, sidewalk and terrain polygons, and the ground's height."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import NearestNDInterpolator
from scipy.ndimage import gaussian_filter
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

KERB_HEIGHT = 0.15  # [m] of the sidewalk over the road
TERRAIN_HEIGHT = 0.10  # [m] of the grass over the road
_CELL = 0.2  # [m]; larger for maps over 1.2 km across
_MAX_CELLS = 6000  # per axis
_HEIGHT_CELL = 4.0  # [m]


class Ground(IntEnum):
    """Kinds of ground."""

    TERRAIN = 0
    ROAD = 1
    SIDEWALK = 2


@dataclass(frozen=True)
class Surface:
    """The ground at one point."""

    ground: Ground
    height: float  # [m] world z of the ground there


def polygons_of(shape: BaseGeometry) -> list[Polygon]:
    """The polygons inside any geometry, empty ones dropped."""
    if isinstance(shape, Polygon):
        return [] if shape.is_empty else [shape]
    if isinstance(shape, MultiPolygon) or hasattr(shape, "geoms"):
        return [p for part in shape.geoms for p in polygons_of(part)]
    return []


class HeightField:
    """The road level z(x, y): exact zero on flat maps, else the smoothed height of the nearest lane centre."""

    def __init__(self, points: NDArray[np.float64], bounds: tuple[float, float, float, float]) -> None:
        """`points` float64 [n, 3] on lane centres; `bounds` x0, y0, x1, y1 [m]."""
        self.flat = bool(np.abs(points[:, 2]).max() < 0.02)
        self._x0, self._y0 = bounds[0], bounds[1]
        if self.flat:
            return
        xs = np.arange(bounds[0], bounds[2] + _HEIGHT_CELL, _HEIGHT_CELL)
        ys = np.arange(bounds[1], bounds[3] + _HEIGHT_CELL, _HEIGHT_CELL)
        nearest = NearestNDInterpolator(points[:, :2], points[:, 2])
        self._grid = gaussian_filter(nearest(*np.meshgrid(xs, ys)), 1.0)  # [ny, nx]

    def __call__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Road level [m] at arrays of points (bilinear)."""
        if self.flat:
            return np.zeros(np.broadcast(x, y).shape)
        u = np.clip((np.asarray(x) - self._x0) / _HEIGHT_CELL, 0, self._grid.shape[1] - 1.001)
        v = np.clip((np.asarray(y) - self._y0) / _HEIGHT_CELL, 0, self._grid.shape[0] - 1.001)
        i, j = u.astype(int), v.astype(int)
        a, b = u - i, v - j
        g = self._grid
        low = g[j, i] * (1 - a) + g[j, i + 1] * a
        high = g[j + 1, i] * (1 - a) + g[j + 1, i + 1] * a
        result: NDArray[np.float64] = low * (1 - b) + high * b
        return result


class SurfaceGrid:
    """`Ground` per cell of a raster over the town; points outside it are terrain."""

    def __init__(
        self, drivable: BaseGeometry, sidewalk: BaseGeometry, bounds: tuple[float, float, float, float], heights: HeightField
    ) -> None:
        """Rasterise the polygons; a cell takes the kind of its centre."""
        x0, y0, x1, y1 = bounds
        self._cell = max(_CELL, max(x1 - x0, y1 - y0) / _MAX_CELLS)
        self._x0, self._y0 = x0, y0
        self._width = int((x1 - x0) / self._cell) + 1
        self._height = int((y1 - y0) / self._cell) + 1
        cells = np.zeros((self._height, self._width), np.uint8)
        for shape, ground in ((sidewalk, Ground.SIDEWALK), (drivable, Ground.ROAD)):
            cells[self._mask(shape)] = ground
        self._cells = cells
        self._heights = heights

    def _mask(self, shape: BaseGeometry) -> NDArray[np.bool_]:
        """Cells whose centre lies inside: every edge flips the rest of each row that it crosses (even-odd rule)."""
        flips = np.zeros((self._height, self._width + 1), np.uint8)
        for polygon in polygons_of(shape):
            for ring in (polygon.exterior, *polygon.interiors):
                points = (np.asarray(ring.coords)[:, :2] - (self._x0, self._y0)) / self._cell - 0.5  # whole at cell centres
                start, end = points[:-1], points[1:]
                low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
                first = np.clip(np.ceil(low), 0, self._height).astype(np.int64)
                count = np.clip(np.ceil(high), 0, self._height).astype(np.int64) - first
                edge = np.repeat(np.arange(len(start)), count)
                row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
                slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
                column = np.ceil(start[edge, 0] + (row - start[edge, 1]) * slope)
                np.bitwise_xor.at(flips, (row, np.clip(column, 0, self._width).astype(np.int64)), 1)
        inside: NDArray[np.bool_] = np.bitwise_xor.accumulate(flips, axis=1)[:, :-1].astype(bool)
        return inside

    def ground(self, x: float, y: float) -> Ground:
        """The kind of ground at one point."""
        i, j = int((x - self._x0) / self._cell), int((y - self._y0) / self._cell)
        if x < self._x0 or y < self._y0 or i >= self._width or j >= self._height:
            return Ground.TERRAIN
        return Ground(int(self._cells[j, i]))

    def at(self, x: float, y: float) -> Surface:
        """Kind and height of the ground at one point."""
        ground = self.ground(x, y)
        raised = (TERRAIN_HEIGHT, 0.0, KERB_HEIGHT)[ground]
        level = 0.0 if self._heights.flat else float(self._heights(np.array([x]), np.array([y]))[0])
        return Surface(ground, level + raised)
