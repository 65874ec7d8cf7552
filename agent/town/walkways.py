"""Where people may walk in an OpenDRIVE map: sidewalks, crossings, and the road itself, as plane regions.

Two dimensions: stacked levels (bridges) are not told apart.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

import carla
import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

AGENT_RADIUS_M = 0.3  # [m] the client keeps no distance from the mesh's border itself, so the sidewalk is shrunk by this

STEP_M = 2.0  # [m] between samples along a lane
BAND_M = 2.5  # [m] width of the walkway where a map has no sidewalk lanes
KERB_M = 0.3  # [m] gap between the road surface and that walkway
CROSSING_M = 3.0  # [m] width of a crossing where the map has none
CROSSING_SETBACK_M = 0.5  # [m] from the junction to that crossing
CROSSING_REACH_M = 2.0  # [m] how far it reaches into the sidewalk on either side
CRACK_M = 0.3  # [m] gaps between lanes up to twice this are closed
SIMPLIFY_M = 0.05  # [m]
ROAD_LANES = frozenset({"driving", "shoulder", "parking", "biking", "bidirectional", "stop", "entry", "exit"})

Points = npt.NDArray[np.float64]  # [N, 3] x, y, z in CARLA's metres


@dataclass(frozen=True)
class Walkways:
    """Disjoint regions in CARLA's x, y plane, and heights to lift them by."""

    sidewalk: BaseGeometry
    crosswalks: BaseGeometry
    road: BaseGeometry
    heights: Points  # samples of the ground: the nearest one counts


@dataclass(frozen=True)
class _Strip:
    """One lane of one lane section."""

    kind: str  # OpenDRIVE lane type
    road: str
    in_junction: bool
    at_start: bool  # the section begins where its road begins
    at_end: bool
    left: Points
    right: Points

    def polygon(self) -> BaseGeometry:
        left, right = self.left[:, :2], self.right[:, :2]
        quads = [Polygon([left[i], left[i + 1], right[i + 1], right[i]]).buffer(0) for i in range(len(left) - 1)]
        return shapely.union_all([quad for quad in quads if quad.area > 1e-4])


def walkways(name: str, text: str) -> Walkways:
    """Read the regions from the OpenDRIVE map `text`: its sidewalk lanes and crosswalk objects where it has them.

    Otherwise a band beside every road and one crossing per arm of each junction.
    """
    carla_map = carla.Map(name, text)
    strips = list(_strips(carla_map, text))
    drivable = [strip for strip in strips if strip.kind in ROAD_LANES]
    side = [strip for strip in strips if strip.kind == "sidewalk"]
    road = _close(shapely.union_all([strip.polygon() for strip in drivable]))
    junctions = shapely.union_all([strip.polygon() for strip in drivable if strip.in_junction])
    if side:
        lanes = shapely.union_all([strip.polygon() for strip in side])
        if not any(strip.in_junction for strip in side):  # SUMO's maps: the corners are missing, so walk round them
            width = float(np.median([np.linalg.norm(strip.left[0] - strip.right[0]) for strip in side]))
            lanes = lanes.union(junctions.buffer(width + 0.1, quad_segs=4))
        walk, kerb = _close(lanes).difference(road), 0.0
    else:
        walk, kerb = road.buffer(KERB_M + BAND_M, quad_segs=4).difference(road.buffer(KERB_M, quad_segs=4)), KERB_M
    sidewalk = walk.buffer(-AGENT_RADIUS_M, join_style="mitre").simplify(SIMPLIFY_M)
    crossings = _mapped_crossings(carla_map) or _crossings_at_junctions(drivable, junctions)
    # Only what bridges the road is a crossing; the stubs that reach over the sidewalk are not.
    outside = shapely.get_parts(shapely.union_all(crossings).difference(sidewalk))
    crosswalks = shapely.union_all([part for part in outside if part.intersection(road).area > 1.0])
    # The road touches the shrunk sidewalk, so that people who may cross anywhere can step off the kerb.
    surface = road.buffer(kerb + AGENT_RADIUS_M + 0.05).difference(sidewalk).difference(crosswalks)
    heights = np.vstack([np.zeros((0, 3)), *(border for strip in strips for border in (strip.left, strip.right))])
    return Walkways(sidewalk, crosswalks, surface, heights)


def _close(area: BaseGeometry) -> BaseGeometry:
    return area.buffer(CRACK_M, join_style="mitre").buffer(-CRACK_M, join_style="mitre")


def _strips(carla_map: carla.Map, text: str) -> Iterator[_Strip]:
    for road in ET.fromstring(text).iter("road"):
        length = float(road.get("length", "0"))
        sections = road.findall("lanes/laneSection")
        starts = [float(section.get("s", "0")) for section in sections] + [length]
        for section, start, end in zip(sections, starts, starts[1:], strict=False):
            if end - start < 0.05:
                continue
            stations = np.linspace(start + 0.01, end - 0.01, max(2, math.ceil((end - start) / STEP_M) + 1))
            for lane in section.iter("lane"):
                kind = lane.get("type", "")
                if lane.get("id") == "0" or (kind not in ROAD_LANES and kind != "sidewalk"):
                    continue
                left, right = _borders(carla_map, int(road.get("id", "")), int(lane.get("id", "")), stations)
                if len(left) > 1:
                    in_junction = road.get("junction", "-1") != "-1"
                    yield _Strip(kind, road.get("id", ""), in_junction, start <= 0, end >= length, left, right)


def _borders(carla_map: carla.Map, road: int, lane: int, stations: npt.NDArray[np.float64]) -> tuple[Points, Points]:
    left, right = [], []
    for s in stations:
        waypoint = carla_map.get_waypoint_xodr(road, lane, float(s))
        if waypoint is None:
            continue
        at, across = waypoint.transform.location, waypoint.transform.get_right_vector()
        half = max(waypoint.lane_width, 0.02) / 2
        left.append((at.x - across.x * half, at.y - across.y * half, at.z))
        right.append((at.x + across.x * half, at.y + across.y * half, at.z))
    return np.array(left).reshape(-1, 3), np.array(right).reshape(-1, 3)


def _mapped_crossings(carla_map: carla.Map) -> list[BaseGeometry]:
    """The map's own crosswalk objects, grown to reach over kerb and margin into the sidewalk."""
    corners = [(location.x, location.y) for location in carla_map.get_crosswalks()]
    crossings: list[BaseGeometry] = []
    while corners:  # rings follow each other, each repeats its first corner
        end = corners.index(corners[0], 1) + 1 if corners[0] in corners[1:] else len(corners)
        if end > 3:
            crossings.append(Polygon(corners[:end]).buffer(KERB_M + 2 * AGENT_RADIUS_M, join_style="mitre"))
        corners = corners[end:]
    return crossings


def _crossings_at_junctions(drivable: list[_Strip], junctions: BaseGeometry) -> list[BaseGeometry]:
    """One strip across each road end that touches a junction."""
    ends: dict[tuple[str, bool], list[tuple[Points, Points, Points]]] = {}  # left corner, right corner, point further in
    for strip in drivable:
        if strip.in_junction:
            continue
        if strip.at_start:
            ends.setdefault((strip.road, False), []).append((strip.left[0], strip.right[0], strip.left[1]))
        if strip.at_end:
            ends.setdefault((strip.road, True), []).append((strip.left[-1], strip.right[-1], strip.left[-2]))
    crossings: list[BaseGeometry] = []
    for lanes in ends.values():
        corners = np.array([corner[:2] for left, right, _ in lanes for corner in (left, right)])  # [2 * lanes, 2]
        if shapely.distance(MultiPoint(corners), junctions) > 0.5:
            continue
        along = lanes[0][2][:2] - lanes[0][0][:2]
        along /= np.hypot(*along)
        across = np.array([-along[1], along[0]])
        middle = corners.mean(0)
        lateral = (corners - middle) @ across
        reach = KERB_M + 2 * AGENT_RADIUS_M + CROSSING_REACH_M
        near, far = CROSSING_SETBACK_M, CROSSING_SETBACK_M + CROSSING_M
        low, high = lateral.min() - reach, lateral.max() + reach
        crossings.append(
            Polygon([middle + along * a + across * b for a, b in ((near, low), (near, high), (far, high), (far, low))])
        )
    return crossings
