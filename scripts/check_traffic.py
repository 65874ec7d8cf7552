"""Watch CARLA's Traffic Manager drive a town, and count what goes wrong. Prints JSON.

    python -m roadworthy.scripts.check_traffic                                 # 30 cars, 10 simulated minutes on Grid01
    python -m roadworthy.scripts.check_traffic --map Town01.xodr --minutes 3 --seed 7 --output traffic.json

What is counted, through the client alone:

- deadlocks: a car that has stood for over a minute, not counting the time at a red light or behind one that stands there
  (where they stood is listed; after 90 s the Traffic Manager removes such a car from the world);
- contacts: pairs that touched (collision sensors; a pair again after 10 s), and cars that touched the scenery;
- red lights run: front bumpers that pass a stop line whose light has been red for half a second or more;
- the mean speed of all cars.

With `--stopping-ego` one more car drives along and every 40 s stops dead for 10 s, where the others do not expect it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.carla_client import carla
from roadworthy.agent.session import Session
from roadworthy.agent.traffic import Traffic

STEP_S = 0.05
STANDING_MPS = 0.1
DEADLOCK_S = 60.0
QUEUE_GAP_M = 8.0  # [m] between bumpers up to which a standing car is taken to wait for the standing car ahead
AGAIN_S = 10.0  # a pair that touches again sooner is the same contact
RED_FOR_S = 0.5  # a light that has just turned red is no light run
EGO_PERIOD_S, EGO_STOP_S = 40.0, 10.0


@dataclass(frozen=True)
class Contact:
    """One pair that touched."""

    time_s: float
    first: str  # type ids
    second: str
    place_m: tuple[float, float]
    speeds_mps: tuple[float, float]  # just before, of the first and the second
    impulse_ns: float


@dataclass(frozen=True)
class Standstill:
    """One car that stood for too long."""

    time_s: float
    car: str  # type id
    place_m: tuple[float, float]
    heading_deg: float


@dataclass
class TrafficReport:
    """What happened to the cars; the fields are the JSON's."""

    map: str
    seed: int
    cars: int
    simulated_s: float
    mean_speed_mps: float = 0.0
    distance_km: float = 0.0
    deadlocks: list[Standstill] = field(default_factory=list)
    removed: list[Standstill] = field(default_factory=list)  # cars that the Traffic Manager gave up and destroyed
    longest_standing_s: float = 0.0  # without the time in front of red lights
    longest_stop_s: float = 0.0  # with it
    red_lights_met: int = 0  # cars that stopped at one
    red_lights_run: int = 0
    ego_stops: int = 0  # of the stopping ego: how often it stood when its stop ended
    car_contacts: list[Contact] = field(default_factory=list)
    scenery_contacts: list[Contact] = field(default_factory=list)
    wall_s: float = 0.0


class StopLines:
    """Every lane that a traffic light commands: where it has to be obeyed, and whether it is red."""

    def __init__(self, lights: list[carla.TrafficLight]) -> None:
        lines = [(k, w) for k, light in enumerate(lights) for w in light.get_stop_waypoints()]
        self._lights = lights
        self._owner = np.array([k for k, _ in lines], np.int64)  # [L]
        place = [(w.transform.location.x, w.transform.location.y, math.radians(w.transform.rotation.yaw)) for _, w in lines]
        self._place = np.array(place).reshape(-1, 3)  # [L, 3] x, y, heading
        self._half = np.array([w.lane_width / 2 for _, w in lines])
        self._red_s = np.zeros(len(lights))

    def step(self, seconds: float) -> None:
        """Read the lights' states after a tick."""
        red = np.array([light.get_state() == carla.TrafficLightState.Red for light in self._lights], bool)
        self._red_s = np.where(red, self._red_s + seconds, 0.0)

    def run(self, before: NDArray[np.float64], after: NDArray[np.float64], headings: NDArray[np.float64]) -> int:
        """Count the bumpers that passed a red line: `before`, `after` [V, 2] metres, `headings` [V] radians."""
        if not len(self._place):
            return 0
        cos, sin = np.cos(self._place[:, 2]), np.sin(self._place[:, 2])  # [L]

        def along(points: NDArray[np.float64]) -> NDArray[np.float64]:
            ahead: NDArray[np.float64] = (points[:, None, 0] - self._place[:, 0]) * cos
            ahead += (points[:, None, 1] - self._place[:, 1]) * sin
            return ahead  # [V, L]

        across = np.abs((after[:, None, 1] - self._place[:, 1]) * cos - (after[:, None, 0] - self._place[:, 0]) * sin)
        same_way = np.cos(headings[:, None] - self._place[:, 2]) > 0.5
        # The stop waypoints lie a car's nose before the painted line: what counts is entering the junction behind it.
        passed = (along(before) < 2.0) & (along(after) >= 2.0) & (across < self._half) & same_way
        return int((passed & (self._red_s[self._owner] >= RED_FOR_S)).sum())


class Cars:
    """The states of all cars, tick by tick."""

    def __init__(self, world: carla.World, cars: list[carla.Actor]) -> None:
        self._world, self.cars = world, cars
        self.half = np.array([[car.bounding_box.extent.x, car.bounding_box.extent.y] for car in cars])  # [V, 2]
        self.pose = np.zeros((len(cars), 3))  # x, y, heading [rad]
        self.speed = np.zeros(len(cars))
        self.waited_s = np.zeros(len(cars))
        self.at_red = np.zeros(len(cars), bool)
        self.alive = np.ones(len(cars), bool)
        self.stood_s = np.zeros(len(cars))

    def read(self) -> None:
        """Take the latest tick's states."""
        snapshot = self._world.get_snapshot()
        for k, car in enumerate(self.cars):
            state = snapshot.find(car.id) if self.alive[k] and car.is_alive else None
            if state is None:
                self.alive[k] = self.at_red[k] = False
                self.pose[k], self.speed[k] = (1e6, 1e6 * k, 0.0), 0.0
                continue
            transform, velocity = state.get_transform(), state.get_velocity()
            self.pose[k] = transform.location.x, transform.location.y, math.radians(transform.rotation.yaw)
            self.speed[k] = math.hypot(velocity.x, velocity.y)
            self.at_red[k] = car.is_at_traffic_light() and car.get_traffic_light_state() != carla.TrafficLightState.Green

    @property
    def bumpers(self) -> NDArray[np.float64]:
        """The middle of each front bumper `[V, 2]`."""
        heading = np.stack([np.cos(self.pose[:, 2]), np.sin(self.pose[:, 2])], 1)  # [V, 2]
        fronts: NDArray[np.float64] = self.pose[:, :2] + self.half[:, :1] * heading
        return fronts

    def wait(self, seconds: float) -> NDArray[np.float64]:
        """How long each car has stood without a red light at the head of its queue `[V]`, after `seconds` more."""
        standing = self.alive & (self.speed < STANDING_MPS)
        excused = standing & self.at_red
        bumper, middle = self.bumpers, self.pose[:, :2]
        apart = middle[None] - bumper[:, None]  # [V, V, 2]
        cos, sin = np.cos(self.pose[:, 2])[:, None], np.sin(self.pose[:, 2])[:, None]
        ahead = apart[..., 0] * cos + apart[..., 1] * sin
        beside = np.abs(apart[..., 1] * cos - apart[..., 0] * sin)
        reach = self.half[None, :, 0]
        behind = (ahead > 0.0) & (ahead < QUEUE_GAP_M + reach) & (beside < 2.0) & standing[:, None] & standing[None]  # [V, V]
        for _ in range(len(self.cars)):
            more = excused | (behind & excused[None]).any(1)
            if (more == excused).all():
                break
            excused = more
        self.stood_s = np.where(standing, self.stood_s + seconds, 0.0)
        self.waited_s = np.where(standing, self.waited_s + np.where(excused, 0.0, seconds), 0.0)
        return self.waited_s


class Touches:
    """Who touches whom, by a collision sensor on each car."""

    def __init__(self, session: Session, cars: Cars) -> None:
        self._cars = cars
        self._index = {car.id: k for k, car in enumerate(cars.cars)}
        self._events: list[tuple[int, carla.Actor | None, float]] = []  # car, the other, impulse [N s]
        self._last_s: dict[tuple[int, int], float] = {}
        blueprint = session.world.get_blueprint_library().find("sensor.other.collision")
        self.sensors: list[carla.Actor] = []
        for k, car in enumerate(cars.cars):
            sensor = session.spawn(blueprint, carla.Transform(), attach_to=car)
            assert sensor is not None
            sensor.listen(lambda event, k=k: self._events.append((k, event.other_actor, event.normal_impulse.length())))
            self.sensors.append(sensor)

    def new(self, now_s: float, speed_before: NDArray[np.float64]) -> list[tuple[Contact, bool]]:
        """The pairs that have touched since the last call, each with whether both are cars: `speed_before` [V] m/s."""
        found = []
        while self._events:
            k, other, impulse = self._events.pop(0)
            second = self._index.get(other.id, -1) if other is not None else -1
            key = (min(k, second), max(k, second))
            fresh = now_s - self._last_s.get(key, -math.inf) > AGAIN_S
            self._last_s[key] = now_s
            if fresh:
                x, y, _ = self._cars.pose[k].tolist()
                speeds = (round(float(speed_before[k]), 2), round(float(speed_before[second]), 2) if second >= 0 else 0.0)
                name = other.type_id if other is not None else "scenery"
                contact = Contact(
                    round(now_s, 2), self._cars.cars[k].type_id, name, (round(x, 1), round(y, 1)), speeds, round(impulse, 1)
                )
                found.append((contact, second >= 0))
        return found


def watch(session: Session, vehicles: int, seed: int, minutes: float, *, stopping_ego: bool = False) -> TrafficReport:
    """Let `vehicles` cars drive for `minutes` of simulated time."""
    began = time.monotonic()
    traffic = Traffic(session, vehicles=vehicles + stopping_ego, seed=seed)
    world = session.world
    cars = Cars(world, traffic.vehicles)
    report = TrafficReport(session.map_name, seed, len(cars.cars), minutes * 60.0)
    touches = Touches(session, cars)
    lines = StopLines(list(world.get_actors().filter("traffic.traffic_light*")))
    session.tick()
    cars.read()
    deadlocked, was_at_red = np.zeros(len(cars.cars), bool), np.zeros(len(cars.cars), bool)
    speeds = 0.0
    ticks = round(minutes * 60.0 / session.fixed_delta_s)
    for tick in range(ticks):
        now = tick * session.fixed_delta_s
        if stopping_ego:
            _stop_and_go(session, traffic, cars.cars[0], tick)
        before, speed_before, alive = cars.bumpers, cars.speed.copy(), cars.alive.copy()
        pose_before = cars.pose.copy()
        lines.step(session.fixed_delta_s)
        session.tick()
        cars.read()
        report.red_lights_run += lines.run(before, cars.bumpers, cars.pose[:, 2])
        waited = cars.wait(session.fixed_delta_s)
        stopped_at_red = cars.at_red & (cars.speed < STANDING_MPS)
        report.red_lights_met += int((stopped_at_red & ~was_at_red).sum())
        was_at_red = (was_at_red & cars.at_red) | stopped_at_red
        report.longest_standing_s = max(report.longest_standing_s, float(waited.max(initial=0.0)))
        report.longest_stop_s = max(report.longest_stop_s, float(cars.stood_s.max(initial=0.0)))
        for k in np.flatnonzero((waited > DEADLOCK_S) & ~deadlocked).tolist():
            report.deadlocks.append(_standstill(now, cars.cars[k], cars.pose[k]))
        report.removed += [_standstill(now, cars.cars[k], pose_before[k]) for k in np.flatnonzero(alive & ~cars.alive).tolist()]
        deadlocked = waited > DEADLOCK_S
        speeds += float(cars.speed[cars.alive].mean())
        if stopping_ego and (tick + 1) % round(EGO_PERIOD_S / session.fixed_delta_s) == 0:
            report.ego_stops += int(cars.speed[0] < STANDING_MPS)
        for contact, with_car in touches.new(now, speed_before):
            (report.car_contacts if with_car else report.scenery_contacts).append(contact)
    report.mean_speed_mps = round(speeds / ticks, 3)
    report.distance_km = round(speeds * session.fixed_delta_s * len(cars.cars) / 1000.0, 3)
    report.longest_standing_s, report.longest_stop_s = round(report.longest_standing_s, 2), round(report.longest_stop_s, 2)
    session.destroy(*touches.sensors)
    traffic.destroy()
    report.wall_s = round(time.monotonic() - began, 1)
    return report


def _standstill(now_s: float, car: carla.Actor, pose: NDArray[np.float64]) -> Standstill:
    x, y, heading = (float(value) for value in pose)
    return Standstill(round(now_s, 1), car.type_id, (round(x, 1), round(y, 1)), round(math.degrees(heading)))


def _stop_and_go(session: Session, traffic: Traffic, ego: carla.Actor, tick: int) -> None:
    """Take the ego from the Traffic Manager when its stop begins, and give it back when that ends."""
    period = round(EGO_PERIOD_S / session.fixed_delta_s)
    if tick % period == period - round(EGO_STOP_S / session.fixed_delta_s):
        traffic.release(ego)
        # As a command: `ego.apply_control` sends nothing when it was last called with the same control, whatever the
        # Traffic Manager has commanded since.
        session.client.apply_batch_sync([carla.command.ApplyVehicleControl(ego.id, carla.VehicleControl(brake=1.0))])
    elif tick and tick % period == 0:
        traffic.drive(ego)


def main(arguments: list[str] | None = None) -> int:
    """Run the check and print its report; exit status 1 when a limit of the town's is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", default="Grid01", help="a shipped town, or the path of an .xodr file")
    parser.add_argument("--carla", help="HOST:PORT of a running server instead of an embedded town")
    parser.add_argument("--cars", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stopping-ego", action="store_true", help="one more car that stops dead now and then")
    parser.add_argument("--output", type=Path, help="write the JSON there too")
    options = parser.parse_args(arguments)
    with Session.open(options.carla, map=options.map, seed=options.seed, fixed_delta_s=STEP_S) as session:
        report = watch(session, options.cars, options.seed, options.minutes, stopping_ego=options.stopping_ego)
    text = json.dumps(asdict(report), indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    if options.output:
        options.output.write_text(text + "\n")
    good = not report.deadlocks and not report.removed and len(report.car_contacts) <= 1 and report.red_lights_run == 0
    os._exit(0 if good else 1)  # the client may abort while a Traffic Manager's threads are taken down: the figures are out


if __name__ == "__main__":
    main()
