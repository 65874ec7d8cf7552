"""The lanes that are the ego's own along its route: how much of its box is outside them, or outside the road.

The lane at a place of the route is the lane that the route runs in. Inside a junction it is every lane of the route's manoeuvre
(each lane that leads from the road the route comes from to the road it leaves by), and during a commanded lane change every
lane of that direction: crossing between them is what the command asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from roadworthy.agent.carla_client import carla
from roadworthy.agent.lanegraph import LANE_CHANGES, SAMPLE_M
from roadworthy.agent.routes import Route

BOX_ROWS, BOX_COLUMNS = 8, 6  # cells of equal area along and across the car's box, each tested at its middle
BEYOND_M = 6.0  # [m] how far the lane is taken to go on before the route's start and behind its goal
# [48, 1] the cells' middles in a box from -1 to 1 along and across.
ALONG = np.repeat((2.0 * np.arange(BOX_ROWS) + 1.0) / BOX_ROWS - 1.0, BOX_COLUMNS)[:, None]
ACROSS = np.tile((2.0 * np.arange(BOX_COLUMNS) + 1.0) / BOX_COLUMNS - 1.0, BOX_ROWS)[:, None]
NEAR_M = 20.0  # [m] lanes farther than this from the ego are not tested

Points = npt.NDArray[np.float64]


class Corridor:
    """The ego's own lanes along one route."""

    def __init__(self, town_map: carla.Map, route: Route) -> None:
        """Collect the lanes of `route` on `town_map`."""
        self._map = town_map
        first, last = route.waypoints[0], route.waypoints[-1]
        # The car's box reaches beyond the route's ends.
        lanes = [_segments([*first.previous(BEYOND_M)[:1], *route.waypoints, *last.next(BEYOND_M)[:1]])]
        lanes += _manoeuvre_lanes(route.waypoints)
        lanes += _lane_change_lanes(route)
        self._lanes = np.concatenate(lanes)  # [k, 5] segments x0, y0, x1, y1, half width

    def outside(self, box: Points, height_m: float) -> tuple[float, float]:
        """Return which fractions of the `box` points `[p, 2]` are off-line (in none of the ego's own lanes) and off-road.

        Off the road is where no driving lane of any direction is. `height_m` is the road's here: CARLA looks for the nearest
        lane in space, and one that runs below a bridge is none of the bridge's.
        """
        inside = self._inside(box)
        off_road = 0
        for x, y in box[~inside]:
            location = carla.Location(float(x), float(y), height_m)
            off_road += self._map.get_waypoint(location, False, carla.LaneType.Driving) is None
        return 1.0 - float(inside.mean()), off_road / len(box)

    def _inside(self, box: Points) -> npt.NDArray[np.bool_]:
        centre = box.mean(0)
        lanes = self._lanes
        lanes = lanes[np.hypot(lanes[:, 0] - centre[0], lanes[:, 1] - centre[1]) < NEAR_M]
        if not len(lanes):
            return np.zeros(len(box), bool)
        start, step = lanes[:, 0:2], lanes[:, 2:4] - lanes[:, 0:2]  # [k, 2]
        squared = np.maximum((step**2).sum(1), 1e-12)
        away = box[:, None] - start  # [p, k, 2]
        fraction = np.clip((away * step).sum(2) / squared, 0.0, 1.0)  # [p, k]
        gap = away - fraction[..., None] * step
        inside: npt.NDArray[np.bool_] = ((gap**2).sum(2) <= lanes[:, 4] ** 2).any(1)
        return inside


def box_points(x: float, y: float, yaw_deg: float, half_length_m: float, half_width_m: float) -> Points:
    """Return the middles `[48, 2]` of cells of equal area of a car's box seen from above."""
    yaw = np.radians(yaw_deg)
    forward, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    box: Points = np.array([x, y]) + half_length_m * ALONG * forward + half_width_m * ACROSS * right
    return box


def _segments(waypoints: Sequence[carla.Waypoint]) -> Points:
    """Return a lane's centre line as segments `[k, 5]`: x0, y0, x1, y1, half width."""
    points = np.array([(w.transform.location.x, w.transform.location.y) for w in waypoints])
    half = np.array([waypoint.lane_width / 2 for waypoint in waypoints])
    return np.column_stack([points[:-1], points[1:], np.maximum(half[:-1], half[1:])])


def _manoeuvre_lanes(waypoints: Sequence[carla.Waypoint]) -> list[Points]:
    """Return every lane inside the route's junctions that leads from the same road to the same road as the route does."""
    lanes: list[Points] = []
    for entry, inside, leaving in _junction_crossings(waypoints):
        wanted = (_direction(entry), _direction(leaving))
        for begin, end in inside.get_junction().get_waypoints(carla.LaneType.Driving):
            before, after = begin.previous(SAMPLE_M), end.next(SAMPLE_M)
            if not before or not after or (_direction(before[0]), _direction(after[0])) != wanted:
                continue
            lanes.append(_segments([before[0], *begin.next_until_lane_end(SAMPLE_M), end, after[0]]))
    return lanes


def _junction_crossings(
    waypoints: Iterable[carla.Waypoint],
) -> list[tuple[carla.Waypoint, carla.Waypoint, carla.Waypoint]]:
    """Return, per junction the route crosses whole, the waypoint before it, the first inside and the first behind it."""
    crossings = []
    entry = inside = None
    for previous, waypoint in pairwise(waypoints):
        if waypoint.is_junction and not previous.is_junction:
            entry, inside = previous, waypoint
        elif previous.is_junction and not waypoint.is_junction and entry is not None and inside is not None:
            crossings.append((entry, inside, waypoint))
            entry = inside = None
    return crossings


def _direction(waypoint: carla.Waypoint) -> tuple[int, bool]:
    """Return the road and the direction of travel on it."""
    return waypoint.road_id, waypoint.lane_id > 0


def _lane_change_lanes(route: Route) -> list[Points]:
    """Return pieces of the neighbouring lanes of the same direction wherever a lane change is commanded."""
    pieces = []
    for waypoint, command in zip(route.waypoints, route.commands, strict=True):
        if command not in LANE_CHANGES:
            continue
        for neighbour in (waypoint.get_left_lane(), waypoint.get_right_lane()):
            if (
                neighbour is None
                or neighbour.lane_type != carla.LaneType.Driving
                or _direction(neighbour) != _direction(waypoint)
            ):
                continue
            ahead = neighbour.next(2 * SAMPLE_M)
            if ahead:
                pieces.append(_segments([neighbour, ahead[0]]))
    return pieces
