"""The static mesh drawn tile by tile, compiled by numba: the nearest first, none outside the view or behind others."""

import math

import numpy as np

from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel, kernel
from roadworthy.agent.town.kernels import NEAR, draw, project

F = np.float32


@kernel
def draw_tiles(
    vertices: Singles, faces: Ints, spans: Ints, boxes: Singles, planes: Singles, matrix: Singles, eye: Singles,
    detail_range: float, far: float, points: Singles, width: int, height: int, depth: Singles, ids: Ints,
) -> np.int64:  # fmt: skip
    """Draw the tiles in sight into the visibility buffer; returns the number of faces tried.

    `spans` int32 [n, 6]: first and last vertex, and the ends of the faces drawn always, near only and far only.
    `boxes` float32 [n, 6] bounds; `planes` [4, 4] the sides of the view, inside where positive.
    """
    tried = np.int64(0)
    tiles = np.empty(spans.shape[0], np.int32)
    distances = np.empty(spans.shape[0], np.float32)
    count = 0
    for n in range(spans.shape[0]):
        if _outside(boxes[n], planes):
            continue
        distance = _distance(boxes[n], eye)
        if distance <= far:
            # Put in its place among those found before it: they are few hundred at most.
            k = count
            while k > 0 and distances[k - 1] > distance:
                tiles[k] = tiles[k - 1]
                distances[k] = distances[k - 1]
                k -= 1
            tiles[k] = n
            distances[k] = distance
            count += 1
    for k in range(count):
        n = tiles[k]
        if _hidden(boxes[n], matrix, width, height, depth):
            continue
        project(vertices, np.int64(spans[n, 0]), np.int64(spans[n, 1]), matrix, points)
        # int64 as in the calls from Python: a second type would be compiled a second time.
        first, near_only = np.int64(spans[n, 2]), np.int64(spans[n, 3])
        middle, end = np.int64(spans[n, 4]), np.int64(spans[n, 5])
        draw(points, faces, first, near_only, far, width, height, depth, ids)
        if distances[k] < detail_range:
            draw(points, faces, near_only, middle, far, width, height, depth, ids)
            tried += middle - first
        else:
            draw(points, faces, middle, end, far, width, height, depth, ids)
            tried += end - middle + near_only - first
    return tried


@inner_kernel
def _outside(box: Singles, planes: Singles) -> bool:
    """Whether a box lies wholly outside one side of the view."""
    for k in range(4):
        # The corner of the box that lies furthest inside this plane.
        x = box[3] if planes[k, 0] > 0 else box[0]
        y = box[4] if planes[k, 1] > 0 else box[1]
        z = box[5] if planes[k, 2] > 0 else box[2]
        if planes[k, 0] * x + planes[k, 1] * y + planes[k, 2] * z + planes[k, 3] < F(0.0):
            return True
    return False


@inner_kernel
def _distance(box: Singles, eye: Singles) -> float:
    """From the eye to the nearest place of a box [m]."""
    dx = max(max(box[0] - eye[0], eye[0] - box[3]), F(0.0))
    dy = max(max(box[1] - eye[1], eye[1] - box[4]), F(0.0))
    dz = max(max(box[2] - eye[2], eye[2] - box[5]), F(0.0))
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@inner_kernel
def _hidden(box: Singles, matrix: Singles, width: int, height: int, depth: Singles) -> bool:
    """Whether every pixel that a box could touch already shows something nearer than the whole box."""
    low_x = F(1e9)
    low_y = F(1e9)
    high_x = F(-1e9)
    high_y = F(-1e9)
    nearest = F(1e9)
    for corner in range(8):
        x = box[3] if corner & 1 else box[0]
        y = box[4] if corner & 2 else box[1]
        z = box[5] if corner & 4 else box[2]
        w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
        if w < NEAR:
            return False
        sx = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]) / w
        sy = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]) / w
        low_x = min(low_x, sx)
        high_x = max(high_x, sx)
        low_y = min(low_y, sy)
        high_y = max(high_y, sy)
        nearest = min(nearest, w)
    limit = F(1.0) / nearest
    x0 = int(min(max((low_x + F(1.0)) * F(0.5) * F(width) - F(1.0), F(0.0)), F(width)))
    x1 = int(min(max((high_x + F(1.0)) * F(0.5) * F(width) + F(2.0), F(0.0)), F(width)))
    y0 = int(min(max((F(1.0) - high_y) * F(0.5) * F(height) - F(1.0), F(0.0)), F(height)))
    y1 = int(min(max((F(1.0) - low_y) * F(0.5) * F(height) + F(2.0), F(0.0)), F(height)))
    for iy in range(y0, y1):
        for ix in range(x0, x1):
            if depth[iy, ix] <= limit:
                return False
    return True
