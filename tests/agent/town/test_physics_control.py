"""What a client writes into VehiclePhysicsControl changes how the car drives, and is read back as it was written."""

import copy
import math
from typing import Any

import numpy as np
import pytest

from roadworthy.agent.town import physics_control
from roadworthy.agent.town.blueprints import BLUEPRINTS
from roadworthy.agent.town.boxes import StaticBoxes
from roadworthy.agent.town.collisions import advance
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.physics import DRY
from roadworthy.agent.town.roster import Roster

NOTHING = StaticBoxes.build(np.zeros((0, 6)))
CATALOGUE = {blueprint.id: blueprint for blueprint in BLUEPRINTS}
MASS, DRAG, WHEELS, CURVE, TORQUE = 11, 12, 15, 14, 0  # fields of the control
FRICTION, STEER_ANGLE, BRAKE_TORQUE = 0, 2, 4  # fields of a wheel


def car(speed: float = 0.0, type_id: str = "vehicle.tesla.model3") -> tuple[Roster, Actor]:
    roster = Roster()
    actor = roster.add(type_id, [1, type_id, []], (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), CATALOGUE[type_id])
    roster.bodies.velocity[actor.slot, 0] = speed
    return roster, actor


def write(roster: Roster, actor: Actor, change: Any) -> None:
    control = copy.deepcopy(physics_control.read(actor))
    change(control)
    physics_control.apply(roster.bodies, actor, control)
    assert physics_control.read(actor) == control


def drive(roster: Roster, actor: Actor, seconds: float, throttle: float = 0.0, steer: float = 0.0, brake: float = 0.0) -> None:
    roster.bodies.control[actor.slot, :3] = throttle, steer, brake
    for _ in range(round(seconds / 0.05)):
        advance(roster.bodies, np.array([actor.slot]), 0.05, DRY, NOTHING)


def stopping_distance(change: Any) -> float:
    roster, actor = car(15.0)
    write(roster, actor, change)
    drive(roster, actor, 8.0, brake=1.0)
    return float(roster.bodies.pose[actor.slot, 0])


def set_wheels(field: int, value: float) -> Any:
    def change(control: Any) -> None:
        for wheel in control[WHEELS]:
            wheel[field] = value

    return change


def test_half_the_tyre_friction_brakes_twice_as_long_and_turns_wider() -> None:
    ordinary, slippery = stopping_distance(lambda _: None), stopping_distance(set_wheels(FRICTION, 3.5 / 2))
    assert 1.6 < slippery / ordinary < 2.2
    turned = []
    for friction in (3.5, 3.5 / 2):
        roster, actor = car(14.0)
        write(roster, actor, set_wheels(FRICTION, friction))
        drive(roster, actor, 1.0, throttle=0.3, steer=0.5)
        turned.append(roster.bodies.pose[actor.slot, 4])
    assert turned[1] < 0.75 * turned[0]


def test_a_heavier_car_accelerates_less_and_hits_harder() -> None:
    reached = []
    for factor in (1.0, 2.0):
        roster, actor = car()

        def heavier(control: Any, factor: float = factor) -> None:
            control[MASS] *= factor

        write(roster, actor, heavier)
        drive(roster, actor, 2.0, throttle=1.0)
        reached.append(roster.bodies.velocity[actor.slot, 0])
    assert reached[1] == pytest.approx(reached[0] / 2, rel=0.12)
    impulses = []
    for factor in (1.0, 2.0):
        roster, actor = car(10.0)

        def heavier_too(control: Any, factor: float = factor) -> None:
            control[MASS] *= factor

        write(roster, actor, heavier_too)
        wall = StaticBoxes.build(np.array([[6.0, 0.0, 0.0, 0.5, 5.0, 3.0]]))
        hits = []
        for _ in range(20):
            hits += advance(roster.bodies, np.array([actor.slot]), 0.05, DRY, wall)
        impulses.append(math.hypot(*hits[0].impulse_ns[:2]))
    assert impulses[1] == pytest.approx(2 * impulses[0], rel=0.05)


def test_steering_lock_brakes_engine_and_drag_follow() -> None:
    def yaw_rate(change: Any) -> float:
        roster, actor = car(4.0)
        write(roster, actor, change)
        drive(roster, actor, 1.0, throttle=0.2, steer=0.3)
        return float(roster.bodies.spin[actor.slot, 2])

    assert yaw_rate(set_wheels(STEER_ANGLE, 35.0)) < 0.65 * yaw_rate(lambda _: None)
    assert stopping_distance(set_wheels(BRAKE_TORQUE, 500.0)) > 2.0 * stopping_distance(lambda _: None)

    def weak(control: Any) -> None:
        control[TORQUE] = [[speed, torque / 2] for speed, torque in control[TORQUE]]

    def bluff(control: Any) -> None:
        control[DRAG] *= 20.0

    for change, speed in ((weak, 0.0), (bluff, 30.0)):
        ends = []
        for wanted in (lambda _: None, change):
            roster, actor = car(speed)
            write(roster, actor, wanted)
            drive(roster, actor, 2.0, throttle=1.0)
            ends.append(roster.bodies.velocity[actor.slot, 0])
        assert ends[1] < 0.85 * ends[0]


@pytest.mark.parametrize(("field", "value"), [(MASS, 0.0), (MASS, math.nan), (WHEELS, []), (CURVE, [["fast", 1.0]])])
def test_unusable_controls_are_refused_and_change_nothing(field: int, value: Any) -> None:
    roster, actor = car()
    before = roster.bodies.model[actor.slot].copy()
    control = copy.deepcopy(physics_control.read(actor))
    control[field] = value
    with pytest.raises(CallRefused):
        physics_control.apply(roster.bodies, actor, control)
    assert (roster.bodies.model[actor.slot] == before).all()
