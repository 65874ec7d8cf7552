"""Off-line and off-road against positions whose answer is known, on a map of the town, without a server."""

import numpy as np
import pytest

from roadworthy.agent.carla_client import carla
from roadworthy.agent.corridor import Corridor, box_points
from roadworthy.agent.routes import Route, make_routes
from roadworthy.agent.town import maps

HALF_LENGTH, HALF_WIDTH = 2.4, 1.0


@pytest.fixture(scope="module")
def town_map() -> carla.Map:
    return carla.Map("Grid01", maps.load("Grid01"))


def at(route: Route, along: float, right: float) -> np.ndarray:
    place = route.transform_at(along)
    side = place.get_right_vector()
    x, y = place.location.x + right * side.x, place.location.y + right * side.y
    return box_points(x, y, place.rotation.yaw, HALF_LENGTH, HALF_WIDTH)


def on_a_road(route: Route) -> float:
    """Return a place of the route [m] that is well outside junctions."""
    clear = [w.is_junction for w in route.waypoints]
    return next(float(route.along_m[i]) for i in range(6, len(clear) - 6) if not any(clear[i - 6 : i + 6]))


def test_in_the_lane_nothing_is_outside(town_map: carla.Map) -> None:
    for route in make_routes(town_map, 0, 3, "one-turn"):
        corridor = Corridor(town_map, route)
        for along in np.arange(0.0, route.length_m, 4.0):
            off_line, _ = corridor.outside(at(route, along, 0.0))
            assert off_line < 0.2, f"at {along} m"  # in the tightest turn a corner of the box may leave the lane


def test_the_fraction_grows_with_the_distance_from_the_lane(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    width = route.waypoints[int(along)].lane_width
    fractions = [corridor.outside(at(route, along, right))[0] for right in np.linspace(0.0, width, 9)]
    assert fractions[0] == 0.0
    assert fractions == sorted(fractions)
    assert fractions[4] == pytest.approx(0.5)  # centre on the line
    assert fractions[-1] == 1.0


def test_the_opposite_lane_is_off_line_but_on_the_road(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    width = route.waypoints[int(along)].lane_width
    assert corridor.outside(at(route, along, -width)) == (1.0, 0.0)


def test_beside_the_road_is_off_road(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    assert corridor.outside(at(route, along, 30.0)) == (1.0, 1.0)


def test_every_lane_of_the_manoeuvre_is_ones_own(town_map: carla.Map) -> None:
    """A junction's other connections between the same two roads are not off-line; other ways through it are."""
    for route in make_routes(town_map, 3, 4, "one-turn"):
        corridor = Corridor(town_map, route)
        inside = next(i for i, w in enumerate(route.waypoints) if w.is_junction)
        junction = route.waypoints[inside].get_junction()
        entry = route.waypoints[inside - 1]
        leaving = next(w for w in route.waypoints[inside:] if not w.is_junction)
        verdicts = {True: [], False: []}
        for begin, end in junction.get_waypoints(carla.LaneType.Driving):
            roads = begin.previous(1.0)[0].road_id, end.next(1.0)[0].road_id
            course = [begin, *begin.next_until_lane_end(1.0)]
            middle = course[len(course) // 2].transform
            box = box_points(middle.location.x, middle.location.y, middle.rotation.yaw, 0.3, 0.3)
            verdicts[roads == (entry.road_id, leaving.road_id)].append(corridor.outside(box)[0])
        assert verdicts[True]
        assert max(verdicts[True]) == 0.0
        assert max(verdicts[False]) == 1.0
