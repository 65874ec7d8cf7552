"""The ground's mesh: asphalt, sidewalks with kerbs, paint and terrain, each polygon cut into tiles."""

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from roadworthy.agent.town.markings import Marking
from roadworthy.agent.town.mesh import MeshBuilder, Paint, triangles
from roadworthy.agent.town.mesh import tiles as cut
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.surfaces import KERB_HEIGHT, TERRAIN_HEIGHT, HeightField, polygons_of
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import Layer

Floats = NDArray[np.float64]
PAINT_LIFT = 0.012  # [m] of paint over the asphalt; enough for a float32 depth buffer at 300 m
_ROAD_TILE, _TERRAIN_TILE, _HILL_TILE = 24.0, 40.0, 8.0  # [m]
_OVERLAP = 0.12  # [m] that asphalt runs under kerbs and grass under sidewalks, so that no crack shows
INKS = {
    "white": (0.80, 0.80, 0.77),
    "yellow": (0.80, 0.62, 0.22),
    "blue": (0.25, 0.35, 0.75),
    "green": (0.25, 0.6, 0.3),
    "red": (0.7, 0.2, 0.2),
}


class Tint:
    """A smooth random brightness over the plane: the same place always gets the same value."""

    def __init__(self, rng: np.random.Generator, spread: float, scale: float) -> None:
        """`spread` of the value around 1, `scale` [m] of its patches."""
        self._waves = rng.uniform(-1, 1, (6, 2)) * (2 * math.pi / scale)
        self._phases = rng.uniform(0, 2 * math.pi, 6)
        self._spread = spread

    def __call__(self, x: Floats, y: Floats) -> Floats:
        """Brightness [n] at points."""
        angle = np.outer(x, self._waves[:, 0]) + np.outer(y, self._waves[:, 1]) + self._phases
        result: Floats = 1 + self._spread * np.sin(angle).sum(1) / math.sqrt(6)
        return result


def add_ground(builder: MeshBuilder, roads: RoadNetwork, rng: np.random.Generator) -> None:
    """Add every ground surface of the map."""
    hilly = not roads.heights.flat
    road_tile = _HILL_TILE if hilly else _ROAD_TILE
    terrain_tile = _HILL_TILE * 2 if hilly else _TERRAIN_TILE
    asphalt = (Paint(Layer.ASPHALT, Tag.ROADS), Paint(Layer.ASPHALT_OLD, Tag.ROADS))
    grey = Tint(rng, 0.10, 35.0)
    old = rng.uniform(0.1, 0.6)
    for piece in cut(roads.drivable.buffer(_OVERLAP, join_style="mitre"), road_tile):
        paint = asphalt[int(rng.random() < old)]
        _flat(builder, piece, roads.heights, 0.0, paint.tinted([rng.uniform(0.9, 1.1)] * 3), 0.16, grey)
    slabs = Paint((Layer.SLABS, Layer.CONCRETE)[int(rng.random() < 0.5)], Tag.SIDEWALKS, _hue(rng, 0.03))
    pale = Tint(rng, 0.08, 20.0)
    for piece in cut(roads.sidewalk, road_tile):
        _flat(
            builder,
            piece,
            roads.heights,
            KERB_HEIGHT,
            slabs.tinted(np.array(slabs.colour) * rng.uniform(0.92, 1.08)),
            0.2,
            pale,
        )
    _kerbs(builder, roads, Paint(Layer.CONCRETE, Tag.SIDEWALKS, (shade := float(rng.uniform(0.85, 1.3)), shade, shade * 0.97)))
    grass = (Paint(Layer.GRASS, Tag.TERRAIN), Paint(Layer.MEADOW, Tag.TERRAIN))
    green = Tint(rng, 0.22, 60.0)
    dry = rng.uniform(0.1, 0.7)
    paved = shapely.union_all([roads.drivable, roads.sidewalk]).buffer(-_OVERLAP, join_style="mitre")
    for piece in cut(box(*roads.bounds).difference(paved), terrain_tile):
        paint = grass[int(rng.random() < dry)].tinted(_hue(rng, 0.1))
        _flat(builder, piece, roads.heights, TERRAIN_HEIGHT, paint, 0.13, green)
    wear = rng.spawn(1)[0]  # of its own: one line more or less must not move the houses
    for marking in roads.markings:
        _stroke(builder, marking, roads.heights, wear)


def _hue(rng: np.random.Generator, spread: float) -> tuple[float, float, float]:
    r, g, b = rng.uniform(1 - spread, 1 + spread, 3)
    return float(r), float(g), float(b)


def _flat(
    builder: MeshBuilder, piece: BaseGeometry, heights: HeightField, lift: float, paint: Paint, repeat: float, tint: Tint
) -> None:
    corners = triangles(piece).reshape(-1, 2)
    if len(corners) == 0:
        return
    z = heights(corners[:, 0], corners[:, 1]) + lift
    shade = tint(corners[:, 0], corners[:, 1])[:, None]
    faces = np.arange(len(corners)).reshape(-1, 3)
    builder.add(np.column_stack([corners, z]), faces, (0, 0, 1), corners * repeat, paint, shade)


def _kerbs(builder: MeshBuilder, roads: RoadNetwork, paint: Paint) -> None:
    """Upright faces round every sidewalk, and a pale kerb stone along the asphalt is the sidewalk's own edge."""
    starts, ends = [], []
    for polygon in polygons_of(roads.sidewalk):
        turned = orient(polygon, 1.0)  # outside lies right of the walk (x right, y up reading of the plane)
        for ring in (turned.exterior, *turned.interiors):
            points = np.array(ring.coords)[:, :2]
            starts.append(points[:-1])
            ends.append(points[1:])
    if not starts:
        return
    a, b = np.concatenate(starts), np.concatenate(ends)
    length = np.linalg.norm(b - a, axis=1)
    keep = length > 0.02
    a, b, length = a[keep], b[keep], length[keep]
    outward = np.stack([b[:, 1] - a[:, 1], a[:, 0] - b[:, 0]], 1) / length[:, None]
    za, zb = roads.heights(a[:, 0], a[:, 1]), roads.heights(b[:, 0], b[:, 1])
    points = np.stack(
        [
            np.column_stack([a, za - 0.02]), np.column_stack([b, zb - 0.02]),
            np.column_stack([b, zb + KERB_HEIGHT]), np.column_stack([a, za + KERB_HEIGHT]),
        ], 1,
    )  # fmt: skip  # [n, 4, 3]
    normals = np.repeat(np.column_stack([outward, 0 * length])[:, None], 4, axis=1)
    faces = np.array([[0, 1, 2], [0, 2, 3]])[None] + 4 * np.arange(len(a))[:, None, None]
    uv = np.zeros((len(a), 4, 2))
    uv[:, 1:3, 0] = length[:, None] * 0.25
    uv[:, 2:, 1] = 0.05
    builder.add(points.reshape(-1, 3), faces, normals.reshape(-1, 3), uv, paint)


def _stroke(builder: MeshBuilder, marking: Marking, heights: HeightField, rng: np.random.Generator) -> None:
    line = marking.line[:, :2]
    if heights.flat:
        line = np.array(shapely.LineString(line).simplify(0.01).coords)
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    across = np.stack([-tangent[:, 1], tangent[:, 0]], 1) * marking.width / 2
    left, right = line - across, line + across
    n = len(line)
    xy = np.concatenate([left, right])
    z = heights(xy[:, 0], xy[:, 1]) + PAINT_LIFT
    i = np.arange(n - 1)
    faces = np.concatenate([np.stack([i, i + 1, n + i + 1], 1), np.stack([i, n + i + 1, n + i], 1)])
    colour = np.array(INKS[marking.colour]) * rng.uniform(0.82, 1.08)
    paint = Paint(Layer.PAINT, Tag.ROAD_LINES).tinted(colour)
    builder.add(np.column_stack([xy, z]), faces, (0, 0, 1), xy * 0.3 + rng.uniform(0, 1, 2), paint)


def paved_area(roads: RoadNetwork) -> BaseGeometry:
    """Asphalt and sidewalks together."""
    return shapely.union_all([roads.drivable, roads.sidewalk])
