"""The vehicle and walker models against what their docstrings and plain mechanics say."""

import math

import numpy as np
import pytest

from roadworthy.agent.town.blueprints import BLUEPRINTS
from roadworthy.agent.town.bodies import FRONT, MASS, REAR, Bodies, Kind
from roadworthy.agent.town.boxes import StaticBoxes
from roadworthy.agent.town.collisions import advance
from roadworthy.agent.town.footing import GRAVITY
from roadworthy.agent.town.physics import BRAKE_GRIP, DRY, Grip, grip_of, set_model

NOTHING = StaticBoxes.build(np.zeros((0, 6)))
CATALOGUE = {blueprint.id: blueprint for blueprint in BLUEPRINTS}
VEHICLES = [blueprint.id for blueprint in BLUEPRINTS if blueprint.drive]


def new_car(bodies: Bodies, type_id: str = "vehicle.lincoln.mkz_2020", speed: float = 0.0) -> int:
    slot, blueprint = bodies.take(), CATALOGUE[type_id]
    assert blueprint.drive
    bodies.kind[slot], bodies.simulated[slot] = Kind.VEHICLE, True
    set_model(bodies, slot, blueprint.drive, *blueprint.size_m[:2])
    bodies.ground[slot] = (0.0, 1.0, 0.0)
    bodies.velocity[slot, 0] = speed
    return slot


def drive(bodies: Bodies, slot: int, seconds: float, step: float = 0.05, grip: Grip = DRY) -> None:
    for _ in range(round(seconds / step)):
        advance(bodies, np.array([slot]), step, grip, NOTHING)


def test_a_parked_car_stays_where_it_is() -> None:
    bodies = Bodies()
    car = new_car(bodies)
    drive(bodies, car, 10.0)
    assert np.abs(bodies.pose[car, :3]).max() == 0.0
    assert np.abs(bodies.velocity[car]).max() == 0.0


def test_free_fall_is_gravity() -> None:
    bodies = Bodies()
    car = new_car(bodies)
    bodies.pose[car, 2] = 50.0
    drive(bodies, car, 1.0)
    assert bodies.velocity[car, 2] == pytest.approx(-GRAVITY, rel=1e-6)
    assert bodies.pose[car, 2] == pytest.approx(50.0 - GRAVITY / 2, abs=0.15)


@pytest.mark.parametrize("type_id", VEHICLES)
def test_every_vehicle_drives_and_stops(type_id: str) -> None:
    bodies = Bodies()
    car = new_car(bodies, type_id)
    bodies.control[car, 0] = 1.0
    drive(bodies, car, 6.0)
    fast = bodies.velocity[car, 0]
    assert 4.0 < fast < 25.0
    before = bodies.pose[car, 0]
    bodies.control[car, :3] = (0.0, 0.0, 1.0)
    drive(bodies, car, 5.0)
    assert bodies.velocity[car, 0] == 0.0
    assert 5.0 < fast**2 / 2 / (bodies.pose[car, 0] - before) < BRAKE_GRIP * GRAVITY + 0.2


def test_turning_radius_is_the_geometry_at_low_speed() -> None:
    bodies = Bodies()
    car = new_car(bodies, speed=2.0)
    bodies.control[car, 1] = 0.3
    for _ in range(200):
        speed = math.hypot(*bodies.velocity[car, :2])
        bodies.control[car, 0] = min(max((2.0 - speed) * 2.0 + 0.15, 0.0), 1.0)
        drive(bodies, car, 0.05)
    angle = bodies.drive[car, 0]
    radius = math.hypot(*bodies.velocity[car, :2]) / math.radians(bodies.spin[car, 2])
    wheelbase = bodies.model[car, FRONT] + bodies.model[car, REAR]
    expected = math.hypot(wheelbase / math.tan(angle), bodies.model[car, REAR])  # of the centre of mass
    assert radius == pytest.approx(expected, rel=0.05)


def test_cornering_never_beats_the_tyres() -> None:
    for grip in (DRY, grip_of(100.0, 0.0)):
        bodies = Bodies()
        car = new_car(bodies, speed=20.0)
        bodies.control[car, 1] = 1.0
        worst = 0.0
        for _ in range(60):
            drive(bodies, car, 0.05, grip=grip)
            worst = max(worst, math.hypot(*bodies.acceleration[car, :2]))
        assert worst < 1.25 * grip.side * GRAVITY, "both axles together pull no harder than friction allows, but for the lag"
        assert np.isfinite(bodies.pose[car]).all()


def test_wet_roads_and_grass_hold_less() -> None:
    assert grip_of(0, 0) == DRY > grip_of(50, 0) > grip_of(100, 0) == grip_of(0, 100)
    distance = {}
    for name, grip, ground in (("dry", DRY, 1.0), ("wet", grip_of(100, 0), 1.0), ("grass", DRY, 0.6)):
        bodies = Bodies()
        car = new_car(bodies, speed=14.0)
        bodies.ground[car] = (0.0, ground, 0.0)
        bodies.control[car, 2] = 1.0
        drive(bodies, car, 6.0, grip=grip)
        distance[name] = bodies.pose[car, 0]
    assert distance["dry"] < 0.8 * distance["wet"]
    assert distance["dry"] < 0.7 * distance["grass"]


def test_steps_of_any_length_agree() -> None:
    ends = []
    for step in (0.02, 0.05, 0.1):
        bodies = Bodies()
        car = new_car(bodies, speed=8.0)
        bodies.control[car, :2] = (0.4, 0.15)
        drive(bodies, car, 4.0, step)
        ends.append(bodies.pose[car].copy())
    assert math.dist(ends[0][:2], ends[2][:2]) < 0.3
    assert math.dist(ends[0][:2], ends[1][:2]) < 0.3


def test_same_inputs_same_bits() -> None:
    ends = []
    for _ in range(2):
        bodies, dice = Bodies(), np.random.default_rng(3)
        cars = [new_car(bodies, type_id) for type_id in VEHICLES]
        for _ in range(100):
            bodies.control[cars, :3] = dice.uniform((0, -1, 0), (1, 1, 0.3), (len(cars), 3))
            advance(bodies, np.array(cars), 0.1, DRY, NOTHING)
        ends.append(bodies.pose.tobytes() + bodies.velocity.tobytes())
    assert ends[0] == ends[1]


def test_wild_controls_stay_finite() -> None:
    bodies, dice = Bodies(), np.random.default_rng(5)
    cars = [new_car(bodies, type_id, 40.0) for type_id in VEHICLES]
    bodies.velocity[cars, 1] = 30.0
    bodies.spin[cars, 2] = 900.0
    for _ in range(300):
        bodies.control[cars, :5] = dice.uniform((0, -1, 0, 0, -1), (1, 1, 1, 1, 1), (len(cars), 5))
        advance(bodies, np.array(cars), 0.1, DRY, NOTHING)
        assert np.isfinite(bodies.pose).all()
    assert np.abs(bodies.velocity[cars]).max() < 60.0


def test_a_walker_reaches_its_speed_and_turns_to_where_it_goes() -> None:
    bodies = Bodies()
    slot = bodies.take()
    bodies.kind[slot], bodies.simulated[slot] = Kind.WALKER, True
    bodies.model[slot, MASS] = 70.0
    bodies.ground[slot] = (0.0, 1.0, 0.0)
    bodies.control[slot, :4] = (0.0, 1.0, 0.0, 1.4)
    drive(bodies, slot, 3.0)
    assert bodies.velocity[slot, :2] == pytest.approx((0.0, 1.4), abs=1e-6)
    assert bodies.pose[slot, 4] == pytest.approx(90.0, abs=0.1)
    assert bodies.pose[slot, 1] == pytest.approx(1.4 * 3.0, abs=0.2)
