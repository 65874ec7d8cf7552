"""The traffic and walker checks: their counting on made-up traffic, and short runs against the town."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import carla
import numpy as np
import pytest
import shapely

from roadworthy.scripts.check_traffic import Cars, StopLines, Touches
from roadworthy.scripts.check_walkers import Crossings

STEP_S = 0.1


class Lamp:
    """A traffic light over one lane that leads along +x and stops at the origin."""

    def __init__(self, state: carla.TrafficLightState) -> None:
        self.state = state

    def get_state(self) -> carla.TrafficLightState:
        return self.state

    def get_stop_waypoints(self) -> list[Any]:
        return [SimpleNamespace(transform=carla.Transform(), lane_width=3.5)]


def test_only_a_bumper_that_passes_a_red_line_its_own_way_has_run_it() -> None:
    lamp = Lamp(carla.TrafficLightState.Red)
    lines = StopLines([lamp])
    bumper, passed = np.array([[1.5, 0.3]]), np.array([[2.5, 0.3]])
    ahead, back = np.array([0.0]), np.array([math.pi])
    lines.step(STEP_S)
    assert lines.run(bumper, passed, ahead) == 0, "it has only just turned red"
    for _ in range(10):
        lines.step(STEP_S)
    assert lines.run(bumper, passed, ahead) == 1
    assert lines.run(passed, bumper, ahead) == 0
    assert lines.run(bumper, passed, back) == 0
    assert lines.run(np.add(bumper, (0, 3.0)), np.add(passed, (0, 3.0)), ahead) == 0, "the next lane"
    lamp.state = carla.TrafficLightState.Green
    lines.step(STEP_S)
    assert lines.run(bumper, passed, ahead) == 0


def test_who_queues_behind_a_red_light_is_not_locked_up_but_everybody_else_is() -> None:
    box = SimpleNamespace(extent=SimpleNamespace(x=2.0, y=1.0))
    cars = Cars(None, [SimpleNamespace(bounding_box=box) for _ in range(4)])
    cars.pose[:] = [(0, 0, 0), (-6, 0, 0), (-12, 0, 0), (50, 0, 0)]  # three in a queue, one elsewhere
    cars.at_red[0] = True
    for _ in range(100):
        waited = cars.wait(STEP_S)
    assert waited == pytest.approx([0.0, 0.0, 0.0, 10.0])
    cars.at_red[0] = False
    assert cars.wait(STEP_S) == pytest.approx([STEP_S, STEP_S, STEP_S, 10.0 + STEP_S])
    cars.speed[3] = 5.0
    assert cars.wait(STEP_S)[3] == 0.0


class Sensor:
    """Hands events to whoever listens."""

    def listen(self, callback: Callable[[Any], None]) -> None:
        self.feel = callback


def test_a_pair_that_touches_counts_once_whoever_feels_it() -> None:
    box = SimpleNamespace(extent=SimpleNamespace(x=2.0, y=1.0))
    cars = Cars(None, [SimpleNamespace(bounding_box=box, id=10 + k, type_id=f"car{k}") for k in range(2)])
    cars.pose[:] = [(5, 6, 0), (9, 6, 0)]
    library = SimpleNamespace(find=lambda _: None)
    world = SimpleNamespace(get_blueprint_library=lambda: library)
    touches = Touches(SimpleNamespace(world=world, spawn=lambda *_, **__: Sensor()), cars)
    first, second = touches.sensors
    hit = SimpleNamespace(other_actor=cars.cars[1], normal_impulse=carla.Vector3D(3000.0, 4000.0, 0.0))
    back = SimpleNamespace(other_actor=cars.cars[0], normal_impulse=carla.Vector3D(-3000.0, -4000.0, 0.0))
    pole = SimpleNamespace(other_actor=SimpleNamespace(id=0, type_id="static.pole"), normal_impulse=carla.Vector3D())
    first.feel(hit)
    second.feel(back)
    second.feel(pole)
    speeds = np.array([4.0, 1.0])
    (pair, with_car), (scenery, alone) = touches.new(7.0, speeds)
    assert (pair.first, pair.second, pair.speeds_mps, pair.impulse_ns) == ("car0", "car1", (4.0, 1.0), 5000.0)
    assert pair.place_m == (5.0, 6.0)
    assert (with_car, alone, scenery.second) == (True, False, "static.pole")
    first.feel(hit)
    assert touches.new(12.0, speeds) == [], "the same contact"
    first.feel(hit)
    assert len(touches.new(30.0, speeds)) == 1


def test_a_step_onto_a_crossing_counts_and_one_before_moving_cars_counts_twice() -> None:
    lamp = Lamp(carla.TrafficLightState.Red)
    crossings = Crossings(shapely.box(0, 0, 4, 10), [lamp])
    assert crossings.step(np.array([[-1.0, 5.0]]), STEP_S) == (0, 0)
    assert crossings.step(np.array([[1.0, 5.0]]), STEP_S) == (1, 0)
    assert crossings.step(np.array([[2.0, 5.0]]), STEP_S) == (0, 0)
    lamp.state = carla.TrafficLightState.Green
    for _ in range(30):
        crossings.step(np.array([[-1.0, 5.0]]), STEP_S)
    assert crossings.step(np.array([[1.0, 5.0]]), STEP_S) == (1, 1)


def run(script: str, folder: Path, *options: str) -> dict[str, Any]:
    path = folder / "report.json"
    command = [sys.executable, "-m", f"roadworthy.scripts.{script}", *options, "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert path.exists(), done.stderr[-2000:]
    report: dict[str, Any] = json.loads(path.read_text())
    assert json.loads(done.stdout) == report
    return report


def test_cars_drive_in_a_held_out_town(tmp_path: Path) -> None:
    report = run(
        "check_traffic", tmp_path, "--map", "Ring01", "--cars", "12", "--minutes", "1.4", "--seed", "5", "--stopping-ego"
    )
    assert report["cars"] == 13
    assert report["ego_stops"] == 2
    assert report["mean_speed_mps"] > 2.0
    assert not report["deadlocks"] + report["removed"] + report["car_contacts"]
    assert report["red_lights_run"] == 0


def test_people_walk_in_a_held_out_town(tmp_path: Path) -> None:
    report = run("check_walkers", tmp_path, "--map", "Crooked01", "--walkers", "20", "--minutes", "0.75", "--seed", "5")
    assert report["walkers"] == 20
    assert report["mean_share"] > 0.8
    assert report["off_mesh_m"] < 0.1
    assert report["gone"] == 0
