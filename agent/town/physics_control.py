"""CARLA's VehiclePhysicsControl of a vehicle: what a client reads, and what its changes do to the town's model.

The town's vehicle has fewer parameters than Unreal's. A written control changes: the mass; the peak force and the power,
in proportion to the highest torque and to torque times engine speed; air drag in proportion to the drag coefficient; the
steering curve; the steering lock (largest wheel angle); tyre friction (mean over the wheels, 3.5 is a standard tyre); the
brakes, in proportion to the wheels' brake torque. Everything is kept and read back as it was written.
"""

from __future__ import annotations

import math

from roadworthy.agent.town.bodies import BRAKE_RATE, DRAG, GRIP, INERTIA, MASS, MAX_STEER, PEAK_FORCE, POWER, Bodies
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.physics import DEFAULT_CURVE, set_steering_curve
from roadworthy.agent.town.protocol import Wire, array, number, numbers

TYRE_FRICTION = 3.5  # Unreal's number for a standard tyre
MAX_TORQUE = 400.0  # [N m] of the engine that an unchanged vehicle reports
MAX_RPM = 5800.0
DRAG_COEFFICIENT = 0.3
BRAKE_TORQUE = 1500.0  # [N m] per wheel
_GEARS = ((4.2, 0.5, 0.65), (2.5, 0.5, 0.65), (1.7, 0.5, 0.65), (1.25, 0.5, 0.65), (1.0, 0.5, 0.65))
_FIELDS = 17
_TORQUE, _RPM, _MASS, _DRAG, _CURVE, _WHEELS = 0, 1, 11, 12, 14, 15


def read(actor: Actor) -> Wire:
    """The control as it was last written, or the one that an unchanged vehicle has. Raises `CallRefused` for non-vehicles."""
    if actor.physics_control is not None:
        return actor.physics_control
    drive = actor.blueprint.drive if actor.blueprint else None
    if drive is None:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a vehicle")
    length, width = drive.wheelbase_m / 2, actor.box_extent[1] * 0.8
    corners: tuple[tuple[float, float], ...] = ((length, -width), (length, width), (-length, -width), (-length, width))
    if drive.wheels == 2:  # CARLA's two-wheelers, too, have four: two close to each other on each axle
        corners = tuple((x, math.copysign(0.1, y)) for x, y in corners)
    wheels = []
    for index, (x, y) in enumerate(corners):
        front = index < len(corners) // 2
        steer, hand = (drive.max_steer_deg, 0.0) if front else (0.0, 3000.0)
        place = [100.0 * x, 100.0 * y, 100.0 * drive.wheel_radius_m]  # Unreal's centimetres
        wheels.append([TYRE_FRICTION, 0.25, steer, 100.0 * drive.wheel_radius_m, BRAKE_TORQUE, hand, 3.0, 17.0, 1000.0, place])
    torque = [[0.0, MAX_TORQUE], [MAX_RPM, MAX_TORQUE]]
    curve = [list(point) for point in DEFAULT_CURVE]
    gears = [list(gear) for gear in _GEARS]
    return [
        torque, MAX_RPM, 1.0, 0.15, 2.0, 0.35, True, 0.5, 10.0, 4.0, gears, drive.mass_kg, DRAG_COEFFICIENT, [45.0, 0.0, -10.0],
        curve, wheels, False,
    ]  # fmt: skip


def apply(bodies: Bodies, actor: Actor, control: Wire) -> None:
    """Change the vehicle (see the module's docstring). Raises `CallRefused` for what is no usable control."""
    drive = actor.blueprint.drive if actor.blueprint else None
    if drive is None:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a vehicle")
    fields = array(control, "physics control", _FIELDS)
    mass = number(fields[_MASS], "mass")
    if not 1.0 <= mass <= 200_000.0:
        raise CallRefused(f"mass of {mass} kg: expected 1 to 200000")
    torques = [numbers(point, 2, "torque curve")[1] for point in array(fields[_TORQUE], "torque curve")] or [0.0]
    strength = max(max(torques), 0.0) / MAX_TORQUE
    curve = tuple(
        (speed, factor) for speed, factor in (numbers(p, 2, "steering curve") for p in array(fields[_CURVE], "steering curve"))
    )
    wheels = [array(wheel, "wheel", 10) for wheel in array(fields[_WHEELS], "wheels")]
    if not wheels:
        raise CallRefused("wheels: expected at least one")
    friction = sum(number(wheel[0], "tire_friction") for wheel in wheels) / len(wheels)
    brakes = sum(number(wheel[4], "max_brake_torque") for wheel in wheels) / len(wheels)
    lock = max(number(wheel[2], "max_steer_angle") for wheel in wheels)
    row = bodies.model[actor.slot]
    row[INERTIA] *= mass / row[MASS]
    row[MASS] = mass
    row[PEAK_FORCE] = drive.peak_force_n * strength
    row[POWER] = drive.power_w * strength * max(number(fields[_RPM], "max_rpm"), 0.0) / MAX_RPM
    row[DRAG] = drive.drag * max(number(fields[_DRAG], "drag_coefficient"), 0.0) / DRAG_COEFFICIENT
    row[GRIP] = min(max(friction / TYRE_FRICTION, 0.05), 1.5)
    row[BRAKE_RATE] = drive.brake_mps2 * min(max(brakes / BRAKE_TORQUE, 0.0), 3.0)
    row[MAX_STEER] = math.radians(min(max(lock, 0.0), 80.0))
    set_steering_curve(bodies, actor.slot, curve or DEFAULT_CURVE)
    actor.physics_control = control
