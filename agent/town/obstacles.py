"""The obstacle detector: a ball pushed straight ahead until it touches a solid box or the ground.

Sphere tracing (Hart 1996): the ball may always advance by its distance to the nearest thing. Actors and scenery are the upright
boxes that physics knows; what is not solid is no obstacle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import BOTTOM, HALF_LENGTH, HALF_WIDTH, TOP, YAW, Bodies, Floats, Kind, X, Y, Z
from roadworthy.agent.town.instruments import Probe
from roadworthy.agent.town.loaded_map import LoadedMap

TOUCH_M = 1e-3
MAX_STEPS = 256
GROUND = -1


@dataclass(frozen=True)
class Obstacle:
    """What the ball touches first."""

    distance: float  # [m] that the ball has gone
    slot: int = GROUND  # the actor's row in `bodies`; GROUND or scenery below it: -2 - index of the scenery's box


def probe(
    probe: Probe, start: Sequence[float], forward: Sequence[float], bodies: Bodies, slots: npt.NDArray[np.int64],
    loaded: LoadedMap,
) -> Obstacle | None:  # fmt: skip
    """Push a ball from `start` along the unit vector `forward`; `slots` are the actors that may be in its way."""
    reach = probe.reach_m + probe.radius_m
    boxes, owners = _boxes_near(probe, start, reach, bodies, slots, loaded)
    gone = 0.0
    for _ in range(MAX_STEPS):
        place = [a + gone * f for a, f in zip(start, forward, strict=True)]
        distances = _distances(boxes, place)
        nearest = int(np.argmin(distances)) if len(distances) else 0
        clearance, owner = (float(distances[nearest]), owners[nearest]) if len(distances) else (math.inf, GROUND)
        if not probe.only_dynamics:
            above = place[2] - loaded.roads.surface_at(place[0], place[1]).height
            if above < clearance:
                clearance, owner = max(above, 0.0), GROUND
        clearance -= probe.radius_m
        if clearance < TOUCH_M:
            return Obstacle(gone, owner)
        gone += clearance
        if gone > probe.reach_m:
            return None
    return None


def _boxes_near(
    probe: Probe, start: Sequence[float], reach: float, bodies: Bodies, slots: npt.NDArray[np.int64], loaded: LoadedMap
) -> tuple[Floats, list[int]]:
    """Boxes within reach and their owners: [n, 8] centre x, y, cosine and sine of yaw, half sizes, bottom and top."""
    slots = slots[bodies.solid[slots]]
    if probe.only_dynamics:
        slots = slots[np.isin(bodies.kind[slots], (Kind.VEHICLE, Kind.WALKER))]
    pose, shape = bodies.pose[slots], bodies.shape[slots]
    yaw = np.radians(pose[:, YAW])
    boxes = np.column_stack(
        [pose[:, X], pose[:, Y], np.cos(yaw), np.sin(yaw), shape[:, HALF_LENGTH], shape[:, HALF_WIDTH],
         pose[:, Z] + shape[:, BOTTOM], pose[:, Z] + shape[:, TOP]]
    )  # fmt: skip
    owners = slots.tolist()
    if not probe.only_dynamics and len(loaded.static.boxes):
        static = loaded.static.boxes
        far = np.hypot(static[:, 0] - start[0], static[:, 1] - start[1]) - static[:, 3] - static[:, 4]
        near = np.flatnonzero(far < reach)
        rows = static[near]
        floor = np.array([loaded.roads.surface_at(x, y).height for x, y in rows[:, :2]])
        scenery = np.column_stack(
            [rows[:, :2], np.cos(rows[:, 2]), np.sin(rows[:, 2]), rows[:, 3:5], floor, floor + rows[:, 5]]
        )
        boxes = np.concatenate([boxes, scenery])
        owners += [-2 - int(k) for k in near]
    return boxes, owners


def _distances(boxes: Floats, place: Sequence[float]) -> Floats:
    """Distance [n] of a point to each upright box, 0 inside."""
    dx, dy = place[0] - boxes[:, 0], place[1] - boxes[:, 1]
    along, across = dx * boxes[:, 2] + dy * boxes[:, 3], dy * boxes[:, 2] - dx * boxes[:, 3]
    u = np.maximum(np.abs(along) - boxes[:, 4], 0.0)
    v = np.maximum(np.abs(across) - boxes[:, 5], 0.0)
    w = np.maximum(np.maximum(boxes[:, 6] - place[2], place[2] - boxes[:, 7]), 0.0)
    result: Floats = np.sqrt(u * u + v * v + w * w)
    return result
