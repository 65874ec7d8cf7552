"""Traffic-light cycles and trigger boxes."""

import math

import numpy as np
import pytest

from roadworthy.agent.town.held_green import HeldGreen
from roadworthy.agent.town.lights import BOX_AFTER_M, BOX_BEFORE_M, GREEN_S, RED_S, YELLOW_S, TrafficLights, trigger_box
from roadworthy.agent.town.protocol import LightState
from roadworthy.agent.town.signals import Signal, StopLine


def light(name: str, yaw: float, sequence: int, group: int = 5) -> Signal:
    heading = math.radians(yaw)
    x, y = -10 * math.cos(heading), -10 * math.sin(heading)
    stop = StopLine(x, y, 0.0, yaw, 1.75, 1, -1, 50.0)
    return Signal(name, "light", x - 4 * math.sin(heading), y + 4 * math.cos(heading), 0.0, yaw, -1.0, (stop,), group, sequence)


CROSSING = [light("north", -90.0, 0), light("south", 90.0, 0), light("east", 0.0, 1), light("west", 180.0, 1)]


def test_turns_and_pauses() -> None:
    lights = TrafficLights(CROSSING, seed=0)
    assert len(lights.groups) == 1
    lights.groups[0].start(0, 0.0)
    history = []
    for _ in range(round(10 * 2 * (GREEN_S + YELLOW_S + RED_S))):
        history.append([member.state for member in lights.lights])
        lights.step(0.1)
    shares = {state: sum(row[0] == state for row in history) / len(history) for state in LightState}
    cycle = 2 * (GREEN_S + YELLOW_S + RED_S)
    assert shares[LightState.GREEN] == pytest.approx(GREEN_S / cycle, abs=0.01)
    assert shares[LightState.YELLOW] == pytest.approx(YELLOW_S / cycle, abs=0.01)
    for north, south, east, west in history:
        assert north == south
        assert east == west
        assert LightState.RED in (north, east), "crossing traffic never goes together"


def test_set_times_freeze_and_reset() -> None:
    lights = TrafficLights(CROSSING, seed=0)
    lights.groups[0].start(0, 0.0)
    for member in lights.lights[:2]:
        member.green = 30.0
    lights.step(25.0)
    assert lights.lights[0].state == LightState.GREEN
    lights.frozen = True
    lights.step(1000.0)
    assert lights.lights[0].state == LightState.GREEN
    lights.frozen = False
    lights.step(6.0)
    assert lights.lights[0].state == LightState.YELLOW
    first = [member.state for member in TrafficLights(CROSSING, seed=4).lights]
    again = TrafficLights(CROSSING, seed=4)
    again.step(7.0)
    again.reset()
    assert [member.state for member in again.lights] == first


def test_who_stands_at_which_light() -> None:
    lights = TrafficLights(CROSSING, seed=0)
    east = 2
    fronts = np.array([[-10 - BOX_BEFORE_M + 0.1, 0], [-10 + BOX_AFTER_M - 0.1, 0], [-9, 0], [-12, 3], [-12, 0]], float)
    headings = np.radians([0.0, 3.0, 0.0, 0.0, 180.0])
    assert lights.at_light(fronts, headings).tolist() == [east, east, -1, -1, -1]
    assert TrafficLights([], seed=0).at_light(fronts, headings).tolist() == [-1] * 5


def test_the_box_lies_across_the_lane() -> None:
    for member in TrafficLights(CROSSING, seed=0).lights:
        centre, extent = member.trigger_box()
        x, y, _, _, yaw, _ = member.pose
        cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
        place = (x + cos * centre[0] - sin * centre[1], y + sin * centre[0] + cos * centre[1])
        stop = member.signal.stop
        assert stop is not None
        back = (BOX_BEFORE_M - BOX_AFTER_M) / 2
        lane = math.radians(stop.yaw)
        assert place == pytest.approx((stop.x - back * math.cos(lane), stop.y - back * math.sin(lane)))
        across = (cos, sin)
        assert abs(across[0] * math.cos(lane) + across[1] * math.sin(lane)) < 1e-6
        assert extent[0] < stop.half_width


def test_speed_signs() -> None:
    sign = Signal("s", "speed", 0.0, 3.0, 0.0, 0.0, 50.0, (), -1, 0)
    lights = TrafficLights([sign], seed=0)
    limits = lights.limits(np.array([[0.0, 0.0], [0.0, 0.0], [40.0, 0.0], [0.0, 6.0]]), np.radians([0.0, 180.0, 0.0, 0.0]))
    assert limits[0] == 50.0
    assert np.isnan(limits[1:]).all()


def test_signs_are_felt_before_their_line_by_who_goes_their_way() -> None:
    sign = Signal("s", "stop", 3.0, 4.0, 0.0, 0.0, -1.0, (StopLine(0.0, 0.0, 0.0, 0.0, 1.75, 1, -1, 50.0),), -1, 0)
    lights = TrafficLights([sign], seed=0)
    assert lights.lights == []
    fronts = np.array([(-3.0, 0.5), (-20.0, 0.0), (5.0, 0.0), (-3.0, 3.0), (-3.0, 0.0)])
    headings = np.array([0.0, 0.0, 0.0, 0.0, math.pi])
    assert lights.at_sign(fronts, headings).tolist() == [True, False, False, False, False]
    assert TrafficLights(CROSSING, seed=0).at_sign(fronts, headings).tolist() == [False] * 5


@pytest.mark.parametrize("yaw", [0.0, 35.0, 90.0, -120.0])
def test_a_sign_s_trigger_box_lies_over_its_lane_before_the_line(yaw: float) -> None:
    stop = StopLine(10.0, -4.0, 0.0, yaw, 1.75, 1, -1, 50.0)
    sign = Signal("s", "yield", 12.0, 1.0, 0.0, yaw, -1.0, (stop,), -1, 0)
    for turned in (yaw, yaw + 90.0):
        (x, y, _), (half_x, half_y, _) = trigger_box(sign, turned)
        angle = math.radians(turned)
        world = (12.0 + x * math.cos(angle) - y * math.sin(angle), 1.0 + x * math.sin(angle) + y * math.cos(angle))
        back = (BOX_BEFORE_M - BOX_AFTER_M) / 2
        lane = math.radians(yaw)
        assert world == pytest.approx((10.0 - back * math.cos(lane), -4.0 - back * math.sin(lane)))
        assert {round(half_x, 6), round(half_y, 6)} == {1.55, (BOX_BEFORE_M + BOX_AFTER_M) / 2}
        assert (half_x > half_y) == (turned == yaw), "the long side lies along the lane"


def told(held: HeldGreen, at_light: bool, green: bool, speed: float, slot: int = 3) -> bool:
    """Whether the car in `slot` is to be at no light."""
    free = held.let_go(np.array([slot]), np.array([at_light]), np.array([green]), np.array([speed]))
    return bool(free[0])


def test_a_green_that_a_car_has_waited_through_ends_for_it() -> None:
    """What the Traffic Manager makes of it: green while at the light, once seen (LibCarla's own rule)."""
    held, manager, history = HeldGreen(), "none", []
    for tick in range(40):
        green = tick < 20
        at_light = not told(held, True, green, 3.0 if tick < 10 else 0.0)
        seen = "none" if not at_light else "green" if green or manager == "green" else "red"
        manager = seen
        history.append(manager)
    assert history[:20] == ["green"] * 20
    assert history[20] == "none"
    assert history[21:] == ["red"] * 19


def test_a_car_that_drives_on_keeps_its_green() -> None:
    held = HeldGreen()
    assert not told(held, True, True, 5.0)
    assert not any(told(held, True, False, 5.0) for _ in range(5))
    assert not told(held, False, True, 5.0)
    assert not told(held, True, False, 0.0), "it came when the light was red: there is no green to end"
    assert not told(held, True, True, 0.0, slot=700)
    assert told(held, True, False, 0.0, slot=700)
