"""Routes: where to drive, which command holds where, and how far along one is. Works offline on a `carla.Map`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol, get_args

import networkx as nx
import numpy as np
import numpy.typing as npt

from roadworthy.agent.carla_client import carla
from roadworthy.agent.lanegraph import (
    LANE_CHANGES,
    SAMPLE_M,
    TURNS,
    LaneGraph,
    LaneKey,
    RoadOption,
    lane_key,
    lane_samples,
    neighbours,
)
from roadworthy.runtime.errors import BadInput

ANNOUNCE_M = 20.0  # [m] a junction's command holds from this far before it
CHANGE_M = 15.0  # [m] along the road that a lane change takes
DETOURS = 20  # paths that are tried round lane changes which the markings do not allow
SHORTEST_CHANGE_M = 5.0  # [m] where the marking leaves no more room
SEARCH_BACK_M, SEARCH_AHEAD_M = 0.0, 30.0  # [m] window of a progress search round the last known place
KINK_DEG = 35.0  # [degrees] between the line and its lane; generated maps have junctions whose lanes do not meet
MARGIN_M = 8.0  # [m] routes start and end at least this far from a lane's ends

Task = Literal["straight", "one-turn", "navigation"]
# Shortest and longest route of a task [m]; the tasks are those of the CARLA benchmark (arXiv 1711.03938, section 4).
TASK_LENGTHS_M: dict[Task, tuple[float, float]] = {
    "straight": (50.0, 250.0),
    "one-turn": (60.0, 350.0),
    "navigation": (150.0, 1000.0),
}


class Planar(Protocol):
    """Anything with a place in the plane: `carla.Location`, `carla.Vector3D`."""

    x: float
    y: float


class Progress(NamedTuple):
    """Where one is with respect to a route."""

    along_m: float  # [m] from the start
    lateral_m: float  # [m] to the right of the route; negative to the left


@dataclass(frozen=True, eq=False)
class Route:
    """A drivable line with commands. N points, about a metre apart, in CARLA's metres and degrees."""

    points: npt.NDArray[np.float64]  # [N, 3] x, y, z
    yaw_deg: npt.NDArray[np.float64]  # [N]
    commands: npt.NDArray[np.int64]  # [N] RoadOption
    waypoints: tuple[carla.Waypoint, ...]  # N, the lane under each point
    lanes: frozenset[LaneKey]  # every lane of the route, both lanes of a lane change

    @cached_property
    def along_m(self) -> npt.NDArray[np.float64]:
        """Distance from the start to each point `[N]`."""
        steps = np.linalg.norm(np.diff(self.points[:, :2], axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def length_m(self) -> float:
        """Length of the whole route."""
        return float(self.along_m[-1])

    @property
    def start(self) -> carla.Transform:
        """Where the route begins, on the ground."""
        return self.transform_at(0.0)

    @property
    def goal(self) -> carla.Transform:
        """Where the route ends, on the ground."""
        return self.transform_at(self.length_m)

    def transform_at(self, along_m: float) -> carla.Transform:
        """Return place and heading `along_m` metres from the start."""
        i = self._index(along_m)
        share = (along_m - self.along_m[i]) / max(self.along_m[i + 1] - self.along_m[i], 1e-6)
        x, y, z = self.points[i] + min(max(share, 0.0), 1.0) * (self.points[i + 1] - self.points[i])
        return carla.Transform(carla.Location(x, y, z), carla.Rotation(yaw=float(self.yaw_deg[i + (share >= 0.5)])))

    def command_at(self, along_m: float) -> RoadOption:
        """Return the command that holds `along_m` metres from the start."""
        return RoadOption(int(self.commands[self._index(along_m)]))

    def progress(self, location: Planar, since_m: float | None = None) -> Progress:
        """Return how far along `location` is and how far beside the route.

        With `since_m`, the last known progress, the search goes from there at most 30 m ahead: fast, never backwards,
        and never onto another part of a route that crosses itself. Without it the nearest place counts.
        """
        first, last = 0, len(self.points) - 1  # segments first .. last - 1
        if since_m is not None:
            first, last = self._index(since_m - SEARCH_BACK_M), self._index(since_m + SEARCH_AHEAD_M) + 1
        begin = self.points[first:last, :2]  # [K, 2]
        step = self.points[first + 1 : last + 1, :2] - begin
        offset = np.array([location.x, location.y]) - begin
        squared = np.maximum((step * step).sum(1), 1e-9)
        share = np.clip((offset * step).sum(1) / squared, 0.0, 1.0)  # [K]
        away = offset - share[:, None] * step
        k = int((away * away).sum(1).argmin())
        along = float(self.along_m[first + k] + share[k] * np.sqrt(squared[k]))
        # The cross product of heading and offset is positive to the right, as y points right.
        side = float(step[k, 0] * offset[k, 1] - step[k, 1] * offset[k, 0])
        lateral = float(np.copysign(np.hypot(*away[k]), side))
        return Progress(along if since_m is None else max(along, since_m), lateral)

    def _index(self, along_m: float) -> int:
        """The segment that holds a distance."""
        return min(max(int(self.along_m.searchsorted(along_m, side="right")) - 1, 0), len(self.points) - 2)


def plan_route(lanes: LaneGraph | carla.Map, start: carla.Location, goal: carla.Location) -> Route:
    """Plan the shortest way on lanes from `start` to `goal` (both moved to the nearest lane).

    Raises `BadInput` if there is none.
    """
    graph = lanes if isinstance(lanes, LaneGraph) else LaneGraph(lanes)
    begin, end = (graph.map.get_waypoint(place, project_to_road=True) for place in (start, goal))
    source, target = lane_key(begin), lane_key(end)
    for waypoint in (begin, end):
        if lane_key(waypoint) not in graph.graph:
            raise BadInput(
                f"{waypoint.transform.location} is on a lane without connections, expected a place in the road network"
            )
    closed: list[tuple[LaneKey, LaneKey]] = []  # changes that come too late from where the path enters the lane
    for _ in range(DETOURS):
        ways = nx.restricted_view(graph.graph, [], closed)
        try:
            if (
                source[:2] == target[:2]
                and source[2] * target[2] > 0
                and _ahead_m(begin, end) < (source != target) * 2 * CHANGE_M
            ):
                # On the same road but behind, or too close for a lane change: once round.
                onward = [nx.dijkstra_path(ways, lane, target, "cost") for lane in graph.successors(source)]
                path = [source, *min(onward, key=lambda p: sum(graph.lengths[lane] for lane in p))]
            else:
                path = nx.dijkstra_path(ways, source, target, "cost")
        except (nx.NetworkXNoPath, ValueError) as error:
            raise BadInput(f"no way leads from {start} to {goal}: choose a goal that the lanes reach") from error
        try:
            return _trace(graph, path, begin, end)
        except _NoChange as late:
            closed.append((late.args[0], late.args[1]))
    raise BadInput(f"the way from {start} to {goal} needs lane changes that the markings do not allow: choose another start")


def make_routes(
    lanes: LaneGraph | carla.Map,
    seed: int,
    count: int,
    task: Task = "navigation",
    *,
    min_length_m: float | None = None,
    max_length_m: float | None = None,
) -> list[Route]:
    """Draw `count` routes for a task: "straight" and "one-turn" as named, "navigation" with two turns or more.

    The same seed gives the same routes. Raises `BadInput` if the map has too few such routes.
    """
    if task not in get_args(Task):
        raise BadInput(f"task {task!r} is unknown, expected one of: {', '.join(get_args(Task))}")
    graph = lanes if isinstance(lanes, LaneGraph) else LaneGraph(lanes)
    shortest = TASK_LENGTHS_M[task][0] if min_length_m is None else min_length_m
    longest = TASK_LENGTHS_M[task][1] if max_length_m is None else max_length_m
    rng = np.random.default_rng(seed)
    lanes_outside = sorted(
        key for key in graph.entries if not graph.in_junction(key) and graph.lengths[key] > 2 * MARGIN_M and key in graph.graph
    )
    routes: list[Route] = []
    for _ in range(20 * count + 200):
        if len(routes) == count or not lanes_outside:
            break
        source = lanes_outside[rng.integers(len(lanes_outside))]
        paths = nx.single_source_dijkstra_path(graph.graph, source, cutoff=longest + graph.lengths[source], weight="cost")
        fitting = [key for key in lanes_outside if key in paths and _fits(graph, paths[key], task)]
        if not fitting:
            continue
        path = paths[fitting[rng.integers(len(fitting))]]
        begin, end = (_somewhere(graph, lane, rng) for lane in (path[0], path[-1]))
        if len(path) == 1 and _ahead_m(begin, end) < SAMPLE_M:
            continue
        try:
            route = _trace(graph, path, begin, end)
        except _NoChange:
            continue
        if shortest <= route.length_m <= longest and not _kinked(route):
            routes.append(route)
    if len(routes) < count:
        raise BadInput(
            f"map {graph.map.name!r} gave {len(routes)} of {count} {task!r} routes of {shortest:.0f} to {longest:.0f} m: "
            "allow other lengths, or use a larger map"
        )
    return routes


def _kinked(route: Route) -> bool:
    """Whether the lanes' ends fit so badly somewhere that no car could follow the line."""
    step = np.diff(route.points[:, :2], axis=0)  # [N - 1, 2]
    heading = np.degrees(np.arctan2(step[:, 1], step[:, 0]))
    return bool((np.abs((heading - route.yaw_deg[:-1] + 180.0) % 360.0 - 180.0) > KINK_DEG).any())


def _fits(graph: LaneGraph, path: Sequence[LaneKey], task: Task) -> bool:
    turns = [option for previous, option in _manoeuvres(graph, path) if option in TURNS and previous != option]
    if task == "navigation":
        return len(turns) >= 2
    changes = any(graph.option(a, b) in LANE_CHANGES for a, b in pairwise(path))
    return not changes and len(turns) == (1 if task == "one-turn" else 0)


def _manoeuvres(graph: LaneGraph, path: Sequence[LaneKey]) -> list[tuple[RoadOption, RoadOption]]:
    options = graph.junction_options(path)
    return list(zip([RoadOption.LANEFOLLOW, *options], options, strict=False))


def _somewhere(graph: LaneGraph, lane: LaneKey, rng: np.random.Generator) -> carla.Waypoint:
    return graph.entries[lane].next(float(rng.uniform(MARGIN_M, graph.lengths[lane] - MARGIN_M)))[0]


def _ahead_m(begin: carla.Waypoint, end: carla.Waypoint) -> float:
    """How far `end` is ahead on the same road section; lanes with positive ids run against the road's direction."""
    return float((end.s - begin.s) * (1.0 if begin.lane_id < 0 else -1.0))


def _trace(graph: LaneGraph, path: Sequence[LaneKey], begin: carla.Waypoint, end: carla.Waypoint) -> Route:
    """Lay points and commands along a path of lanes; raises `_NoChange` where the path leaves a lane too late."""
    options = graph.junction_options(path)
    points: list[carla.Waypoint] = []
    commands: list[RoadOption] = []
    current = begin
    for i, lane in enumerate(path):
        samples = lane_samples(current)
        change = graph.option(lane, path[i + 1]) if i + 1 < len(path) else RoadOption.LANEFOLLOW
        if i + 1 == len(path):
            away = [sample.transform.location.distance(end.transform.location) for sample in samples]
            samples = samples[: int(np.argmin(away)) + 1]
        elif change in LANE_CHANGES:
            changed = _change_lane(samples, change)
            if changed is None:
                raise _NoChange(lane, path[i + 1])
            samples, current = changed
        else:
            current = graph.entries[path[i + 1]]
        points += samples
        commands += [change if change in LANE_CHANGES else options[i]] * len(samples)
    return _route(graph, points, commands, path)


class _NoChange(Exception):
    """From here on the markings of a lane allow no change to another: the two lanes."""


def _change_lane(samples: list[carla.Waypoint], option: RoadOption) -> tuple[list[carla.Waypoint], carla.Waypoint] | None:
    """Return the part of a lane before a change, and where in the other lane the change ends; None if there is no room for it.

    It begins soon, but where the marking allows it; lines are solid before junctions.
    """
    landings = [dict(neighbours(sample)).get(option) for sample in samples[:-1]]
    leave = next((i for i in range(min(5, len(samples) // 4), len(landings)) if landings[i] is not None), len(samples))
    furthest = min(leave + round(CHANGE_M / SAMPLE_M), len(landings) - 1)
    nearest = leave + round(SHORTEST_CHANGE_M / SAMPLE_M)
    landing = next((landings[i] for i in range(furthest, nearest - 1, -1) if landings[i] is not None), None)
    return None if landing is None else (samples[: leave + 1], landing)


def _route(graph: LaneGraph, waypoints: list[carla.Waypoint], commands: list[RoadOption], path: Sequence[LaneKey]) -> Route:
    """Join the lanes' waypoints: no double or backward steps where lanes meet, diagonals where a lane change leaves a gap."""
    points = [_place(waypoints[0])]
    kept = [(waypoints[0], float(waypoints[0].transform.rotation.yaw), commands[0])]
    for waypoint, command in zip(waypoints[1:], commands[1:], strict=True):
        step = _place(waypoint) - points[-1]
        forward = waypoint.transform.get_forward_vector()
        if step[0] * forward.x + step[1] * forward.y < 0.1 * SAMPLE_M:
            continue
        pieces = max(round(float(np.hypot(step[0], step[1])) / SAMPLE_M), 1)
        yaw = float(np.degrees(np.arctan2(step[1], step[0])))
        for _ in range(pieces - 1):
            points.append(points[-1] + step / pieces)
            kept.append((graph.map.get_waypoint(carla.Location(*points[-1])), yaw, kept[-1][2]))
        points.append(_place(waypoint))
        kept.append((waypoint, float(waypoint.transform.rotation.yaw), command))
    if len(kept) < 2:
        raise BadInput(
            f"start and goal are the same place ({waypoints[0].transform.location}), expected a route of 1 m or more"
        )
    route = Route(
        points=np.array(points),
        yaw_deg=np.array([yaw for _, yaw, _ in kept]),
        commands=np.array([option for _, _, option in kept], dtype=np.int64),
        waypoints=tuple(waypoint for waypoint, _, _ in kept),
        lanes=frozenset(path),
    )
    _announce(route)
    return route


def _place(waypoint: carla.Waypoint) -> npt.NDArray[np.float64]:
    location = waypoint.transform.location
    return np.array([location.x, location.y, location.z])


def _announce(route: Route) -> None:
    """Let each junction's command hold from `ANNOUNCE_M` before the junction."""
    turning = np.isin(route.commands, (RoadOption.LEFT, RoadOption.RIGHT, RoadOption.STRAIGHT))
    for i in np.flatnonzero(turning[1:] & ~turning[:-1]) + 1:
        before = (route.along_m >= route.along_m[i] - ANNOUNCE_M) & (route.along_m < route.along_m[i])
        route.commands[before & (route.commands == RoadOption.LANEFOLLOW)] = route.commands[i]
