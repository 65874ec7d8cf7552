"""Contacts between oriented boxes: who touches whom, with what impulse, and how both answer.

Every solid body is a box that stands upright (yaw only) with a bottom and a top. Two boxes overlap when no axis of
either separates them; the axis of least overlap is the contact normal and the centre of the shared area the contact
point. The answer is one impulse along the normal (restitution `BOUNCE`) and one across it (Coulomb friction
`FRICTION`), with the bodies' masses and yaw inertias; what stands still by itself (scenery, props, cars without physics)
counts as infinitely heavy. Impulses are in N s and summed per pair over a tick: that is what a collision sensor reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import (
    BOTTOM,
    DRIVEN,
    HALF_LENGTH,
    HALF_WIDTH,
    HEIGHT,
    INERTIA,
    MASS,
    OFFSET_X,
    REACH,
    SHOVE_X,
    SHOVE_Y,
    TOP,
    YAW,
    Bodies,
    Floats,
    Kind,
    X,
    Y,
    Z,
)
from roadworthy.agent.town.boxes import CELL_M, Ints, StaticBoxes, overlap
from roadworthy.agent.town.physics import Grip, step_vehicle, step_walker

BOUNCE = 0.12
FRICTION = 0.35
SLOP_M = 0.01  # overlap that is left alone, so that resting contacts do not tremble
RECOVERY = 0.7  # share of the overlap that one substep removes
SUBSTEP_S = 0.02  # longest physics step
KNOCK_MPS = 1.0  # a walker struck harder than this falls and slides
MAX_CONTACTS = 512  # pairs remembered per tick
VEHICLE, WALKER = int(Kind.VEHICLE), int(Kind.WALKER)


@dataclass(frozen=True)
class Contact:
    """One pair that touched during a tick."""

    slot: int
    other: int  # slot of the other body, or -1 - index of the scenery's box
    impulse_ns: tuple[float, float, float]  # on the first body [N s]


@numba.njit(cache=True)
def _remember(pairs: Ints, impulses: Floats, count: int, a: int, b: int, jx: float, jy: float) -> int:
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


@numba.njit(cache=True)
def _answer(
    a: int,
    b: int,
    move_b: bool,
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
    move_a: bool,
) -> tuple[float, float]:
    """Push two touching bodies apart (`b < 0`: scenery); returns the impulse on `a` [N s]."""
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


@numba.njit(cache=True)
def _advance(
    active: Ints,
    steps: int,
    dt: float,
    side_grip: float,
    brake_grip: float,
    pose: Floats,
    velocity: Floats,
    spin: Floats,
    push: Floats,
    control: Floats,
    drive: Floats,
    shape: Floats,
    model: Floats,
    ground: Floats,
    kind: npt.NDArray[np.int8],
    simulated: npt.NDArray[np.bool_],
    weightless: npt.NDArray[np.bool_],
    solid: npt.NDArray[np.bool_],
    boxes: Floats,
    origin_x: float,
    origin_y: float,
    columns: int,
    rows: int,
    starts: Ints,
    items: Ints,
    pairs: Ints,
    impulses: Floats,
) -> int:
    """Advance the bodies in `active` by `steps` substeps of `dt`; fills `pairs`, `impulses` and returns how many."""
    count = 0
    n = len(active)
    for _ in range(steps):
        for k in range(n):
            i = active[k]
            if not simulated[i]:
                continue
            if kind[i] == VEHICLE:
                step_vehicle(
                    i, dt, side_grip, brake_grip, pose, velocity, spin, push, control, drive, model, ground, weightless[i]
                )
            elif kind[i] == WALKER:
                step_walker(i, dt, pose, velocity, push, control, drive, shape, model, ground, weightless[i])
        for k in range(n):
            a = active[k]
            if not solid[a]:
                continue
            yaw_a = math.radians(pose[a, YAW])
            off_a = shape[a, OFFSET_X]
            reach = shape[a, REACH]
            bottom, top = pose[a, Z] + shape[a, BOTTOM], pose[a, Z] + shape[a, TOP]
            move_a = simulated[a] or kind[a] == WALKER
            for m in range(k + 1, n):
                b = active[m]
                move_b = simulated[b] or kind[b] == WALKER
                if not solid[b] or not (move_a or move_b):
                    continue
                near = reach + shape[b, REACH]
                if abs(pose[b, X] - pose[a, X]) > near or abs(pose[b, Y] - pose[a, Y]) > near:
                    continue
                if bottom > pose[b, Z] + shape[b, TOP] or top < pose[b, Z] + shape[b, BOTTOM]:
                    continue
                yaw_b, off_b = math.radians(pose[b, YAW]), shape[b, OFFSET_X]
                depth, nx, ny, px, py = overlap(
                    pose[a, X] + off_a * math.cos(yaw_a),
                    pose[a, Y] + off_a * math.sin(yaw_a),
                    yaw_a,
                    shape[a, HALF_LENGTH],
                    shape[a, HALF_WIDTH],
                    pose[b, X] + off_b * math.cos(yaw_b),
                    pose[b, Y] + off_b * math.sin(yaw_b),
                    yaw_b,
                    shape[b, HALF_LENGTH],
                    shape[b, HALF_WIDTH],
                )
                if depth > 0.0:
                    jx, jy = _answer(a, b, move_b, depth, nx, ny, px, py, pose, velocity, spin, drive, model, kind, move_a)
                    if jx != 0.0 or jy != 0.0:
                        count = _remember(pairs, impulses, count, a, b, jx, jy)
            if not move_a or (kind[a] == WALKER and drive[a, DRIVEN] > 0.0):
                continue
            first_column = max(int((pose[a, X] - reach - origin_x) / CELL_M), 0)
            last_column = min(int((pose[a, X] + reach - origin_x) / CELL_M), columns - 1)
            first_row = max(int((pose[a, Y] - reach - origin_y) / CELL_M), 0)
            last_row = min(int((pose[a, Y] + reach - origin_y) / CELL_M), rows - 1)
            for row in range(first_row, last_row + 1):
                for column in range(first_column, last_column + 1):
                    cell = row * columns + column
                    for at in range(starts[cell], starts[cell + 1]):
                        s = items[at]
                        if bottom > ground[a, HEIGHT] + boxes[s, 5] or top < ground[a, HEIGHT]:
                            continue
                        near = reach + math.hypot(boxes[s, 3], boxes[s, 4])
                        if abs(boxes[s, 0] - pose[a, X]) > near or abs(boxes[s, 1] - pose[a, Y]) > near:
                            continue
                        yaw_a = math.radians(pose[a, YAW])
                        depth, nx, ny, px, py = overlap(
                            pose[a, X] + off_a * math.cos(yaw_a),
                            pose[a, Y] + off_a * math.sin(yaw_a),
                            yaw_a,
                            shape[a, HALF_LENGTH],
                            shape[a, HALF_WIDTH],
                            boxes[s, 0],
                            boxes[s, 1],
                            boxes[s, 2],
                            boxes[s, 3],
                            boxes[s, 4],
                        )
                        if depth > 0.0:
                            jx, jy = _answer(
                                a, -1 - s, False, depth, nx, ny, px, py, pose, velocity, spin, drive, model, kind, True
                            )
                            if jx != 0.0 or jy != 0.0:
                                count = _remember(pairs, impulses, count, a, -1 - s, jx, jy)
    return count


def advance(bodies: Bodies, active: Ints, seconds: float, grip: Grip, static: StaticBoxes) -> list[Contact]:
    """Move the bodies in rows `active` on by `seconds`; returns who touched whom.

    Accelerations become the tick's mean change of velocity; forces (`bodies.push`) are used up.
    """
    steps = max(math.ceil(seconds / SUBSTEP_S - 1e-9), 1)
    pairs = np.empty((MAX_CONTACTS, 2), np.int64)
    impulses = np.empty((MAX_CONTACTS, 2))
    before = bodies.velocity.copy()
    count = _advance(
        active,
        steps,
        seconds / steps,
        *grip,
        bodies.pose,
        bodies.velocity,
        bodies.spin,
        bodies.push,
        bodies.control,
        bodies.drive,
        bodies.shape,
        bodies.model,
        bodies.ground,
        bodies.kind,
        bodies.simulated,
        bodies.weightless,
        bodies.solid,
        static.boxes,
        *static.origin,
        static.columns,
        static.rows,
        static.starts,
        static.items,
        pairs,
        impulses,
    )
    np.divide(bodies.velocity - before, seconds, out=bodies.acceleration)
    bodies.push[:] = 0.0
    return [
        Contact(int(pairs[k, 0]), int(pairs[k, 1]), (float(impulses[k, 0]), float(impulses[k, 1]), 0.0)) for k in range(count)
    ]


def is_free(bodies: Bodies, active: Ints, static: StaticBoxes, slot: int) -> bool:
    """Whether the box of body `slot` overlaps no other solid body and no scenery (the test that CARLA makes before a spawn)."""
    x, y, z, yaw = bodies.pose[slot, X], bodies.pose[slot, Y], bodies.pose[slot, Z], math.radians(bodies.pose[slot, YAW])
    shape = bodies.shape[slot]
    bottom, top = z + shape[BOTTOM], z + shape[TOP]
    for other in active:
        if other == slot or not bodies.solid[other]:
            continue
        o, p = bodies.shape[other], bodies.pose[other]
        if math.hypot(p[X] - x, p[Y] - y) > shape[REACH] + o[REACH] or bottom > p[Z] + o[TOP] or top < p[Z] + o[BOTTOM]:
            continue
        depth = overlap(
            x, y, yaw, shape[HALF_LENGTH], shape[HALF_WIDTH],
            p[X], p[Y], math.radians(p[YAW]), o[HALF_LENGTH], o[HALF_WIDTH],
        )[0]  # fmt: skip
        if depth > 0.0:
            return False
    boxes = static.boxes
    if not len(boxes):
        return True
    distance = np.hypot(boxes[:, 0] - x, boxes[:, 1] - y)
    near = (distance < shape[REACH] + np.hypot(boxes[:, 3], boxes[:, 4])) & (bottom < bodies.ground[slot, HEIGHT] + boxes[:, 5])
    for box in boxes[near]:
        if overlap(x, y, yaw, shape[HALF_LENGTH], shape[HALF_WIDTH], box[0], box[1], box[2], box[3], box[4])[0] > 0.0:
            return False
    return True
