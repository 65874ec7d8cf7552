"""How people on foot move. Deterministic.

A walker's velocity approaches the wanted one (direction times speed [m/s]) by at most `WALKER_ACCELERATION` times the step,
and it turns towards where it goes at up to `WALKER_TURN_DEG_S`. Who was struck by a car slides on at the speed that the blow
gave, which friction with the road reduces by `WALKER_SLIDE_MPS2`: about half the weight, as accident reconstruction assumes
for people who slide over asphalt (J. A. Searle, "The Physics of Throw Distance in Accident Reconstruction", SAE 930659). AI
walkers are moved by their client, except while they slide.
"""

from __future__ import annotations

import math

from roadworthy.agent.town.bodies import BOTTOM, DRIVEN, HEIGHT, MASS, SHOVE_X, SHOVE_Y, YAW, Floats, X, Y, Z
from roadworthy.agent.town.compiling import inner_kernel
from roadworthy.agent.town.footing import follow_ground

WALKER_ACCELERATION = 9.0  # [m/s²]
WALKER_TURN_DEG_S = 360.0
WALKER_SLIDE_MPS2 = 4.5  # deceleration of a walker who was knocked over


@inner_kernel
def step_walker(
    i: int,
    dt: float,
    pose: Floats,
    velocity: Floats,
    push: Floats,
    control: Floats,
    drive: Floats,
    shape: Floats,
    model: Floats,
    ground: Floats,
    weightless: bool,
) -> None:
    """Advance walker `i` by `dt` seconds: towards its wanted velocity, or sliding after a blow."""
    shove = math.hypot(drive[i, SHOVE_X], drive[i, SHOVE_Y])
    foot = pose[i, Z] + shape[i, BOTTOM]
    if shove > 0.0:
        left = max(shove - WALKER_SLIDE_MPS2 * dt, 0.0) / shove
        drive[i, SHOVE_X] *= left
        drive[i, SHOVE_Y] *= left
        velocity[i, 0] = drive[i, SHOVE_X]
        velocity[i, 1] = drive[i, SHOVE_Y]
    elif drive[i, DRIVEN] > 0.0:
        return  # the client moved it this tick
    else:
        speed = control[i, 3]
        dx = control[i, 0] * speed - velocity[i, 0]
        dy = control[i, 1] * speed - velocity[i, 1]
        change = math.hypot(dx, dy)
        if change > 0.0:
            share = min(WALKER_ACCELERATION * dt / change, 1.0)
            velocity[i, 0] += dx * share
            velocity[i, 1] += dy * share
        if speed > 0.0 and abs(control[i, 0]) + abs(control[i, 1]) > 1e-6:
            turn = math.degrees(math.atan2(control[i, 1], control[i, 0])) - pose[i, YAW]
            turn -= 360.0 * math.floor((turn + 180.0) / 360.0)
            pose[i, YAW] += min(max(turn, -WALKER_TURN_DEG_S * dt), WALKER_TURN_DEG_S * dt)
            pose[i, YAW] -= 360.0 * math.floor((pose[i, YAW] + 180.0) / 360.0)
    velocity[i, 0] += push[i, 0] / model[i, MASS] * dt
    velocity[i, 1] += push[i, 1] / model[i, MASS] * dt
    pose[i, X] += velocity[i, 0] * dt
    pose[i, Y] += velocity[i, 1] * dt
    follow_ground(i, dt, foot - ground[i, HEIGHT], pose, velocity, push[i, 2] / model[i, MASS], weightless)
