"""Lane shapes: the centre, the two borders and the paint of every lane, sampled from `carla.Map`. UE axes (y right)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from roadworthy.agent.town.opendrive import LaneSpan

Array = NDArray[np.float64]
Mark = tuple[str, str, float]  # type, colour, width [m]
STEP = 2.0  # [m] between samples; fine enough for a 6 m turning radius after smoothing by carla.Map
_INSIDE = 1e-3  # [m] kept from the ends of a section, where carla.Map may already answer for the next


@dataclass(frozen=True)
class LaneShape:
    """One lane of one section, sampled in its driving direction."""

    span: LaneSpan
    centre: Array  # [n, 3] metres
    left: Array  # [n, 3]
    right: Array  # [n, 3]
    width: Array  # [n] metres
    yaw: Array  # [n] radians, clockwise seen from above
    left_marks: tuple[Mark, ...]  # n: a line may be broken here and solid there
    right_marks: tuple[Mark, ...]

    @property
    def polygon(self) -> BaseGeometry:
        """The lane's outline (made valid)."""
        ring = np.concatenate([self.left[:, :2], self.right[::-1, :2]])
        polygon = Polygon(ring)
        return polygon if polygon.is_valid else shapely.make_valid(polygon)

    @property
    def length(self) -> float:
        """Metres along the centre."""
        return float(np.linalg.norm(np.diff(self.centre[:, :2], axis=0), axis=1).sum())


def sample_lanes(carla_map: Any, spans: tuple[LaneSpan, ...]) -> list[LaneShape]:
    """The shape of every lane that has a width."""
    shapes = []
    for span in spans:
        shape = _sample(carla_map, span)
        if shape is not None:
            shapes.append(shape)
    return shapes


def _sample(carla_map: Any, span: LaneSpan) -> LaneShape | None:
    length = span.end - span.start
    if length < 4 * _INSIDE:
        return None
    count = max(2, math.ceil(length / STEP) + 1)
    stations = np.linspace(span.start + _INSIDE, span.end - _INSIDE, count)
    rows = []
    waypoints = []
    for s in stations:
        waypoint = carla_map.get_waypoint_xodr(span.road, span.lane, float(s))
        if waypoint is None:
            continue
        transform = waypoint.transform
        place, yaw = transform.location, math.radians(transform.rotation.yaw)
        rows.append((place.x, place.y, place.z, yaw, waypoint.lane_width))
        waypoints.append(waypoint)
    if len(rows) < 2:
        return None
    table = np.array(rows, np.float64)
    if span.lane > 0:  # carla.Map turns left lanes into their driving direction; walk along it too
        table = table[::-1]
        waypoints.reverse()
    centre, heading, width = table[:, :3], table[:, 3], table[:, 4]
    if width.max() < 0.05:
        return None
    sideways = np.stack([-np.sin(heading), np.cos(heading), np.zeros_like(heading)], 1) * (width / 2)[:, None]
    return LaneShape(
        span, centre, centre - sideways, centre + sideways, width, heading,
        _marks(waypoints, "left_lane_marking"), _marks(waypoints, "right_lane_marking"),
    )  # fmt: skip


def _marks(waypoints: list[Any], side: str) -> tuple[Mark, ...]:
    """The mark at each sample. Most lanes have the same from end to end, and asking for each takes time."""
    count = len(waypoints)
    probes = {_mark(getattr(waypoints[k], side)) for k in (0, count // 2, count - 1)}
    return (probes.pop(),) * count if len(probes) == 1 else tuple(_mark(getattr(w, side)) for w in waypoints)


def _mark(marking: Any) -> Mark:
    if marking is None:
        return "NONE", "White", 0.0
    return str(marking.type), str(marking.color), float(marking.width)
