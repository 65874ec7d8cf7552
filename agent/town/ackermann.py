"""The Ackermann controller: turns wanted steering angle, speed and acceleration into throttle, steer and brake."""

from __future__ import annotations

import math

from roadworthy.agent.town.bodies import (
    BRAKE,
    BRAKE_RATE,
    CURVE,
    CURVE_POINTS,
    CURVE_STEP,
    MASS,
    MAX_STEER,
    PEAK_FORCE,
    POWER,
    REVERSE,
    STEER,
    THROTTLE,
    YAW,
    Bodies,
)
from roadworthy.agent.town.entities import Ackermann
from roadworthy.agent.town.physics import ROLLING_MPS2

SPEED_GAIN = 1.5  # [1/s] wanted acceleration per missing speed
MAX_ACCELERATION = 4.0  # [m/s²] where the client gives none
MAX_BRAKING = 8.0  # [m/s²]
STANDING_MPS = 0.1


def steer_and_drive(bodies: Bodies, slot: int, target: Ackermann, step_s: float) -> None:
    """Write the control of vehicle `slot` for the next `step_s` seconds."""
    control, model = bodies.control[slot], bodies.model[slot]
    yaw = math.radians(bodies.pose[slot, YAW])
    speed = math.cos(yaw) * bodies.velocity[slot, 0] + math.sin(yaw) * bodies.velocity[slot, 1]
    point = min(int(abs(speed) / CURVE_STEP), CURVE_POINTS - 1)
    full_lock = model[MAX_STEER] * max(model[CURVE + point], 1e-3)  # [rad]
    wanted = min(max(target.steer / full_lock, -1.0), 1.0)
    if target.steer_speed > 0.0:
        limit = target.steer_speed * step_s / full_lock
        wanted = min(max(wanted, control[STEER] - limit), control[STEER] + limit)
    control[STEER] = wanted
    limit = target.acceleration if target.acceleration > 0.0 else MAX_ACCELERATION
    acceleration = min(max(SPEED_GAIN * (target.speed - speed), -MAX_BRAKING), limit)
    backwards = target.speed < 0.0
    if backwards:
        acceleration = -acceleration
    if (backwards and speed > STANDING_MPS) or (not backwards and speed < -STANDING_MPS):
        acceleration = -limit  # stop before changing direction
    else:
        control[REVERSE] = float(backwards)
    if target.speed == 0.0 and abs(speed) < STANDING_MPS:
        acceleration = -1.0
    force = min(model[PEAK_FORCE], model[POWER] / max(abs(speed), 1.0)) * (0.5 if backwards else 1.0)
    control[THROTTLE] = min(max((acceleration + ROLLING_MPS2) * model[MASS] / force, 0.0), 1.0) if acceleration > -0.5 else 0.0
    control[BRAKE] = min(max(-acceleration / model[BRAKE_RATE], 0.0), 1.0) if acceleration <= -0.5 else 0.0
