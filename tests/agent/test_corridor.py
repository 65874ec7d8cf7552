"""Off-line and off-road against positions whose answer is known, on a map of the town, without a server."""

import queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roadworthy.agent.camera import COLOUR
from roadworthy.agent.carla_client import carla
from roadworthy.agent.corridor import Corridor, box_points
from roadworthy.agent.ego import Assignment, Ego
from roadworthy.agent.expert import CarModel
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
            off_line, _ = corridor.outside(at(route, along, 0.0), 0.0)
            assert off_line < 0.2, f"at {along} m"  # in the tightest turn a corner of the box may leave the lane


def test_the_fraction_grows_with_the_distance_from_the_lane(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    width = route.waypoints[int(along)].lane_width
    fractions = [corridor.outside(at(route, along, right), 0.0)[0] for right in np.linspace(0.0, width, 9)]
    assert fractions[0] == 0.0
    assert fractions == sorted(fractions)
    assert fractions[4] == pytest.approx(0.5)  # centre on the line
    assert fractions[-1] == 1.0


def test_the_opposite_lane_is_off_line_but_on_the_road(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    width = route.waypoints[int(along)].lane_width
    assert corridor.outside(at(route, along, -width), 0.0) == (1.0, 0.0)


def test_beside_the_road_is_off_road(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    corridor, along = Corridor(town_map, route), on_a_road(route)
    assert corridor.outside(at(route, along, 30.0), 0.0) == (1.0, 1.0)


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
            verdicts[roads == (entry.road_id, leaving.road_id)].append(corridor.outside(box, 0.0)[0])
        assert verdicts[True]
        assert max(verdicts[True]) == 0.0
        assert max(verdicts[False]) == 1.0


def road(number: int, y: float, height_m: float) -> str:
    """Return 200 m of a road with a lane in each direction, in OpenDRIVE."""
    lane = '<lane id="{0}" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>'
    return (
        f'<road name="" length="200" id="{number}" junction="-1">'
        f'<planView><geometry s="0" x="0" y="{y}" hdg="0" length="200"><line/></geometry></planView>'
        f'<elevationProfile><elevation s="0" a="{height_m}" b="0" c="0" d="0"/></elevationProfile><lateralProfile/>'
        f'<lanes><laneSection s="0"><left>{lane.format(1)}</left><center><lane id="0" type="none" level="false"/></center>'
        f"<right>{lane.format(-1)}</right></laneSection></lanes></road>"
    )


def test_the_opposite_lane_of_a_bridge_is_on_the_road() -> None:
    header = '<header revMajor="1" revMinor="4" name="" version="1" north="0" south="0" east="0" west="0"/>'
    bridge = carla.Map("Bridge", f'<?xml version="1.0"?><OpenDRIVE>{header}{road(1, 0, 10)}{road(2, 9, 0)}</OpenDRIVE>')
    waypoints = [bridge.get_waypoint_xodr(1, -1, float(s)) for s in range(80, 121)]
    places = [waypoint.transform.location for waypoint in waypoints]
    points = np.array([(place.x, place.y, place.z) for place in places])
    nothing = np.zeros(len(points))
    route = Route(points, nothing, nothing.astype(np.int64) + 4, tuple(waypoints), frozenset())
    ego: Any = Ego.__new__(Ego)  # the real measure of a car on the other lane, without a server
    place = carla.Transform(carla.Location(100.0, -points[0, 1], 10.0))
    ego.car = SimpleNamespace(get_transform=lambda: place, get_velocity=carla.Vector3D)
    ego.model = CarModel(half_length_m=HALF_LENGTH, half_width_m=HALF_WIDTH)
    ego._assignment, ego._corridor, ego._along_m = Assignment(route, "ClearNoon"), Corridor(bridge, route), 15.0
    image = SimpleNamespace(raw_data=bytes(8), height=1, width=2)
    ego._camera = SimpleNamespace(read=lambda _: {COLOUR: image})
    ego._contacts = queue.SimpleQueue()
    moment = ego.measure(1)
    assert (moment.off_line, moment.off_road) == (1.0, 0.0)
