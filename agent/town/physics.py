"""How vehicles move. Deterministic: the same states and controls give the same states, bit for bit.

A vehicle is a rigid body on two axles (the "bicycle" model with tyre slip; R. Rajamani, "Vehicle Dynamics and Control",
2012, chapter 2). In the body frame, with forward speed [m/s] u, sideways speed w (to the right) and yaw rate r (clockwise
from above), per substep dt:

- steering: the road-wheel angle δ follows `steer * max_steer * curve(speed)` at no more than `STEER_RATE` of full lock
  per second; the curve is CARLA's steering curve (factor by speed);
- drive: `throttle * min(peak force, power / |u|)`, after a first-order lag of `THROTTLE_LAG_S`; reverse is half as
  strong;
- brake: `brake * brake_rate` m/s² after a lag of `BRAKE_LAG_S`; the hand brake locks the rear axle (half the grip); both
  stop the car and never push it back. Rolling resistance `ROLLING_MPS2`, engine drag `ENGINE_DRAG_MPS2` off the throttle,
  air drag `drag * u²`, and what the ground adds (grass, sand);
- tyres: each axle's lateral force opposes its sideways slip velocity, `F = C * v_lat / max(|u|, SLOW_MPS)` with
  `C = CORNERING * axle load`, and never exceeds `grip * load`; what the brakes or the engine use of the grip is taken off
  (friction ellipse). The front wheels are never turned further than `MAX_SLIP_RAD` past the direction in which they
  would roll freely. Sideways and along the car the grip is `SIDE_GRIP` and `BRAKE_GRIP`, less on wet roads
  (`WET_SIDE_LOSS`, `WET_BRAKE_LOSS`), times the tyre's own factor, times the ground's;
- w and r are integrated implicitly (the tyres are stiff at low speed), u explicitly;
- the body pitches and rolls on its springs with a first-order lag, two-wheelers lean into the curve;
- no road is perfectly even: headings wander by about a hundredth of a degree (deterministic, depends on place and actor).

A body in the air falls freely, else it follows the ground's height (`footing.py`).

Where the numbers come from: the friction ellipse and the order of the cornering stiffness (10 per radian and axle load) are
those of H. B. Pacejka, "Tyre and Vehicle Dynamics", 2012; the rolling resistance is 0.013 times the weight, near Rajamani's
0.015 (chapter 4); a wet road takes 30 % of the braking grip, as accident reconstruction assumes (0.7 to 0.8 dry, 0.5 to 0.6
wet). The sideways grip of 1.7 is no ordinary tyre's: CARLA's are that sticky, and its Traffic Manager takes corners at
speeds that count on it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from roadworthy.agent.town.blueprints import Drive
from roadworthy.agent.town.bodies import (
    BRAKE,
    BRAKE_NOW,
    BRAKE_RATE,
    CONSTANT,
    CONSTANT_X,
    CONSTANT_Y,
    CURVE,
    CURVE_POINTS,
    CURVE_STEP,
    DRAG,
    FRESH,
    FRONT,
    GEAR,
    GRIP,
    GROUND_DRAG,
    GROUND_GRIP,
    HAND_BRAKE,
    HEIGHT,
    INERTIA,
    LEAN,
    LEAN_PITCH,
    LEAN_ROLL,
    MANUAL,
    MASS,
    MAX_STEER,
    PEAK_FORCE,
    PHASE,
    PITCH,
    POWER,
    REAR,
    REVERSE,
    ROLL,
    STEER,
    STEER_ANGLE,
    THROTTLE,
    THROTTLE_NOW,
    YAW,
    Bodies,
    Floats,
    X,
    Y,
    Z,
)
from roadworthy.agent.town.compiling import inner_kernel
from roadworthy.agent.town.footing import AIRBORNE_M, GRAVITY, follow_ground

SIDE_GRIP = 1.7  # sideways friction on dry asphalt: CARLA's tyres are sticky, and its Traffic Manager counts on it
BRAKE_GRIP = 0.95  # friction that braking and driving can use on dry asphalt
WET_SIDE_LOSS = 0.1  # share of the sideways grip that a fully wet road takes
WET_BRAKE_LOSS = 0.3  # share of the braking grip that a fully wet road takes
MAX_SLIP_RAD = 0.2  # front wheels are not turned further than this past where they roll freely: more would grip less
CORNERING = 10.0  # cornering stiffness per axle load [1/rad]
SLOW_MPS = 1.5  # below this speed slip is measured against it, so that standing is no singularity
STEER_RATE = 3.0  # full locks per second
THROTTLE_LAG_S = 0.12
BRAKE_LAG_S = 0.06
ROLLING_MPS2 = 0.13
ENGINE_DRAG_MPS2 = 0.55
SUSPENSION_LAG_S = 0.22
PITCH_DEG_PER_MPS2 = 0.22
UNEVENNESS_DEG_PER_M = 0.004
SETTLE_DEG = 0.003  # heading that a car loses when it settles on its wheels
DEFAULT_CURVE = ((0.0, 1.0), (20.0, 0.9), (60.0, 0.8), (120.0, 0.7))  # CARLA's steering curve: [km/h], factor


def set_model(bodies: Bodies, slot: int, drive: Drive, length_m: float, width_m: float) -> None:
    """Fill row `slot` with the parameters of a vehicle."""
    row = bodies.model[slot]
    row[MASS] = drive.mass_kg
    # A box's inertia, with the 1.2 that engine and bumpers add at the ends.
    row[INERTIA] = 1.2 * drive.mass_kg * (length_m**2 + width_m**2) / 12.0
    row[FRONT] = 0.48 * drive.wheelbase_m
    row[REAR] = 0.52 * drive.wheelbase_m
    row[PEAK_FORCE] = drive.peak_force_n
    row[POWER] = drive.power_w
    row[BRAKE_RATE] = drive.brake_mps2
    row[MAX_STEER] = math.radians(drive.max_steer_deg)
    row[DRAG] = drive.drag
    row[GRIP] = 1.0
    row[LEAN] = -0.28 if drive.wheels > 2 else math.degrees(1.0 / GRAVITY)
    set_steering_curve(bodies, slot, DEFAULT_CURVE)


def set_steering_curve(bodies: Bodies, slot: int, curve: tuple[tuple[float, float], ...]) -> None:
    """Resample a steering curve, points of (speed [km/h], factor), onto the model's own grid."""
    speeds, factors = zip(*sorted(curve), strict=True) if curve else ((0.0,), (1.0,))
    grid = np.arange(CURVE_POINTS) * CURVE_STEP * 3.6
    bodies.model[slot, CURVE : CURVE + CURVE_POINTS] = np.clip(np.interp(grid, speeds, factors), 0.0, 1.0)


class Grip(NamedTuple):
    """Friction coefficients of the asphalt everywhere in the town."""

    side: float
    brake: float


DRY = Grip(SIDE_GRIP, BRAKE_GRIP)


def grip_of(wetness_percent: float, deposits_percent: float) -> Grip:
    """Friction under this weather: the film of water or the standing water, whichever is worse [0..100]."""
    wet = min(max(wetness_percent, deposits_percent, 0.0), 100.0) / 100.0
    return Grip(SIDE_GRIP * (1.0 - WET_SIDE_LOSS * wet), BRAKE_GRIP * (1.0 - WET_BRAKE_LOSS * wet))


@inner_kernel
def step_vehicle(
    i: int,
    dt: float,
    side_grip: float,
    brake_grip: float,
    pose: Floats,
    velocity: Floats,
    spin: Floats,
    push: Floats,
    control: Floats,
    drive: Floats,
    model: Floats,
    ground: Floats,
    weightless: bool,
) -> None:
    """Advance vehicle `i` by `dt` seconds on a road of these frictions (the model is in the module's docstring)."""
    p = model[i]
    mass = p[MASS]
    if drive[i, FRESH] > 0.0:
        drive[i, FRESH] = 0.0
        pose[i, YAW] += SETTLE_DEG * math.sin(7.0 * drive[i, PHASE] + 0.1)
    yaw = math.radians(pose[i, YAW])
    cos, sin = math.cos(yaw), math.sin(yaw)
    u = cos * velocity[i, 0] + sin * velocity[i, 1]
    w = -sin * velocity[i, 0] + cos * velocity[i, 1]
    r = math.radians(spin[i, 2])
    speed = abs(u)

    # Steering
    at = speed / CURVE_STEP
    k = min(int(at), CURVE_POINTS - 2)
    part = min(at - k, 1.0)
    factor = p[CURVE + k] + part * (p[CURVE + k + 1] - p[CURVE + k])
    target = control[i, STEER] * p[MAX_STEER] * factor
    limit = STEER_RATE * p[MAX_STEER] * dt
    drive[i, STEER_ANGLE] += min(max(target - drive[i, STEER_ANGLE], -limit), limit)
    delta = drive[i, STEER_ANGLE]

    height = pose[i, Z] - ground[i, HEIGHT]
    airborne = height > AIRBORNE_M
    u0, w0 = u, w
    if airborne:
        drive[i, THROTTLE_NOW] = 0.0
    else:
        mu = side_grip * p[GRIP] * ground[i, GROUND_GRIP]
        most = brake_grip * p[GRIP] * ground[i, GROUND_GRIP] * GRAVITY  # [m/s²] along the car
        drive[i, THROTTLE_NOW] += (control[i, THROTTLE] - drive[i, THROTTLE_NOW]) * (1.0 - math.exp(-dt / THROTTLE_LAG_S))
        drive[i, BRAKE_NOW] += (control[i, BRAKE] - drive[i, BRAKE_NOW]) * (1.0 - math.exp(-dt / BRAKE_LAG_S))
        throttle = drive[i, THROTTLE_NOW]
        force = throttle * min(p[PEAK_FORCE], p[POWER] / max(speed, 1.0))
        if control[i, REVERSE] > 0.0:
            force *= -0.5
        if control[i, MANUAL] > 0.0 and control[i, GEAR] == 0.0:
            force = 0.0  # neutral
        force = min(max(force, -most * mass), most * mass)
        brake = drive[i, BRAKE_NOW] * p[BRAKE_RATE] + (0.5 * most if control[i, HAND_BRAKE] > 0.0 else 0.0)
        brake = min(brake, most)
        resist = brake + ROLLING_MPS2 + ground[i, GROUND_DRAG] + (ENGINE_DRAG_MPS2 if control[i, THROTTLE] <= 0.0 else 0.0)

        # Tyres: lateral stiffness per slip velocity, reduced to the secant where the tyre slides
        used = min(max(abs(force) / mass, brake) / (mu * GRAVITY), 1.0)
        room = math.sqrt(max(1.0 - used * used, 0.12))
        lf, lr = p[FRONT], p[REAR]
        load_f, load_r = mass * GRAVITY * lr / (lf + lr), mass * GRAVITY * lf / (lf + lr)
        slow = max(speed, SLOW_MPS)
        if u > SLOW_MPS:
            rolling = math.atan2(w + lf * r, u)
            delta = min(max(delta, rolling - MAX_SLIP_RAD), rolling + MAX_SLIP_RAD)
        cd, sd = math.cos(delta), math.sin(delta)
        slip_f = (w + lf * r) * cd - u * sd
        slip_r = w - lr * r
        rear_room = 0.35 if control[i, HAND_BRAKE] > 0.0 else room
        kf = min(CORNERING * load_f / slow, mu * room * load_f / max(abs(slip_f), 1e-6))
        kr = min(CORNERING * load_r / slow, mu * rear_room * load_r / max(abs(slip_r), 1e-6))

        # Implicit step of w and r:  A [w1, r1] = b
        inertia = p[INERTIA]
        a11 = mass / dt + kf * cd * cd + kr
        a12 = mass * u + kf * cd * cd * lf - kr * lr
        a21 = kf * cd * cd * lf - kr * lr
        a22 = inertia / dt + kf * cd * cd * lf * lf + kr * lr * lr
        b1 = mass / dt * w + kf * cd * sd * u + (-sin * push[i, 0] + cos * push[i, 1])
        b2 = inertia / dt * r + kf * cd * sd * u * lf + push[i, 3]
        det = a11 * a22 - a12 * a21
        w1 = (b1 * a22 - a12 * b2) / det
        r1 = (a11 * b2 - a21 * b1) / det
        force_f = -kf * ((w1 + lf * r1) * cd - u * sd)
        u += dt * (w1 * r1 + (force - force_f * sd + cos * push[i, 0] + sin * push[i, 1]) / mass)
        u /= 1.0 + dt * p[DRAG] * abs(u) / mass
        stopped = max(abs(u) - resist * dt, 0.0)
        u = math.copysign(stopped, u)
        w, r = w1, r1
        if drive[i, CONSTANT] > 0.0:
            u, w = drive[i, CONSTANT_X], drive[i, CONSTANT_Y]
            r = u * math.tan(min(max(delta, -1.2), 1.2)) / (lf + lr)

    if abs(w) + abs(u) < 1e-6:
        u = w = r = 0.0

    # The road is not perfectly even
    wander = UNEVENNESS_DEG_PER_M * speed * dt * math.sin(0.37 * pose[i, X] + 0.53 * pose[i, Y] + drive[i, PHASE])
    pose[i, YAW] += math.degrees(r) * dt + (0.0 if airborne else wander)
    if pose[i, YAW] > 180.0:
        pose[i, YAW] -= 360.0
    elif pose[i, YAW] < -180.0:
        pose[i, YAW] += 360.0
    yaw = math.radians(pose[i, YAW])
    cos, sin = math.cos(yaw), math.sin(yaw)
    velocity[i, 0] = cos * u - sin * w
    velocity[i, 1] = sin * u + cos * w
    pose[i, X] += velocity[i, 0] * dt
    pose[i, Y] += velocity[i, 1] * dt
    follow_ground(i, dt, height, pose, velocity, push[i, 2] / mass, weightless)

    # The body on its springs
    blend = 1.0 - math.exp(-dt / SUSPENSION_LAG_S)
    ax = (u - u0) / dt - w * r
    ay = (w - w0) / dt + u * r
    drive[i, LEAN_PITCH] += (min(max(PITCH_DEG_PER_MPS2 * ax, -3.0), 3.0) - drive[i, LEAN_PITCH]) * blend
    rides = p[LEAN] > 0.0
    roll = math.degrees(math.atan(min(max(ay, -8.0), 8.0) / GRAVITY)) if rides else min(max(p[LEAN] * ay, -4.0), 4.0)
    drive[i, LEAN_ROLL] += (roll - drive[i, LEAN_ROLL]) * blend
    spin[i, 0] = spin[i, 1] = 0.0
    spin[i, 2] = math.degrees(r)
    pose[i, PITCH] = drive[i, LEAN_PITCH]
    pose[i, ROLL] = drive[i, LEAN_ROLL]
