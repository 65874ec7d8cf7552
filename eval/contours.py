"""Contours of class maps and the exact distances between them: the geometry under BF-score and modified Hausdorff.

A contour is kept as sorted rows per (class, column). The nearest contour point of a pixel is then found by walking
outwards column by column, each a binary search, and stopping as soon as the columns alone are farther than the best point
so far. Predictions lie close to the truth, so few columns are visited; no distance map is ever built.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import MissingExtra
from roadworthy.runtime.taxonomy import IGNORE

try:
    from numba import njit
except ModuleNotFoundError as error:  # pragma: no cover - depends on the installation
    raise MissingExtra("numba", "report", "measuring contours (BF-score, modified Hausdorff)") from error


class Contours(NamedTuple):
    """Contour points of every class of one label map."""

    starts: npt.NDArray[np.int64]  # [N * W + 1] first entry of `rows` per (class, column)
    rows: npt.NDArray[np.int32]  # [K] row of each contour point, ascending within a (class, column)
    pixels: npt.NDArray[np.int64]  # [N] pixels of the class, contour or not


class Directed(NamedTuple):
    """Distances from every contour point of one map to the contour of the same class in another, per class."""

    points: npt.NDArray[np.int64]  # [N] contour points
    total_px: npt.NDArray[np.float64]  # [N] sum of the distances to the nearest point [pixels]; inf without one
    matched: npt.NDArray[np.int64]  # [N] points whose nearest point lies within the tolerance


@njit(cache=True, nogil=True)
def _trace(labels, classes, ignore):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    on_contour = np.zeros((height, width), np.uint8)
    pixels = np.zeros(classes, np.int64)
    starts = np.zeros(classes * width + 1, np.int64)
    for y in range(height):
        for x in range(width):
            c = labels[y, x]
            if c >= classes:  # void
                continue
            pixels[c] += 1
            edge = (
                (y > 0 and labels[y - 1, x] != c and labels[y - 1, x] != ignore)
                or (y + 1 < height and labels[y + 1, x] != c and labels[y + 1, x] != ignore)
                or (x > 0 and labels[y, x - 1] != c and labels[y, x - 1] != ignore)
                or (x + 1 < width and labels[y, x + 1] != c and labels[y, x + 1] != ignore)
            )
            if edge:
                on_contour[y, x] = 1
                starts[c * width + x + 1] += 1
    for i in range(classes * width):
        starts[i + 1] += starts[i]
    rows = np.empty(starts[-1], np.int32)
    filled = starts[:-1].copy()
    for y in range(height):  # rows ascend within every (class, column) because y does
        for x in range(width):
            if on_contour[y, x]:
                slot = labels[y, x] * width + x
                rows[filled[slot]] = y
                filled[slot] += 1
    return starts, rows, pixels


@njit(cache=True, nogil=True)
def _column_gap(rows, first, last, y):  # type: ignore[no-untyped-def]
    """Return the distance in rows from `y` to the nearest of the sorted `rows[first:last]`, which is not empty."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < y:
            low = middle + 1
        else:
            high = middle
    gap = 1 << 30
    if low < last:
        gap = rows[low] - y
    if low > first:
        gap = min(gap, y - rows[low - 1])
    return gap


@njit(cache=True, nogil=True)
def _walk(from_starts, from_rows, to_starts, to_rows, classes, width, tolerance_px):  # type: ignore[no-untyped-def]
    points = np.zeros(classes, np.int64)
    total = np.zeros(classes, np.float64)
    matched = np.zeros(classes, np.int64)
    limit = tolerance_px * tolerance_px + 1e-9  # a point exactly at the tolerance matches
    for c in range(classes):
        base = c * width
        points[c] = from_starts[base + width] - from_starts[base]
        if points[c] == 0:
            continue
        if to_starts[base + width] == to_starts[base]:
            total[c] = np.inf
            continue
        for x in range(width):
            for i in range(from_starts[base + x], from_starts[base + x + 1]):
                y = from_rows[i]
                best = 1 << 60
                offset = 0
                while offset < width and offset * offset < best:
                    for side in range(2):
                        column = x + offset if side == 0 else x - offset
                        if column < 0 or column >= width or (side == 1 and offset == 0):
                            continue
                        first, last = to_starts[base + column], to_starts[base + column + 1]
                        if first < last:
                            gap = _column_gap(to_rows, first, last, y)
                            best = min(best, gap * gap + offset * offset)
                    offset += 1
                total[c] += np.sqrt(best)
                if best <= limit:
                    matched[c] += 1
    return points, total, matched


def trace(labels: npt.NDArray[np.uint8], classes: int) -> Contours:
    """Find the contours of train ids `uint8 [H, W]`.

    A contour point is a pixel with a 4-neighbour of another class. Neither the image border nor void makes a contour.
    """
    return Contours(*_trace(np.ascontiguousarray(labels), classes, IGNORE))


def directed(source: Contours, target: Contours, tolerance_px: float) -> Directed:
    """Measure from each contour point of `source` to the nearest point of the same class in `target`; same image size."""
    classes = len(source.pixels)
    width = (len(source.starts) - 1) // classes
    return Directed(*_walk(source.starts, source.rows, target.starts, target.rows, classes, width, float(tolerance_px)))
