"""The shipped OpenDRIVE files are towns that CARLA's own map code can drive in."""

import math
import shutil
from pathlib import Path

import carla
import networkx as nx
import pytest

from roadworthy.agent.town import maps, opendrive
from roadworthy.scripts import make_maps
from roadworthy.scripts.town_plans import PLANS


def shipped() -> list[str]:
    return list(maps.names())


def test_two_training_towns_and_two_held_out_ones() -> None:
    assert set(maps.names()) >= {"Grid01", "Grid02", "Crooked01", "Ring01"}
    assert all(len(maps.load(name)) < 1_000_000 for name in maps.names())


def test_an_unknown_map_names_the_known_ones() -> None:
    with pytest.raises(maps.UnknownMap, match="Grid01"):
        maps.load("Atlantis")


@pytest.mark.parametrize("name", shipped())
def test_every_lane_leads_on_and_the_network_is_one_piece(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    graph = nx.DiGraph(((a.road_id, a.lane_id), (b.road_id, b.lane_id)) for a, b in town.get_topology())
    for waypoint in town.generate_waypoints(10.0):
        change = waypoint.lane_change
        for way, side in (
            (carla.LaneChange.Left, waypoint.get_left_lane()),
            (carla.LaneChange.Right, waypoint.get_right_lane()),
        ):
            if change & way and side is not None and side.lane_id * waypoint.lane_id > 0:
                graph.add_edge((waypoint.road_id, waypoint.lane_id), (side.road_id, side.lane_id))
    assert nx.is_strongly_connected(graph), "some streets cannot be reached or left"
    for waypoint in town.generate_waypoints(4.0):
        ahead = waypoint.next(2.0)
        assert ahead, f"dead end at {waypoint}"
        for place in ahead:
            step = place.transform.location.distance(waypoint.transform.location)
            assert 0.7 < step < 4.0, f"a gap of {step:.1f} m at {waypoint}"
            turn = (place.transform.rotation.yaw - waypoint.transform.rotation.yaw + 180) % 360 - 180
            assert abs(turn) < 40, f"a bend of {turn:.0f} degrees within 2 m at {waypoint}"


@pytest.mark.parametrize("name", shipped())
def test_no_kink_at_any_joint(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    for waypoint in town.generate_waypoints(1.0):
        for place in waypoint.next(0.5):
            turn = (place.transform.rotation.yaw - waypoint.transform.rotation.yaw + 180) % 360 - 180
            assert abs(turn) < 12, f"a kink of {turn:.0f} degrees at {waypoint}"


@pytest.mark.parametrize("name", shipped())
def test_stop_and_yield_signs_stand_where_a_street_meets_another(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    starts = [w for w in town.generate_waypoints(15.0) if not w.is_junction]
    for kind in ("205", "206"):
        ahead = {mark.id: mark for w in starts for mark in w.get_landmarks_of_type(16.0, kind, False)}
        assert set(ahead) == {mark.id for mark in town.get_all_landmarks_of_type(kind)} != set()
        for mark in ahead.values():
            assert any(w.is_junction for w in mark.waypoint.next(4.0)), f"sign {mark.id} stands before no junction"
            assert mark.waypoint.transform.location.distance(mark.transform.location) < 12.0


@pytest.mark.parametrize("name", shipped())
def test_lines_are_white_and_yellow_solid_and_broken(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    marks = {(m.type, m.color) for w in town.generate_waypoints(10.0) for m in (w.left_lane_marking, w.right_lane_marking)}
    kind, colour = carla.LaneMarkingType, carla.LaneMarkingColor
    assert {(kind.Solid, colour.White), (kind.Broken, colour.Yellow), (kind.SolidSolid, colour.Yellow)} <= marks


@pytest.mark.parametrize("name", shipped())
def test_nobody_changes_lanes_just_before_a_junction(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    before, between = 0, 0
    for waypoint in town.generate_waypoints(5.0):
        for side, way in (
            (waypoint.get_left_lane(), carla.LaneChange.Left),
            (waypoint.get_right_lane(), carla.LaneChange.Right),
        ):
            beside = side is not None and side.lane_type == carla.LaneType.Driving and side.lane_id * waypoint.lane_id > 0
            if waypoint.is_junction or not beside:
                continue
            allowed = bool(waypoint.lane_change & way)
            if any(ahead.is_junction for ahead in waypoint.next(25.0)):
                before += 1
                assert not allowed, f"the line is broken at {waypoint}"
            elif not any(ahead.is_junction for ahead in waypoint.next(35.0)):
                between += allowed
    assert before > 10
    assert between > 10


@pytest.mark.parametrize("name", shipped())
def test_oncoming_lane_is_a_left_neighbour_behind_a_centre_line(name: str) -> None:
    town = carla.Map(name, maps.load(name))
    inner = [w for w in town.generate_waypoints(15.0) if not w.is_junction and abs(w.lane_id) == 1]
    two_way = [w for w in inner if w.get_left_lane() is not None]
    assert len(two_way) > 0.95 * len(inner)  # a roundabout's ring has no oncoming lane
    for waypoint in two_way:
        other = waypoint.get_left_lane()
        assert other.lane_id == -waypoint.lane_id
        facing = math.cos(math.radians(other.transform.rotation.yaw - waypoint.transform.rotation.yaw))
        assert facing < -0.9
        assert waypoint.left_lane_marking.type != carla.LaneMarkingType.NONE
        assert waypoint.right_lane_marking.type != carla.LaneMarkingType.NONE


@pytest.mark.parametrize("name", shipped())
def test_each_light_has_its_own_turn_in_its_junction(name: str) -> None:
    drive = opendrive.parse(maps.load(name))
    town = carla.Map(name, maps.load(name))
    lights = {mark.id for mark in town.get_all_landmarks_of_type("1000001")}
    assert lights
    assert set(drive.controllers) == lights
    for junction in {group for group, _ in drive.controllers.values()}:
        turns = [turn for group, turn in drive.controllers.values() if group == junction]
        assert len(turns) >= 3
        assert len(set(turns)) == len(turns)


def test_training_and_held_out_towns_differ_in_shape() -> None:
    def straight(name: str) -> float:
        """Share of the streets that run along an axis."""
        waypoints = [w for w in carla.Map(name, maps.load(name)).generate_waypoints(10.0) if not w.is_junction]
        turned = [abs((w.transform.rotation.yaw + 45) % 90 - 45) for w in waypoints]
        return sum(angle < 3 for angle in turned) / len(turned)

    assert min(straight("Grid01"), straight("Grid02")) > 0.75
    assert max(straight("Crooked01"), straight("Ring01")) < 0.25


def test_maps_are_what_the_script_writes() -> None:
    if shutil.which("netconvert") is None and not (Path(make_maps.sys.executable).parent / "netconvert").exists():
        pytest.skip("needs SUMO's netconvert: pip install eclipse-sumo")
    text = make_maps.make_map(PLANS["Grid01"](), "Grid01")
    roads = opendrive.parse(text).lanes
    assert [lane.lane for lane in roads] == [lane.lane for lane in opendrive.parse(maps.load("Grid01")).lanes]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('length="', 'length="-', 1), "length"),
        (lambda t: "<!DOCTYPE x [<!ENTITY a 'b'>]>" + t, "entities"),
        (lambda t: t[:5000], "not an XML file"),
        (lambda t: t.replace('type="driving"', 'type="none"'), "no driving lane"),
        (lambda t: t.replace(' x="', ' x="nan', 1), "finite"),
        (lambda _: "<html/>", "OpenDRIVE"),
    ],
)
def test_broken_files_are_refused_before_carla_sees_them(change, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(opendrive.MapError, match=message):
        opendrive.parse(change(maps.load("Grid01")))
