"""Routes on real maps: drivable lines, the right commands, and progress that never jumps."""

import numpy as np
import pytest

from roadworthy.agent.carla_client import carla
from roadworthy.agent.lanegraph import TURNS, LaneGraph, RoadOption, turn_options
from roadworthy.agent.routes import ANNOUNCE_M, TASK_LENGTHS_M, Route, Task, make_routes, plan_route
from roadworthy.agent.town import maps
from roadworthy.runtime.errors import BadInput


@pytest.fixture(scope="module")
def grid() -> LaneGraph:
    return LaneGraph(carla.Map("Grid01", maps.load("Grid01")))


def heading_errors(route: Route) -> np.ndarray:
    step = np.diff(route.points[:, :2], axis=0)
    heading = np.degrees(np.arctan2(step[:, 1], step[:, 0]))
    return np.abs((heading - route.yaw_deg[:-1] + 180) % 360 - 180)


@pytest.mark.parametrize("task", ["straight", "one-turn", "navigation"])
def test_routes_can_be_driven_and_fit_their_task(carla_map: carla.Map, task: Task) -> None:
    graph = LaneGraph(carla_map)
    shortest, longest = TASK_LENGTHS_M[task]
    for route in make_routes(graph, seed=5, count=6, task=task):
        assert shortest <= route.length_m <= longest
        steps = np.diff(route.along_m)
        assert steps.min() > 0.05
        assert steps.max() < 2.0
        assert heading_errors(route).max() < 36
        for point, waypoint in zip(route.points[::5], route.waypoints[::5], strict=True):
            under = carla_map.get_waypoint(carla.Location(*point), False)
            assert under is not None, "the route leaves the road"
            assert np.hypot(waypoint.transform.location.x - point[0], waypoint.transform.location.y - point[1]) < 2.0
        runs = [c for c, before in zip(route.commands, [0, *route.commands], strict=False) if c != before]
        turns = [c for c in runs if c in TURNS]
        assert len(turns) == {"straight": 0, "one-turn": 1}.get(task, len(turns))
        if task == "navigation":
            assert len(turns) >= 1  # two turns of one kind in successive junctions may share one run


def test_command_agrees_with_the_change_of_heading_and_is_announced(grid: LaneGraph) -> None:
    seen = set()
    for route in make_routes(grid, seed=1, count=20, task="one-turn"):
        at = np.flatnonzero(np.isin(route.commands, list(TURNS)))
        command = RoadOption(int(route.commands[at[0]]))
        change = (route.yaw_deg[at[-1]] - route.yaw_deg[at[0]] + 180) % 360 - 180
        assert (change > 45) if command == RoadOption.RIGHT else (change < -45)
        junction = next(i for i in at if route.waypoints[i].is_junction)
        ahead = route.along_m[junction] - route.along_m[at[0]]
        assert ahead == pytest.approx(ANNOUNCE_M, abs=1.5) or route.along_m[at[0]] < 1.0 or route.commands[at[0] - 1] != 4
        assert route.command_at(route.along_m[junction]) == command
        seen.add(command)
    assert seen == {RoadOption.LEFT, RoadOption.RIGHT}


def test_ways_on_are_told_apart() -> None:
    left, right, straight = RoadOption.LEFT, RoadOption.RIGHT, RoadOption.STRAIGHT
    assert turn_options([-90, 0, 90]) == [left, straight, right]
    assert turn_options([20, -10]) == [right, straight]  # a fork: never two ways of one name
    assert turn_options([-30, -5, 30]) == [left, straight, right]
    assert turn_options([80]) == [right]


def test_same_seed_same_routes_and_another_seed_others(grid: LaneGraph) -> None:
    one, same, other = (make_routes(grid, seed, 4, "navigation") for seed in (7, 7, 8))
    assert all(np.array_equal(a.points, b.points) for a, b in zip(one, same, strict=True))
    assert not any(
        a.points.shape == b.points.shape and np.allclose(a.points, b.points) for a, b in zip(one, other, strict=True)
    )


def test_plan_goes_from_start_to_goal_also_backwards(grid: LaneGraph) -> None:
    long = make_routes(grid, 3, 1, "navigation")[0]
    again = plan_route(grid, long.start.location, long.goal.location)
    assert again.length_m == pytest.approx(long.length_m, abs=2.0)
    for route in make_routes(grid, 3, 5, "straight"):
        # A goal that lies a little behind on the same lane cannot be reversed to: the way leads round.
        back = plan_route(grid, route.transform_at(8.0).location, route.start.location)
        assert back.length_m > 50
        assert back.goal.location.distance(route.start.location) < 1.5
        assert heading_errors(back).max() < 36


def test_lane_change_crosses_over_where_the_marking_allows(grid: LaneGraph) -> None:
    changing = [
        route
        for route in make_routes(grid, 0, 40, "navigation")
        if np.isin(route.commands, (RoadOption.CHANGELANELEFT, RoadOption.CHANGELANERIGHT)).any()
    ]
    assert changing, "Grid01 has roads with two lanes each way"
    for route in changing:
        for i in np.flatnonzero(np.diff((route.commands >= RoadOption.CHANGELANELEFT).astype(int)) == 1) + 1:
            end = i + int(np.argmax(route.commands[i:] != route.commands[i]))
            yaw = np.radians(route.waypoints[i].transform.rotation.yaw)
            move = route.points[min(end + 1, len(route.points) - 1)] - route.points[i]
            sideways = -np.sin(yaw) * move[0] + np.cos(yaw) * move[1]  # to the right
            assert np.sign(sideways) == (1 if route.commands[i] == RoadOption.CHANGELANERIGHT else -1)
            assert 2.0 < abs(sideways) < 6.0


def test_progress_follows_a_drive_and_never_jumps(carla_map: carla.Map) -> None:
    rng = np.random.default_rng(0)
    for route in make_routes(carla_map, 2, 3, "navigation"):
        along = 0.0
        for true_along in np.arange(0.0, route.length_m, 1.5):
            at = route.transform_at(true_along)
            beside = rng.uniform(-1.0, 1.0)
            location = at.location + at.get_right_vector() * beside
            found = route.progress(location, along)
            assert found.along_m >= along
            assert found.along_m == pytest.approx(true_along, abs=2.0)
            assert found.lateral_m == pytest.approx(beside, abs=0.4)
            along = found.along_m
        assert route.length_m - along < 4.0


def test_progress_on_a_route_that_crosses_itself() -> None:
    # Out and back over the same ground: the nearest place alone cannot tell the two ways apart.
    x = np.concatenate([np.arange(0.0, 60.0), np.arange(60.0, -1.0, -1.0)])
    points = np.column_stack([x, np.zeros_like(x), np.zeros_like(x)])
    yaw = np.where(np.arange(len(x)) < 60, 0.0, 180.0)
    route = Route(points, yaw, np.full(len(x), 4), (), frozenset())
    along = 0.0
    for step in range(0, 120, 2):
        along = route.progress(carla.Location(float(x[step]), 0.1, 0.0), along).along_m
        assert along == pytest.approx(step, abs=0.5)
    assert route.progress(carla.Location(10.0, 0.1, 0.0), 12.0).along_m == 12.0  # rolled back: never less


def test_bad_requests_name_the_fix(grid: LaneGraph) -> None:
    with pytest.raises(BadInput, match="straight, one-turn, navigation"):
        make_routes(grid, 0, 1, "parking")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="allow other lengths"):
        make_routes(grid, 0, 1, "straight", min_length_m=5000, max_length_m=6000)
    place = next(iter(grid.entries.values())).transform.location
    with pytest.raises(BadInput, match="same place"):
        plan_route(grid, place, place)
