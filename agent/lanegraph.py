"""The lanes of a map as a graph: which lane follows which, where one may change, and which way a junction turns.

Nodes are lanes of a lane section. Successors come from `carla.Map.get_topology`, lane changes from the road markings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import pairwise

import networkx as nx

from roadworthy.agent.carla_client import carla
from roadworthy.runtime.errors import BadInput

LaneKey = tuple[int, int, int]  # road id, lane section, lane id

SAMPLE_M = 1.0  # [m] between the waypoints of a route
STRAIGHT_LIMIT_DEG = 35.0  # [degrees] a smaller change of heading is straight on; as in CARLA's route planner
CHANGE_COST_M = 15.0  # [m] a lane change is worth this detour
SHORTEST_CHANGE_LANE_M = 25.0  # [m] no lane change is planned in a shorter lane


class RoadOption(IntEnum):
    """CARLA's high-level commands, with CARLA's numbers."""

    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANEFOLLOW = 4
    CHANGELANELEFT = 5
    CHANGELANERIGHT = 6


TURNS = frozenset({RoadOption.LEFT, RoadOption.RIGHT})
LANE_CHANGES = frozenset({RoadOption.CHANGELANELEFT, RoadOption.CHANGELANERIGHT})


def lane_key(waypoint: carla.Waypoint) -> LaneKey:
    """Return the lane that `waypoint` lies on."""
    return waypoint.road_id, waypoint.section_id, waypoint.lane_id


def lane_samples(waypoint: carla.Waypoint) -> list[carla.Waypoint]:
    """Return `waypoint` and what follows, a metre apart, to the end of its lane."""
    try:
        return [waypoint, *waypoint.next_until_lane_end(SAMPLE_M)]
    except RuntimeError:  # the client refuses when nothing of the lane is left
        return [waypoint]


class LaneGraph:
    """The driving lanes of one map. Building it takes milliseconds; keep it while planning on the same map."""

    def __init__(self, carla_map: carla.Map) -> None:
        """Read the lanes of `carla_map`. Raises `BadInput` if it has no connected driving lanes."""
        self.map = carla_map
        self.entries: dict[LaneKey, carla.Waypoint] = {}  # where each lane begins, in driving direction
        self.graph: nx.DiGraph[LaneKey] = nx.DiGraph()
        topology = carla_map.get_topology()
        for begin, following in topology:
            self.entries[lane_key(begin)] = begin
            self.entries.setdefault(lane_key(following), following)
        if not self.entries:
            raise BadInput(f"map {carla_map.name!r} has no connected driving lanes, expected an OpenDRIVE road network")
        self.lengths = {key: self._length(waypoint) for key, waypoint in self.entries.items()}  # [m]
        for begin, following in topology:
            lane = lane_key(begin)
            self.graph.add_edge(lane, lane_key(following), cost=self.lengths[lane], option=RoadOption.LANEFOLLOW)
        for lane, waypoint in self.entries.items():
            if self.lengths[lane] >= SHORTEST_CHANGE_LANE_M and not waypoint.is_junction:
                for option, neighbour in neighbours(waypoint):
                    if lane_key(neighbour) in self.entries:
                        self.graph.add_edge(lane, lane_key(neighbour), cost=CHANGE_COST_M, option=option)

    @staticmethod
    def _length(entry: carla.Waypoint) -> float:
        samples = lane_samples(entry)
        return float(sum(a.transform.location.distance(b.transform.location) for a, b in pairwise(samples)))

    def in_junction(self, lane: LaneKey) -> bool:
        """Whether the lane is a connection inside a junction."""
        return bool(self.entries[lane].is_junction)

    def option(self, lane: LaneKey, following: LaneKey) -> RoadOption:
        """Return how one gets from a lane to the next: LANEFOLLOW, or a lane change."""
        return RoadOption(self.graph.edges[lane, following]["option"])

    def successors(self, lane: LaneKey) -> list[LaneKey]:
        """Return the lanes that begin where this one ends."""
        return [key for key in self.graph.successors(lane) if self.option(lane, key) == RoadOption.LANEFOLLOW]

    def junction_options(self, path: Sequence[LaneKey]) -> list[RoadOption]:
        """Return for each lane of `path` the command of its junction; LANEFOLLOW outside junctions."""
        options = [RoadOption.LANEFOLLOW] * len(path)
        i = 0
        while i < len(path):
            if not self.in_junction(path[i]):
                i += 1
                continue
            end = i
            while end < len(path) and self.in_junction(path[end]):
                end += 1
            option = self._manoeuvre(path[i - 1] if i > 0 else None, path[i], path[end] if end < len(path) else None)
            options[i:end] = [option] * (end - i)
            i = end
        return options

    def _manoeuvre(self, approach: LaneKey | None, first: LaneKey, leaving: LaneKey | None) -> RoadOption:
        """Command for crossing a junction over the connection `first`, among all the ways on from lane `approach`."""
        if leaving is None:
            leaving = next(self._exits(first))
        taken = (first, leaving)
        ways = [taken]
        if approach is not None:
            ways += [
                (connection, out)
                for connection in self.successors(approach)
                if self.in_junction(connection)
                for out in self._exits(connection)
                if (connection, out) != taken
            ]
        return turn_options([self._turn_deg(connection, out) for connection, out in ways])[0]

    def _exits(self, lane: LaneKey, depth: int = 6) -> Iterator[LaneKey]:
        """The lanes outside the junction that `lane` leads to."""
        for following in self.successors(lane):
            if not self.in_junction(following) or depth == 0:
                yield following
            else:
                yield from self._exits(following, depth - 1)

    def _turn_deg(self, connection: LaneKey, leaving: LaneKey) -> float:
        before, after = (self.entries[key].transform.rotation.yaw for key in (connection, leaving))
        return float((after - before + 180.0) % 360.0 - 180.0)


def neighbours(waypoint: carla.Waypoint) -> Iterator[tuple[RoadOption, carla.Waypoint]]:
    """Yield the lanes beside `waypoint` that run the same way and that its markings let it change to."""
    for permitted, option, beside in (
        (carla.LaneChange.Left, RoadOption.CHANGELANELEFT, waypoint.get_left_lane),
        (carla.LaneChange.Right, RoadOption.CHANGELANERIGHT, waypoint.get_right_lane),
    ):
        if waypoint.lane_change in (permitted, carla.LaneChange.Both):
            lane = beside()
            if lane is not None and lane.lane_type == carla.LaneType.Driving and lane.lane_id * waypoint.lane_id > 0:
                yield option, lane


def turn_options(angles_deg: Sequence[float]) -> list[RoadOption]:
    """Name the ways on from one lane by their change of heading (degrees, positive to the right).

    Of several ways within the straight limit the straightest is STRAIGHT; the others are LEFT or RIGHT of it.
    """
    straight = [angle for angle in angles_deg if abs(angle) < STRAIGHT_LIMIT_DEG]
    straightest = min(straight, key=abs, default=None)
    options = []
    for angle in angles_deg:
        if straightest is not None and angle == straightest:
            options.append(RoadOption.STRAIGHT)
        elif straightest is not None and abs(angle) < STRAIGHT_LIMIT_DEG:
            options.append(RoadOption.RIGHT if angle > straightest else RoadOption.LEFT)
        else:
            options.append(RoadOption.RIGHT if angle > 0 else RoadOption.LEFT)
    return options
