"""How a body falls, lands and follows the ground. Heights in metres, speeds in m/s.

More than `AIRBORNE_M` above the ground a body falls freely at `GRAVITY` (explicit Euler: v += g dt, z += v dt), and stops dead
where it lands. Otherwise it is moved to the ground's height at up to `CLIMB_MPS`: over a kerb within a few steps.
"""

from __future__ import annotations

from roadworthy.agent.town.bodies import Floats, Z
from roadworthy.agent.town.compiling import inner_kernel

GRAVITY = 9.81  # [m/s²]
AIRBORNE_M = 0.35
CLIMB_MPS = 2.5  # how fast a body follows a step of the ground


@inner_kernel
def follow_ground(i: int, dt: float, height: float, pose: Floats, velocity: Floats, lift: float, weightless: bool) -> None:
    """Fall, land, or follow the ground that lies `height` metres below the body's lowest point."""
    if height > AIRBORNE_M or lift > GRAVITY or (height > 0.0 and velocity[i, 2] > 0.5):
        velocity[i, 2] += dt * (lift - (0.0 if weightless else GRAVITY))
        fall = velocity[i, 2] * dt
        if height + fall < 0.0:
            fall = -height
            velocity[i, 2] = 0.0
        pose[i, Z] += fall
    else:
        step = min(max(-height, -CLIMB_MPS * dt), CLIMB_MPS * dt)
        if weightless and step < 0.0:
            step = 0.0
        pose[i, Z] += step
        velocity[i, 2] = step / dt
