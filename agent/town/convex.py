"""Cuts labelled plane regions into convex polygons that share whole edges, as a navigation mesh needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import polygonize

MAX_CORNERS = 6  # corners of a polygon; the Detour file format has room for six
GRID_M = 0.01  # [m] vertices lie on this grid, so that neighbours share them exactly
MAX_EDGE_M = 20.0  # [m] longer borders are cut: no slivers hundreds of metres long
HAIRLINE_M = 0.04  # [m] a crack between two regions narrower than this is filled, or it would be an invisible wall


@dataclass(frozen=True)
class ConvexMesh:
    """Convex polygons over shared vertices.

    Corners run clockwise when x is drawn to the right and y upwards (negative area). Two polygons that touch share the
    same two vertices of an edge, never a part of it.
    """

    vertices: npt.NDArray[np.float64]  # [V, 2] x, y in metres
    polygons: tuple[tuple[int, ...], ...]  # vertex indices, 3 to MAX_CORNERS each
    labels: tuple[int, ...]  # one per polygon: the label of the region it lies in

    def edge_owners(self) -> dict[tuple[int, int], int]:
        """Index of the polygon that runs along each directed edge (from vertex, to vertex)."""
        return {edge: k for k, corners in enumerate(self.polygons) for edge in _edges(corners)}


def partition(regions: Sequence[tuple[BaseGeometry, int]]) -> ConvexMesh:
    """Cut `regions` (area, label) into one conforming mesh. Where regions overlap the first one wins."""
    snapped = [(shapely.set_precision(area, GRID_M), label) for area, label in regions]
    outlines = [
        shapely.LineString(ring.coords)
        for area, _ in snapped
        for part in shapely.get_parts(area)
        if isinstance(part, Polygon)
        for ring in (part.exterior, *part.interiors)
    ]
    # Snap-rounding while noding turns every T junction into a shared vertex; noding first and snapping after does not.
    net = shapely.union_all(shapely.segmentize(outlines, MAX_EDGE_M), grid_size=GRID_M)
    index: dict[tuple[int, int], int] = {}
    triangles: list[tuple[int, ...]] = []
    labels: list[int] = []
    for face in polygonize(shapely.get_parts(net)):
        label = _label(face, snapped)
        if label is None:
            continue
        for triangle in shapely.get_parts(shapely.constrained_delaunay_triangles(face)):
            keys = [(round(x / GRID_M), round(y / GRID_M)) for x, y in shapely.get_coordinates(triangle)[:3]]
            corners = tuple(index.setdefault(key, len(index)) for key in keys)
            # Triangles without area stay: they carry the adjacency between their neighbours.
            if len(set(corners)) == 3:
                triangles.append(corners if _area(keys) <= 0 else corners[::-1])
                labels.append(label)
    vertices = np.array(list(index), dtype=np.float64).reshape(-1, 2) * GRID_M  # [V, 2]
    return _merge(vertices, triangles, labels)


def _label(face: BaseGeometry, regions: Sequence[tuple[BaseGeometry, int]]) -> int | None:
    inside = face.representative_point()
    for area, label in regions:
        if area.contains(inside):
            return label
    if face.buffer(-HAIRLINE_M / 2).is_empty:
        return min(regions, key=lambda region: region[0].distance(inside))[1]
    return None  # a real hole


def _edges(corners: Sequence[int]) -> list[tuple[int, int]]:
    return [(corners[i], corners[(i + 1) % len(corners)]) for i in range(len(corners))]


def _area(points: Sequence[tuple[float, float]]) -> float:
    """Twice the signed area; negative for clockwise corners."""
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(points, [*points[1:], points[0]], strict=True))


def _is_convex(corners: Sequence[int], vertices: npt.NDArray[np.float64]) -> bool:
    points = vertices[list(corners)]  # [K, 2]
    step = np.roll(points, -1, axis=0) - points
    following = np.roll(step, -1, axis=0)
    turn = step[:, 0] * following[:, 1] - step[:, 1] * following[:, 0]
    return bool((turn <= 1e-6).all())


def _merge(vertices: npt.NDArray[np.float64], triangles: Sequence[tuple[int, ...]], labels: Sequence[int]) -> ConvexMesh:
    """Join neighbours of one label over their longest edges first, while the result stays convex."""
    polygons = dict(enumerate(triangles))
    owner = {edge: k for k, corners in polygons.items() for edge in _edges(corners)}
    inner = sorted(
        {(min(edge), max(edge)) for edge in owner if edge[::-1] in owner},
        key=lambda edge: (-math.dist(vertices[edge[0]], vertices[edge[1]]), edge),
    )
    for a, b in inner:
        one, other = owner.get((a, b)), owner.get((b, a))
        if one is None or other is None or one == other or labels[one] != labels[other]:
            continue
        first, second = polygons[one], polygons[other]
        i, j = first.index(b), second.index(a)
        joined = (*first[i:], *first[:i], *(second[j:] + second[:j])[1:-1])  # b ... a, then round the other side to b
        if len(joined) <= MAX_CORNERS and len(set(joined)) == len(joined) and _is_convex(joined, vertices):
            del polygons[other], owner[a, b], owner[b, a]
            polygons[one] = joined
            owner.update(dict.fromkeys(_edges(joined), one))
    return ConvexMesh(vertices, tuple(polygons.values()), tuple(labels[k] for k in polygons))
