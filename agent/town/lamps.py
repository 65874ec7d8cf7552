"""Which lamps burn, and what they light: signals, street lamps, the lamps of vehicles."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.actors import (
    HEADLAMP,
    LAMPS_PER_ACTOR,
    LEFT_BLINKER,
    REVERSE_LAMP,
    RIGHT_BLINKER,
    TAIL_LAMP,
)
from roadworthy.agent.town.placing import ActorPose
from roadworthy.agent.town.scenery import Scenery
from roadworthy.agent.town.sky import Light
from roadworthy.agent.town.street import NIGHT_LAMP

# Bits of CARLA's VehicleLightState.
LOW_BEAM, HIGH_BEAM, BRAKE, RIGHT, LEFT, REVERSE = 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
RED, YELLOW, GREEN, OFF = 0, 1, 2, 3  # CARLA's TrafficLightState
LAMP_CELL = 1.0  # [m] of the map of street light
_MAX_BEAMS = 6  # vehicles whose headlamps light the scene


def lamp_levels(
    scenery: Scenery, light: Light, actors: Sequence[ActorPose], traffic_lights: Mapping[str, int], frame: int
) -> NDArray[np.float32]:
    """How bright every lamp of the scene burns, float32 [lamps], by its number."""
    levels = np.zeros(scenery.lamp_count + LAMPS_PER_ACTOR * len(actors), np.float32)
    levels[NIGHT_LAMP] = 1.3 * light.night
    for signal, first in scenery.signal_lamps.items():
        state = traffic_lights.get(signal, OFF)
        if RED <= state <= GREEN:
            levels[first + state] = 1.0
    blink = 1.0 if (frame // 5) % 2 == 0 else 0.0
    for index, actor in enumerate(actors):
        base, bits = scenery.lamp_count + LAMPS_PER_ACTOR * index, actor.lights
        headlamps = 1.2 if bits & (LOW_BEAM | HIGH_BEAM) else 1.2 * light.night
        if headlamps or bits:
            levels[base + HEADLAMP] = headlamps
            levels[base + TAIL_LAMP] = 1.1 if bits & BRAKE else 0.45 * (headlamps > 0.1)
            levels[base + LEFT_BLINKER] = blink if bits & LEFT else 0.0
            levels[base + RIGHT_BLINKER] = blink if bits & RIGHT else 0.0
            levels[base + REVERSE_LAMP] = 0.9 if bits & REVERSE else 0.0
    return levels


def lamp_map(scenery: Scenery, bounds: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """Light of all street lamps on the ground, float32 [rows, columns] of LAMP_CELL metres."""
    x0, y0, x1, y1 = bounds
    out = np.zeros((int((y1 - y0) / LAMP_CELL) + 2, int((x1 - x0) / LAMP_CELL) + 2), np.float32)
    reach = 26
    for lamp in scenery.lamps:
        i, j = int((lamp.x - x0) / LAMP_CELL), int((lamp.y - y0) / LAMP_CELL)
        rows = slice(max(j - reach, 0), max(min(j + reach, out.shape[0]), 0))
        columns = slice(max(i - reach, 0), max(min(i + reach, out.shape[1]), 0))
        ys = np.arange(rows.start, rows.stop)[:, None] * LAMP_CELL + y0 - lamp.y
        xs = np.arange(columns.start, columns.stop)[None] * LAMP_CELL + x0 - lamp.x
        far = np.sqrt(xs**2 + ys**2)
        out[rows, columns] += 0.55 / (1 + (far / 6.0) ** 2) ** 1.5 * np.clip((reach - far) / 8, 0, 1)
    return out


def beams(actors: Sequence[ActorPose], light: Light, eye: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n, 6] of the headlamps that light the scene: position, heading, strength; the nearest to the camera first."""
    found = []
    for actor in actors:
        if actor.mesh_key[0] in ("walker", "prop", "bicycle"):
            continue
        burning = 1.0 if actor.lights & (LOW_BEAM | HIGH_BEAM) else light.night
        strength = 1.8 * burning * (0.25 + 0.75 * light.night) * (1.6 if actor.lights & HIGH_BEAM else 1.0)
        distance = math.hypot(actor.x - eye[0], actor.y - eye[1])
        if strength > 0.02 and distance < 80.0:
            c, s = math.cos(math.radians(actor.yaw)), math.sin(math.radians(actor.yaw))
            reach = actor.mesh_key[1] / 2
            found.append((distance, actor.x + c * reach, actor.y + s * reach, actor.z + 0.65, c, s, strength))
    found.sort()
    return np.array([row[1:] for row in found[:_MAX_BEAMS]], np.float32).reshape(-1, 6)
