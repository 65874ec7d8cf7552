"""Where the ego is along its route, and how much of its box is outside its lane or outside the road.

The lane at a place of the route is the lane that the route runs in. Inside a junction it is every lane of the route's manoeuvre
(each lane that leads from the road the route comes from to the road it leaves by), and during a commanded lane change every
lane of that direction: crossing between them is what the command asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from roadworthy.agent.carla_client import carla
from roadworthy.runtime.errors import BadInput

LANE_CHANGES = (5, 6)  # RoadOption CHANGELANELEFT, CHANGELANERIGHT
BOX_ROWS, BOX_COLUMNS = 7, 3  # sample points along and across the car's box
SEARCH_BACK_M, SEARCH_AHEAD_M = 5.0, 25.0  # [m] how far along the route the ego is looked for from where it last was
NEAR_M = 20.0  # [m] lanes farther than this from the ego are not tested
SAMPLE_M = 1.0  # [m] spacing of the points of manoeuvre lanes

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """The ego's place relative to its route."""

    index: int  # of the route's point just behind the ego
    along_m: float  # distance from the route's start, projected
    lateral_m: float  # distance from the route's centre line, to the right positive
    heading: tuple[float, float]  # unit vector of the route there


class Corridor:
    """A route's centre line with the lanes that count as the ego's own around it."""

    def __init__(self, town_map: carla.Map, waypoints: Sequence[carla.Waypoint], commands: Sequence[int]) -> None:
        """Prepare `waypoints` (in driving order) with their RoadOption `commands`; raises `BadInput` under two points."""
        if len(waypoints) < 2 or len(waypoints) != len(commands):
            raise BadInput(f"a route needs at least 2 waypoints and one command each, got {len(waypoints)} and {len(commands)}")
        self._map = town_map
        self.points: Points = np.array([_xy(waypoint) for waypoint in waypoints])  # [n, 2] m
        steps = np.diff(self.points, axis=0)  # [n-1, 2]
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        self.along: npt.NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(lengths)])  # [n] m from the start
        self.length_m = float(self.along[-1])
        self.commands = tuple(int(command) for command in commands)
        self.waypoints = tuple(waypoints)
        lanes = [_lane(waypoints)]
        lanes += _manoeuvre_lanes(waypoints)
        lanes += [_lane(lane) for lane in _lane_change_lanes(waypoints, self.commands)]
        self._lanes = np.concatenate(lanes)  # [k, 5] segments x0, y0, x1, y1, half width
        self._index = 0

    def restart(self) -> None:
        """Look for the ego at the route's start again."""
        self._index = 0

    def locate(self, x: float, y: float) -> Place:
        """Project (x, y) on the route, near where the ego last was: a route that crosses itself is followed in order."""
        low = int(np.searchsorted(self.along, self.along[self._index] - SEARCH_BACK_M))
        high = int(np.searchsorted(self.along, self.along[self._index] + SEARCH_AHEAD_M))
        low, high = min(low, len(self.points) - 2), min(max(high, low + 1), len(self.points) - 1)
        start, end = self.points[low:high], self.points[low + 1 : high + 1]  # [m, 2] segments
        step = end - start
        length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
        away = np.array([x, y]) - start
        fraction = np.clip((away * step).sum(1) / length**2, 0.0, 1.0)  # [m]
        gap = away - fraction[:, None] * step
        nearest = int(np.argmin((gap**2).sum(1)))
        heading = step[nearest] / length[nearest]
        self._index = low + nearest
        lateral = heading[0] * away[nearest, 1] - heading[1] * away[nearest, 0]  # right-hand positive: y points right of x
        along = float(self.along[self._index] + fraction[nearest] * length[nearest])
        return Place(self._index, along, float(lateral), (float(heading[0]), float(heading[1])))

    def deviation_m(self, x: float, y: float) -> float:
        """Return the distance of (x, y) from the nearest point of the whole route."""
        return float(np.hypot(*(self.points - (x, y)).T).min())

    def command(self, place: Place, ahead_m: float) -> int:
        """Return the command in force: the first one other than lane following from here to `ahead_m` on, else lane following.

        A driver is told of a turn before the junction begins, not in it.
        """
        end = int(np.searchsorted(self.along, place.along_m + ahead_m))
        for command in self.commands[place.index : max(end, place.index + 1)]:
            if command != 4:
                return command
        return 4

    def outside(self, box: Points) -> tuple[float, float]:
        """Return which fractions of the `box` points `[p, 2]` are off-line (in none of the ego's own lanes) and off-road.

        Off the road is where no driving lane of any direction is.
        """
        inside = self._in_lanes(box)
        off_road = 0
        for x, y in box[~inside]:
            location = carla.Location(float(x), float(y), 0.0)
            off_road += self._map.get_waypoint(location, False, carla.LaneType.Driving) is None
        return 1.0 - float(inside.mean()), off_road / len(box)

    def _in_lanes(self, box: Points) -> npt.NDArray[np.bool_]:
        centre = box.mean(0)
        lanes = self._lanes
        near = np.hypot(lanes[:, 0] - centre[0], lanes[:, 1] - centre[1]) < NEAR_M
        lanes = lanes[near]
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
    """Return sample points `[21, 2]` spread evenly over a car's box seen from above."""
    yaw = np.radians(yaw_deg)
    forward, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    rows = np.linspace(-half_length_m, half_length_m, BOX_ROWS)
    columns = np.linspace(-half_width_m, half_width_m, BOX_COLUMNS)
    along, across = np.meshgrid(rows, columns, indexing="ij")
    box: Points = np.array([x, y]) + along.reshape(-1, 1) * forward + across.reshape(-1, 1) * right
    return box


def _xy(waypoint: carla.Waypoint) -> tuple[float, float]:
    location = waypoint.transform.location
    return location.x, location.y


def _lane(waypoints: Sequence[carla.Waypoint]) -> Points:
    """Return a lane's centre line as segments `[k, 5]`: x0, y0, x1, y1, half width."""
    points = np.array([_xy(waypoint) for waypoint in waypoints])
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
            course = [*begin.next_until_lane_end(SAMPLE_M), end]
            lanes.append(_lane([before[0], *course, after[0]]))
    return lanes


def _junction_crossings(
    waypoints: Sequence[carla.Waypoint],
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


def _lane_change_lanes(waypoints: Sequence[carla.Waypoint], commands: Sequence[int]) -> list[list[carla.Waypoint]]:
    """Return short pieces of the neighbouring lanes of the same direction wherever a lane change is commanded."""
    pieces = []
    for waypoint, command in zip(waypoints, commands, strict=True):
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
                pieces.append([neighbour, ahead[0]])
    return pieces
