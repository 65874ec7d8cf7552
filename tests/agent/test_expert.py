"""The expert on a kinematic car, on the town's map, without a server."""

import math
from dataclasses import replace

import numpy as np
import pytest

from roadworthy.agent.carla_client import carla
from roadworthy.agent.expert import CarModel, Expert, Situation, SteeringNoise
from roadworthy.agent.routes import Route, make_routes
from roadworthy.agent.town import maps

NOBODY = np.zeros((0, 7))
CAR = CarModel()


@pytest.fixture(scope="module")
def town_map() -> carla.Map:
    return carla.Map("Grid01", maps.load("Grid01"))


def drive(route: Route, others: np.ndarray = NOBODY, steps: int = 400, **changes: float) -> list[Situation]:
    """Drive a bicycle model along `route`, 0.1 s a step, and return where it was."""
    expert = Expert(route, CAR)
    start = route.start
    now = Situation(start.location.x, start.location.y, start.rotation.yaw, 0.0, 0.0, others)
    now = replace(now, **changes)
    trace = [now]
    for _ in range(steps):
        steer, throttle, brake = (float(v) for v in expert.act(now))
        speed = max(0.0, now.speed_mps + 0.1 * (3.5 * throttle - 8.0 * brake - 0.3))
        wheel = math.radians(steer * CAR.max_steer_deg)
        yaw = math.radians(now.yaw_deg) + 0.1 * speed * math.tan(wheel) / CAR.wheelbase_m
        x, y = now.x + 0.1 * speed * math.cos(yaw), now.y + 0.1 * speed * math.sin(yaw)
        progress = route.progress(carla.Location(x, y, 0.0), now.along_m)
        now = replace(now, x=x, y=y, yaw_deg=math.degrees(yaw), speed_mps=speed, along_m=progress.along_m)
        trace.append(now)
        if progress.along_m > route.length_m - 1.0:
            break
    return trace


def aside(route: Route, now: Situation) -> float:
    return abs(route.progress(carla.Location(now.x, now.y, 0.0), now.along_m).lateral_m)


def ahead_of(route: Route, along_m: float, right_m: float = 0.0) -> np.ndarray:
    """Somebody who stands on the route."""
    place = route.transform_at(along_m)
    side = place.get_right_vector()
    yaw = math.radians(place.rotation.yaw)
    return np.array([[place.location.x + right_m * side.x, place.location.y + right_m * side.y, 0, 0, yaw, 2.4, 1.0]])


def test_it_keeps_the_lane_and_slows_for_turns(town_map: carla.Map) -> None:
    for route in make_routes(town_map, 0, 6, "one-turn"):
        trace = drive(route, steps=900)
        assert trace[-1].along_m > route.length_m - 1.5
        assert max(aside(route, now) for now in trace) < 1.0
        speeds = [now.speed_mps for now in trace[20:]]
        assert max(speeds) < 7.6
        assert min(speeds) < 6.0


def test_it_comes_back_from_beside_the_lane(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    place = route.transform_at(5.0)
    side = place.get_right_vector()
    trace = drive(route, x=place.location.x + 1.2 * side.x, y=place.location.y + 1.2 * side.y, along_m=5.0, speed_mps=5.0)
    assert aside(route, trace[0]) > 1.1
    assert aside(route, trace[40]) < 0.3


def test_it_stops_behind_whoever_stands_in_the_way(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    last = drive(route, ahead_of(route, 40.0))[-1]
    gap = 40.0 - last.along_m - 2 * 2.4
    assert last.speed_mps == 0.0
    assert 1.0 < gap < 6.0


def test_it_passes_whoever_stands_beside_the_lane(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    assert drive(route, ahead_of(route, 40.0, right_m=4.5))[-1].along_m > 60.0


def test_it_stops_for_somebody_who_is_about_to_cross(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    walker = ahead_of(route, 9.0, right_m=3.0)
    side = route.transform_at(9.0).get_right_vector()
    walker[0, 2:4] = (-2.0 * side.x, -2.0 * side.y)
    walker[0, 5:] = 0.2
    expert, start = Expert(route, CAR), route.start
    now = Situation(start.location.x, start.location.y, start.rotation.yaw, 6.0, 0.0, walker)
    assert expert.act(now)[2] > 0.2
    assert expert.act(replace(now, others=NOBODY))[2] == 0.0


def test_it_stops_at_a_red_light_and_goes_when_it_is_over_the_line(town_map: carla.Map) -> None:
    route = make_routes(town_map, 1, 1, "straight")[0]
    last = drive(route, stop_at_m=50.0)[-1]
    assert last.speed_mps == 0.0
    assert 46.0 < last.along_m + CAR.half_length_m < 50.5
    assert drive(route, stop_at_m=1.0, along_m=3.0)[-1].along_m > 40.0


def test_noise_comes_in_bursts_of_the_wanted_share() -> None:
    noise = SteeringNoise(np.random.default_rng(0), share=0.3, amplitude=0.2)
    values = np.array([noise() for _ in range(20_000)])
    assert np.mean(values != 0.0) == pytest.approx(0.28, abs=0.06)
    assert 0.15 < np.abs(values).max() <= 0.2
    assert abs(values.mean()) < 0.01
    assert np.abs(np.diff(values)).max() < 0.08  # triangles, not steps
