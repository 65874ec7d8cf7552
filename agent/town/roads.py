"""The road network: drivable surface, sidewalks, crossings, paint, signals and spawn points of any OpenDRIVE map. UE axes."""

import math
from dataclasses import dataclass, replace
from typing import Any

import carla
import numpy as np
import shapely
from shapely.geometry import Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from roadworthy.agent.town import opendrive
from roadworthy.agent.town.lanes import LaneShape, sample_lanes
from roadworthy.agent.town.markings import Marking, lane_markings, stop_markings, zebra
from roadworthy.agent.town.signals import BEFORE_END, Signal, read_signals
from roadworthy.agent.town.surfaces import Ground, HeightField, Surface, SurfaceGrid, polygons_of

ASPHALT = frozenset({
    "driving", "bidirectional", "shoulder", "stop", "entry", "exit", "onRamp", "offRamp", "connectingRamp", "biking", "parking",
    "restricted", "bus", "taxi", "HOV",
})  # fmt: skip
_GAP = 0.03  # [m] lanes are grown by it so that neighbours touch
_JUNCTION_CLOSE = 4.0  # [m] gaps between turning lanes up to twice this are asphalt
_LARGEST_JUNCTION = 3000.0  # [m2] holes in anything larger (a motorway loop) stay open
_OVERLAY_GRID = 0.001  # [m] to which outlines are snapped where they are subtracted from each other
_BAND = 2.4  # [m] sidewalk beside every road of a map without sidewalk lanes
_BEFORE_CROSSING = 4.4  # [m] from a stop line to the lane's end where a crossing has to find room between
MARGIN = 90.0  # [m] of terrain around the outermost road


@dataclass(frozen=True)
class RoadNetwork:
    """Everything about a map that does not need a seed. Polygons are shapely geometries in UE metres."""

    name: str
    map: Any  # carla.Map
    lanes: tuple[LaneShape, ...]
    drivable: BaseGeometry
    sidewalk: BaseGeometry
    crosswalks: tuple[Polygon, ...]
    markings: tuple[Marking, ...]
    signals: tuple[Signal, ...]
    junctions: dict[int, BaseGeometry]  # asphalt of each junction
    bounds: tuple[float, float, float, float]  # [m] x0, y0, x1, y1 of the world that is drawn
    heights: HeightField
    grid: SurfaceGrid

    @classmethod
    def from_opendrive(cls, name: str, text: str) -> "RoadNetwork":
        """Parse and build. Raises `opendrive.MapError` for an unusable file (a stranger's may still crash `carla.Map`)."""
        drive = opendrive.parse(text)
        carla_map = carla.Map(name, text)
        # Mitred buffers of degenerate corners divide by zero inside GEOS and come out right all the same.
        with np.errstate(divide="ignore", invalid="ignore"):
            return cls._build(name, drive, carla_map)

    @classmethod
    def _build(cls, name: str, drive: opendrive.OpenDrive, carla_map: Any) -> "RoadNetwork":
        lanes = tuple(sample_lanes(carla_map, drive.lanes))
        if not lanes:
            raise opendrive.MapError(f"{name}: no lane has a width")
        junctions = _junction_surfaces(lanes)
        side_lanes = unary_union([shape.polygon.buffer(_GAP) for shape in lanes if shape.span.kind == "sidewalk"])
        asphalt = [s.polygon.buffer(_GAP, join_style="mitre") for s in lanes if s.span.kind in ASPHALT]
        plain = unary_union(asphalt)
        drivable = shapely.set_precision(
            unary_union([plain, *(_without(j, side_lanes) for j in junctions.values())]), _OVERLAY_GRID
        )
        drivable = drivable.buffer(0.15, join_style="mitre").buffer(-0.15, join_style="mitre").simplify(0.02)
        sidewalk = _sidewalks(drivable, side_lanes, junctions)
        x0, y0, x1, y1 = unary_union([drivable, sidewalk]).bounds
        bounds = (x0 - MARGIN, y0 - MARGIN, x1 + MARGIN, y1 + MARGIN)
        heights = HeightField(np.concatenate([shape.centre for shape in lanes]), bounds)
        grid = SurfaceGrid(drivable, sidewalk, bounds, heights)
        crosswalks = _crosswalks(carla_map, drivable)
        found = read_signals(carla_map, drive, BEFORE_END if crosswalks else _BEFORE_CROSSING)
        signals = tuple(_beside_road(signal, grid) for signal in found)
        crosswalks = crosswalks or _crossings_at_lights(signals, drivable)
        markings = [*lane_markings(lanes), *stop_markings(signals), *(m for c in crosswalks for m in zebra(c))]
        return cls(
            name, carla_map, lanes, drivable, sidewalk, tuple(crosswalks), tuple(markings), signals, junctions, bounds,
            heights, grid,
        )  # fmt: skip

    def surface_at(self, x: float, y: float) -> Surface:
        """The ground at a point: kind and height. A table look-up (about a microsecond)."""
        return self.grid.at(x, y)

    def spawn_points(self, spacing: float = 25.0) -> list[tuple[float, float, float, float]]:
        """(x, y, z, yaw [deg]) on the centre of driving lanes outside junctions, about `spacing` metres apart.

        z is 0.5 m over the road, as CARLA's are: a vehicle spawned there settles.
        """
        points = []
        for shape in self.lanes:
            if shape.span.kind != "driving" or shape.span.junction >= 0 or shape.length < 16:
                continue
            steps = np.linalg.norm(np.diff(shape.centre[:, :2], axis=0), axis=1)
            along = np.concatenate([[0.0], np.cumsum(steps)])
            count = max(1, int((shape.length - 16) // spacing) + 1)
            for distance in 8 + (np.arange(count) + 0.5) * (shape.length - 16) / count:
                x, y, z = (float(np.interp(distance, along, shape.centre[:, axis])) for axis in range(3))
                yaw = float(np.interp(distance, along, np.unwrap(shape.yaw)))
                points.append((x, y, z + 0.5, (math.degrees(yaw) + 180) % 360 - 180))
        return points


def _junction_surfaces(lanes: tuple[LaneShape, ...]) -> dict[int, BaseGeometry]:
    members: dict[int, list[BaseGeometry]] = {}
    for lane in lanes:
        if lane.span.junction >= 0 and lane.span.kind in ASPHALT:
            members.setdefault(lane.span.junction, []).append(lane.polygon.buffer(_GAP))
    closed: dict[int, BaseGeometry] = {}
    for junction, parts in sorted(members.items()):
        plain = unary_union(parts)
        filled = plain.buffer(_JUNCTION_CLOSE, quad_segs=4).buffer(-_JUNCTION_CLOSE, quad_segs=4)
        solid: list[BaseGeometry] = [Polygon(p.exterior) for p in polygons_of(filled) if p.area < _LARGEST_JUNCTION]
        closed[junction] = unary_union([plain, *solid])
    return closed


def _sidewalks(drivable: BaseGeometry, side_lanes: BaseGeometry, junctions: dict[int, BaseGeometry]) -> BaseGeometry:
    """Sidewalk lanes plus the corners that no lane covers; a band along every road where the map has no sidewalks."""
    if side_lanes.area < 0.05 * drivable.area:
        raw = _without(drivable.buffer(_BAND, join_style="mitre", mitre_limit=2), drivable)
    else:
        corners = [j.buffer(_BAND, quad_segs=4) for j in junctions.values() if side_lanes.intersects(j.buffer(_BAND + 1))]
        raw = _without(unary_union([side_lanes, *corners]), drivable)
    raw = _without(raw.buffer(0.4, join_style="mitre").buffer(-0.4, join_style="mitre"), drivable)  # close slits
    clean = _without(raw.buffer(-0.25, join_style="mitre").buffer(0.25, join_style="mitre"), drivable)  # drop slivers
    parts = [_without_small_holes(p, drivable) for p in polygons_of(clean.simplify(0.03)) if p.area > 2.0]
    return _without(unary_union(parts), drivable)


def _without(shape: BaseGeometry, other: BaseGeometry) -> BaseGeometry:
    """Subtract `other`, snapped to a grid: borders that almost coincide make the floating-point overlay fail."""
    return shapely.difference(shape, other, grid_size=_OVERLAY_GRID)


def _without_small_holes(polygon: Polygon, drivable: BaseGeometry) -> Polygon:
    """Fill scraps of grass under 12 m2 that a sidewalk encloses."""
    keep = [ring for ring in polygon.interiors if Polygon(ring).area > 12 or Polygon(ring).intersects(drivable.buffer(-0.1))]
    return Polygon(polygon.exterior, keep)


def _crosswalks(carla_map: Any, drivable: BaseGeometry) -> list[Polygon]:
    """The map's crossings (`get_crosswalks` lists closed rings one after the other), cut to the asphalt."""
    rings: list[list[tuple[float, float]]] = []
    ring: list[tuple[float, float]] = []
    points = [(place.x, place.y) for place in carla_map.get_crosswalks()]
    closed = len(set(points)) < len(points)
    for point in points:
        if not closed and len(ring) == 4:  # a map whose outlines are not closed: they are rectangles
            rings.append(ring)
            ring = []
        if len(ring) > 2 and math.dist(point, ring[0]) < 1e-3:
            rings.append(ring)
            ring = []
        else:
            ring.append(point)
    if len(ring) == 4:
        rings.append(ring)
    found = []
    for ring in rings:
        polygon = shapely.make_valid(Polygon(ring))
        found += [p for p in polygons_of(polygon) if p.area > 2 and p.intersects(drivable)]
    return found


def _beside_road(signal: Signal, grid: SurfaceGrid) -> Signal:
    """A signal that the map puts on the asphalt, moved to the right until it stands beside it (up to 4 m)."""
    yaw = math.radians(signal.yaw)
    for step in range(21):
        x, y = signal.x - math.sin(yaw) * 0.2 * step, signal.y + math.cos(yaw) * 0.2 * step
        around = ((x + 0.3 * math.cos(a), y + 0.3 * math.sin(a)) for a in (0.0, 1.57, 3.14, 4.71))
        if all(grid.ground(*point) != Ground.ROAD for point in around):
            return replace(signal, x=x, y=y)
    return signal


def _crossings_at_lights(signals: tuple[Signal, ...], drivable: BaseGeometry) -> list[Polygon]:
    """For maps that have no crossings: one across the whole street in front of every light's stop line."""
    found: dict[int, Polygon] = {}
    for signal in signals:
        if signal.kind != "light" or signal.stop is None:
            continue
        yaw = math.radians(signal.stop.yaw)
        forward, right = np.array([math.cos(yaw), math.sin(yaw)]), np.array([-math.sin(yaw), math.cos(yaw)])
        foot = np.array([signal.stop.x, signal.stop.y]) + forward * 0.9
        strip = Polygon(
            [foot - right * 14, foot + right * 14, foot + right * 14 + forward * 3, foot - right * 14 + forward * 3]
        )
        middle = Point(*(foot + forward * 1.5))
        for piece in polygons_of(drivable.intersection(strip)):
            if piece.contains(middle) and all(piece.intersection(other).area < 2 for other in found.values()):
                found[len(found)] = piece
    return list(found.values())
