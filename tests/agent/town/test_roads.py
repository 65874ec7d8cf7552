"""The road network's polygons, signals and spawn points against the map's own waypoints."""

import math
from functools import lru_cache

import carla
import numpy as np
import pytest
import shapely

from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.surfaces import Ground


@lru_cache
def network(name: str, text: str) -> RoadNetwork:
    return RoadNetwork.from_opendrive(name, text)


@pytest.fixture
def roads(town_map: tuple[str, str]) -> RoadNetwork:
    return network(*town_map)


def test_driving_lanes_are_drivable_and_sidewalk_lanes_are_not(roads: RoadNetwork) -> None:
    drivable, sidewalk = roads.drivable, roads.sidewalk
    shapely.prepare(drivable)
    for lane in roads.lanes:
        points = shapely.points(lane.centre[:, :2])
        if lane.span.kind == "driving":
            assert shapely.covers(drivable, points).all()
        elif lane.span.kind == "sidewalk" and lane.span.junction < 0:
            inner = points[1:-1] if len(points) > 2 else shapely.points(lane.centre[:, :2].mean(axis=0)[None])
            assert shapely.covers(sidewalk, inner).mean() > 0.9
    assert drivable.intersection(sidewalk).area < 1.0


def test_surface_at_agrees_with_the_polygons(roads: RoadNetwork) -> None:
    rng = np.random.default_rng(0)
    x0, y0, x1, y1 = roads.drivable.bounds
    points = rng.uniform((x0 - 10, y0 - 10), (x1 + 10, y1 + 10), (4000, 2))
    where = shapely.points(points)
    edges = shapely.union_all([roads.drivable.boundary, roads.sidewalk.boundary])
    shapely.prepare(edges)
    for shape, ground in ((roads.drivable, Ground.ROAD), (roads.sidewalk, Ground.SIDEWALK)):
        shapely.prepare(shape)
        inside = shapely.contains(shape, where)
        assert inside.sum() > 100
        for (x, y), expected, point in zip(points, inside, where, strict=True):
            if edges.distance(point) > 0.3:
                assert (roads.surface_at(x, y).ground == ground) == expected
    assert roads.surface_at(x0 - 1000, y0).ground == Ground.TERRAIN


def test_kerbs_are_higher_than_the_road(roads: RoadNetwork) -> None:
    heights = {ground: set() for ground in Ground}
    rng = np.random.default_rng(1)
    for x, y in rng.uniform(roads.bounds[:2], roads.bounds[2:], (3000, 2)):
        surface = roads.surface_at(x, y)
        heights[surface.ground].add(round(surface.height, 3))
    assert heights[Ground.ROAD] == {0.0}
    assert min(heights[Ground.SIDEWALK]) > min(heights[Ground.TERRAIN]) > 0.05


def test_spawn_points_stand_on_lanes_and_face_along_them(roads: RoadNetwork) -> None:
    points = roads.spawn_points()
    assert 70 < len(points) < 400
    for x, y, z, yaw in points:
        waypoint = roads.map.get_waypoint(carla.Location(x, y, 0))
        assert waypoint.transform.location.distance(carla.Location(x, y, z - 0.5)) < 0.3
        assert abs((waypoint.transform.rotation.yaw - yaw + 180) % 360 - 180) < 5
        assert not waypoint.is_junction
    places = np.array(points)[:, :2]
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e6 * np.eye(len(places))
    assert gaps.min() > 2.5


def test_lights_stop_every_lane_into_their_junction(roads: RoadNetwork) -> None:
    lights = [signal for signal in roads.signals if signal.kind == "light"]
    assert len(lights) > 5
    for light in lights:
        assert light.stops
        assert light.group >= 0
        for stop in light.stops:
            here = roads.map.get_waypoint(carla.Location(stop.x, stop.y, 0))
            assert (here.road_id, here.lane_id) == (stop.road, stop.lane)
            assert math.cos(math.radians(here.transform.rotation.yaw - stop.yaw)) > 0.99
            assert not here.is_junction
            assert any(ahead.is_junction for ahead in here.next(8.0))
        # The pole stands beside its street, not on it.
        assert roads.surface_at(light.x, light.y).ground != Ground.ROAD
        assert math.hypot(light.x - light.stop.x, light.y - light.stop.y) < 15
    for group in {light.group for light in lights}:
        turns = sorted({light.sequence for light in lights if light.group == group})
        assert turns == list(range(len(turns)))


def test_crossings_lie_on_asphalt_near_junctions(roads: RoadNetwork) -> None:
    assert len(roads.crosswalks) > 10
    for crossing in roads.crosswalks:
        assert crossing.intersection(roads.drivable).area > 0.75 * crossing.area
        assert min(shape.distance(crossing) for shape in roads.junctions.values()) < 8


def test_paint_is_on_the_road_and_of_several_kinds(roads: RoadNetwork) -> None:
    kinds = {(m.kind, m.colour) for m in roads.markings}
    assert {"broken", "stop", "zebra"} <= {kind for kind, _ in kinds}
    assert {"white", "yellow"} <= {colour for _, colour in kinds}
    painted = shapely.union_all([m.polygon for m in roads.markings])
    assert painted.intersection(roads.drivable).area > 0.93 * painted.area
    assert 0.01 < painted.area / roads.drivable.area < 0.2


def test_each_stretch_of_a_line_is_painted_as_the_map_says(roads: RoadNetwork) -> None:
    """A line that is broken here and solid there, as before Town01's crossings and the shipped towns' junctions."""
    solid = shapely.union_all([m.polygon for m in roads.markings if m.kind == "solid"])
    shapely.prepare(solid)
    found = {"Solid": 0, "Broken": 0, "NONE": 0}
    for waypoint in roads.map.generate_waypoints(3.0):
        kind = str(waypoint.left_lane_marking.type)
        around = [*waypoint.next(3.0), *waypoint.previous(3.0)]
        settled = len(around) == 2 and all(
            (w.road_id, str(w.left_lane_marking.type)) == (waypoint.road_id, kind) for w in around
        )
        if waypoint.is_junction or kind not in found or not settled:
            continue
        place, right = waypoint.transform.location, waypoint.transform.get_right_vector()
        border = place - right * (waypoint.lane_width / 2)
        painted = solid.distance(shapely.Point(border.x, border.y)) < 0.2
        assert painted == (kind == "Solid"), f"a {kind} line at {waypoint}"
        found[kind] += 1
    assert found["Broken"] > 10


def test_speed_signs_have_limits(roads: RoadNetwork) -> None:
    limits = {signal.value for signal in roads.signals if signal.kind == "speed"}
    assert limits
    assert all(20 <= limit <= 90 for limit in limits)


def hills(text: str) -> str:
    return text.replace('<elevation s="0" a="0.00" b="0" c="0" d="0" />', '<elevation s="0" a="2.00" b="0.01" c="0" d="0" />')


def test_ground_follows_a_map_with_slopes(town_map: tuple[str, str]) -> None:
    name, text = town_map
    if name != "Grid01":
        pytest.skip("one map with slopes is enough")
    roads = RoadNetwork.from_opendrive("Hills", hills(text))
    assert not roads.heights.flat
    errors = [abs(roads.surface_at(x, y).height - (z - 0.5)) for x, y, z, _ in roads.spawn_points()]
    assert max(z for _, _, z, _ in roads.spawn_points()) > 2.9
    assert np.median(errors) < 0.15
