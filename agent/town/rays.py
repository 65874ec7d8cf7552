"""Rays through the world: scenery and actors as upright boxes, the ground as a height at every point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from roadworthy.agent.town.bodies import BOTTOM, HALF_LENGTH, HALF_WIDTH, TOP, YAW, Kind, X, Y, Z
from roadworthy.agent.town.loaded_map import LoadedMap
from roadworthy.agent.town.roster import Roster
from roadworthy.agent.town.surfaces import Ground

Place = tuple[float, float, float]
GROUND_STEP_M = 1.0
GROUND_TAGS = {Ground.ROAD: 1, Ground.SIDEWALK: 2, Ground.TERRAIN: 10}
MAX_RAY_M = 2000.0


def cast(roster: Roster, loaded: LoadedMap, start: Sequence[float], end: Sequence[float]) -> list[tuple[Place, int]]:
    """(place, semantic tag) of everything that the segment enters, nearest first; at most `MAX_RAY_M` long."""
    x, y, z = start
    dx, dy, dz = end[0] - x, end[1] - y, end[2] - z
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    if length < 1e-9:
        return []
    if length > MAX_RAY_M:
        dx, dy, dz, length = dx * MAX_RAY_M / length, dy * MAX_RAY_M / length, dz * MAX_RAY_M / length, MAX_RAY_M
    hits: list[tuple[float, int]] = []
    for box, tag in zip(loaded.static.boxes, loaded.scenery.collider_tags, strict=True):
        if abs(box[0] - x - dx / 2) > abs(dx) / 2 + box[3] + box[4] or abs(box[1] - y - dy / 2) > abs(dy) / 2 + box[3] + box[4]:
            continue
        floor = loaded.roads.surface_at(box[0], box[1]).height
        enter = _enter(x - box[0], y - box[1], z, dx, dy, dz, box[2], box[3], box[4], floor, floor + box[5])
        if enter is not None:
            hits.append((enter, int(tag)))
    bodies = roster.bodies
    for actor in roster:
        slot = actor.slot
        if bodies.kind[slot] == Kind.FIXED:
            continue
        pose, shape = bodies.pose[slot], bodies.shape[slot]
        enter = _enter(
            x - pose[X], y - pose[Y], z, dx, dy, dz, math.radians(pose[YAW]),
            shape[HALF_LENGTH], shape[HALF_WIDTH], pose[Z] + shape[BOTTOM], pose[Z] + shape[TOP],
        )  # fmt: skip
        if enter is not None:
            hits.append((enter, actor.tags[0] if actor.tags else 0))
    ground = _ground(loaded, x, y, z, dx, dy, dz, length)
    if ground:
        hits.append(ground)
    return [((x + t * dx, y + t * dy, z + t * dz), tag) for t, tag in sorted(hits)]


def _enter(
    rx: float, ry: float, z: float, dx: float, dy: float, dz: float,
    yaw: float, half_length: float, half_width: float, bottom: float, top: float,
) -> float | None:  # fmt: skip
    """Share of the segment at which it enters a box, None if never; (rx, ry) is the start seen from the box's centre."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    low, high = 0.0, 1.0
    for at, step, least, most in (
        (rx * cos + ry * sin, dx * cos + dy * sin, -half_length, half_length),
        (ry * cos - rx * sin, dy * cos - dx * sin, -half_width, half_width),
        (z, dz, bottom, top),
    ):
        if abs(step) < 1e-12:
            if not least <= at <= most:
                return None
            continue
        first, second = sorted(((least - at) / step, (most - at) / step))
        low, high = max(low, first), min(high, second)
        if low > high:
            return None
    return low if low > 0.0 else None


def _ground(
    loaded: LoadedMap, x: float, y: float, z: float, dx: float, dy: float, dz: float, length: float
) -> tuple[float, int] | None:
    """Where the segment first goes under the ground, sampled every `GROUND_STEP_M` and refined."""
    at = loaded.roads.surface_at

    def above(t: float) -> float:
        return z + t * dz - at(x + t * dx, y + t * dy).height

    steps = max(math.ceil(length / GROUND_STEP_M), 1)
    if above(0.0) < 0.0:
        return None
    for k in range(1, steps + 1):
        if above(k / steps) < 0.0:
            low, high = (k - 1) / steps, k / steps
            for _ in range(20):
                middle = (low + high) / 2
                low, high = (middle, high) if above(middle) >= 0.0 else (low, middle)
            return high, GROUND_TAGS[at(x + high * dx, y + high * dy).ground]
    return None
