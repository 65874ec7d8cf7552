"""What two boxes that touch do to each other: one impulse, and apart again.

At the contact point, with the closing speed v [m/s] along the normal n from a to b:

- the impulse along n is J = (1 + `BOUNCE`) v / (1/ma + 1/mb + (ra x n)²/Ia + (rb x n)²/Ib) [N s], with masses m [kg], yaw
  inertias I [kg m²] and lever arms r [m] (rigid bodies in the plane; B. Mirtich, "Impulse-based Dynamic Simulation", 1996);
- across n Coulomb friction stops the sliding, with at most `FRICTION` J;
- of the overlap beyond `SLOP_M`, `RECOVERY` is removed by moving both, the lighter one more.

Contacts only push: bodies that part get no impulse, so whatever was pressed together drives apart freely.

What does not move (scenery, props, cars without physics) counts as infinitely heavy; walkers do not spin. The restitution is
small, as metal is crushed for good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import INERTIA, MASS, SHOVE_X, SHOVE_Y, Floats, Kind, X, Y
from roadworthy.agent.town.boxes import Ints
from roadworthy.agent.town.compiling import inner_kernel

BOUNCE = 0.12
FRICTION = 0.35
SLOP_M = 0.01  # overlap that is left alone, so that resting contacts do not tremble
RECOVERY = 0.7  # share of the overlap that one substep removes
KNOCK_MPS = 1.0  # a walker struck harder than this falls and slides
VEHICLE, WALKER = int(Kind.VEHICLE), int(Kind.WALKER)


@dataclass(frozen=True)
class Contact:
    """One pair that touched during a tick."""

    slot: int
    other: int  # slot of the other body, or -1 - index of the scenery's box
    impulse_ns: tuple[float, float, float]  # on the first body [N s]


@inner_kernel
def remember(pairs: Ints, impulses: Floats, count: int, a: int, b: int, jx: float, jy: float) -> int:
    """Add an impulse on body `a` to the tick's list; returns the new length."""
    for k in range(count):
        if pairs[k, 0] == a and pairs[k, 1] == b:
            impulses[k, 0] += jx
            impulses[k, 1] += jy
            return count
    if count < pairs.shape[0]:
        pairs[count, 0], pairs[count, 1] = a, b
        impulses[count, 0], impulses[count, 1] = jx, jy
        return count + 1
    return count


@inner_kernel
def answer(
    a: int,
    b: int,
    depth: float,
    nx: float,
    ny: float,
    px: float,
    py: float,
    pose: Floats,
    velocity: Floats,
    spin: Floats,
    drive: Floats,
    model: Floats,
    kind: npt.NDArray[np.int8],
    simulated: npt.NDArray[np.bool_],
) -> tuple[float, float]:
    """Push two touching bodies apart (`b < 0`: scenery); returns the impulse on `a` [N s]."""
    move_a = simulated[a] or kind[a] == WALKER
    move_b = b >= 0 and (simulated[b] or kind[b] == WALKER)
    inv_a = 1.0 / model[a, MASS] if move_a else 0.0
    inv_b = 1.0 / model[b, MASS] if move_b else 0.0
    turn_a = 1.0 / model[a, INERTIA] if move_a and kind[a] == VEHICLE else 0.0
    turn_b = 1.0 / model[b, INERTIA] if move_b and kind[b] == VEHICLE else 0.0
    rax, ray = px - pose[a, X], py - pose[a, Y]
    wa = math.radians(spin[a, 2])
    vx, vy = -(velocity[a, 0] - wa * ray), -(velocity[a, 1] + wa * rax)  # velocity of b relative to a at the contact
    rbx = rby = 0.0
    if b >= 0:
        rbx, rby = px - pose[b, X], py - pose[b, Y]
        wb = math.radians(spin[b, 2])
        vx += velocity[b, 0] - wb * rby
        vy += velocity[b, 1] + wb * rbx
    closing = vx * nx + vy * ny
    jx = jy = 0.0
    if closing < 0.0:
        arm_a, arm_b = rax * ny - ray * nx, rbx * ny - rby * nx
        j = -(1.0 + BOUNCE) * closing / (inv_a + inv_b + arm_a * arm_a * turn_a + arm_b * arm_b * turn_b)
        tx, ty = -ny, nx
        arm_ta, arm_tb = rax * ty - ray * tx, rbx * ty - rby * tx
        jt = -(vx * tx + vy * ty) / (inv_a + inv_b + arm_ta * arm_ta * turn_a + arm_tb * arm_tb * turn_b)
        jt = min(max(jt, -FRICTION * j), FRICTION * j)
        jx, jy = j * nx + jt * tx, j * ny + jt * ty  # on b; the opposite on a
        if move_a:
            velocity[a, 0] -= jx * inv_a
            velocity[a, 1] -= jy * inv_a
            spin[a, 2] -= math.degrees((rax * jy - ray * jx) * turn_a)
        if move_b:
            velocity[b, 0] += jx * inv_b
            velocity[b, 1] += jy * inv_b
            spin[b, 2] += math.degrees((rbx * jy - rby * jx) * turn_b)
        if kind[a] == WALKER and math.hypot(jx, jy) * inv_a > KNOCK_MPS:
            drive[a, SHOVE_X], drive[a, SHOVE_Y] = velocity[a, 0], velocity[a, 1]
        if b >= 0 and kind[b] == WALKER and math.hypot(jx, jy) * inv_b > KNOCK_MPS:
            drive[b, SHOVE_X], drive[b, SHOVE_Y] = velocity[b, 0], velocity[b, 1]
    apart = RECOVERY * max(depth - SLOP_M, 0.0) / (inv_a + inv_b)
    pose[a, X] -= nx * apart * inv_a
    pose[a, Y] -= ny * apart * inv_a
    if move_b:
        pose[b, X] += nx * apart * inv_b
        pose[b, Y] += ny * apart * inv_b
    return -jx, -jy
