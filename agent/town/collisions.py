"""A tick of motion: every body moves in substeps, and who touches whom answers (`contacts.py`).

Every solid body is a box that stands upright (yaw only) with a bottom and a top. Two boxes overlap when no axis of
either separates them; the axis of least overlap is the contact normal and the centre of the shared area the contact
point. Impulses are in N s and summed per pair over a tick: that is what a collision sensor reports.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import (
    BOTTOM,
    DRIVEN,
    HALF_LENGTH,
    HALF_WIDTH,
    HEIGHT,
    OFFSET_X,
    REACH,
    TOP,
    YAW,
    Bodies,
    Floats,
    X,
    Y,
    Z,
)
from roadworthy.agent.town.boxes import CELL_M, Ints, StaticBoxes, overlap
from roadworthy.agent.town.compiling import kernel
from roadworthy.agent.town.contacts import VEHICLE, WALKER, Contact, answer, remember
from roadworthy.agent.town.physics import Grip, step_vehicle
from roadworthy.agent.town.walking import step_walker

SUBSTEP_S = 0.02  # longest physics step
MAX_CONTACTS = 512  # pairs remembered per tick


@kernel
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
    count = np.int64(0)  # a plain 0 would have `remember` compiled a second time, for that number
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
                    jx, jy = answer(a, b, depth, nx, ny, px, py, pose, velocity, spin, drive, model, kind, simulated)
                    if jx != 0.0 or jy != 0.0:
                        count = remember(pairs, impulses, count, a, b, jx, jy)
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
                            jx, jy = answer(
                                a, -1 - s, depth, nx, ny, px, py, pose, velocity, spin, drive, model, kind, simulated
                            )
                            if jx != 0.0 or jy != 0.0:
                                count = remember(pairs, impulses, count, a, -1 - s, jx, jy)
    return int(count)


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
