"""What the driver sees: the two latest latents and the measurement vector, with their ranges."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmentation

MAX_LATENT_CELLS = (16, 32)  # rows, columns; larger latents are average-pooled to at most this
LATENT_LIMIT = 1_000.0  # latents are clipped to +-this, far beyond what a trained encoder gives; keeps float16 finite
LATENTS_SEEN = 2  # the two most recent
COMMANDS = ("LEFT", "RIGHT", "STRAIGHT", "LANEFOLLOW", "CHANGELANELEFT", "CHANGELANERIGHT")  # CARLA RoadOption 1..6
LANE_FOLLOW = 4  # RoadOption
MAX_SPEED_MPS = 60.0  # [m/s]
MAX_DISTANCE_M = 20_000.0  # [m]
MAX_DAMAGE_KNS = 1_000.0  # [kN s]
MEASUREMENTS = 3 + len(COMMANDS)  # speed, distance to goal, damage, one-hot command

LatentShape = tuple[int, int, int]  # C, h, w
Latents = npt.NDArray[np.float16]
Measurements = npt.NDArray[np.float32]
Observation = dict[str, npt.NDArray[np.generic]]


class LatentSource(Protocol):
    """What turns frames into latents: the runtime's `Segmenter`, best on a latent-only graph, or a test's stand-in."""

    latent_shape: LatentShape | None  # C, h, w; None for a model exported without its latent

    def __call__(self, frames: npt.NDArray[np.uint8]) -> Segmentation:
        """Run frames `uint8 [B, H, W, 3]`; the result's `latent` is `float32 [B, C, h, w]`."""
        ...


def pooled_shape(shape: LatentShape) -> LatentShape:
    """Return the shape of a latent `[C, h, w]` after pooling to at most `MAX_LATENT_CELLS`."""
    channels, rows, columns = shape
    return channels, _pooled(rows, MAX_LATENT_CELLS[0]), _pooled(columns, MAX_LATENT_CELLS[1])


def _pooled(cells: int, limit: int) -> int:
    factor = -(-cells // limit)
    return -(-cells // factor)


def pool_latent(latent: npt.NDArray[np.float32]) -> Latents:
    """Average-pool latents `[B, C, h, w]` to at most 16 x 32 cells, clip and store them as float16.

    Windows are whole cells; a last window that overhangs averages the cells that exist.
    """
    pooled: npt.NDArray[np.floating] = latent
    for axis, limit in ((2, MAX_LATENT_CELLS[0]), (3, MAX_LATENT_CELLS[1])):
        factor = -(-pooled.shape[axis] // limit)
        if factor > 1:
            starts = np.arange(0, pooled.shape[axis], factor)
            sums = np.add.reduceat(pooled, starts, axis=axis)
            counts = np.diff(np.append(starts, pooled.shape[axis])).astype(np.float32)
            pooled = sums / counts.reshape([-1 if a == axis else 1 for a in range(4)])
    stored: Latents = np.clip(pooled, -LATENT_LIMIT, LATENT_LIMIT).astype(np.float16)
    return stored


def observation_space(latent_shape: LatentShape) -> spaces.Dict:
    """Return the observation space for latents of `latent_shape` (before pooling).

    - `latents` float16 `[2, C, h, w]`: the previous and the current latent, within +-`LATENT_LIMIT`;
    - `measurements` float32 `[9]`: speed 0..60 m/s, distance to the goal along the route 0..20 000 m, collision damage (sum of
      the impulses so far) 0..1000 kN s, then one-hot of the command LEFT, RIGHT, STRAIGHT, LANEFOLLOW, CHANGELANELEFT,
      CHANGELANERIGHT. They are in these units; the policy scales them.
    """
    high = np.array([MAX_SPEED_MPS, MAX_DISTANCE_M, MAX_DAMAGE_KNS, *[1.0] * len(COMMANDS)], np.float32)
    shape = (LATENTS_SEEN, *pooled_shape(latent_shape))
    return spaces.Dict(
        {
            "latents": spaces.Box(-LATENT_LIMIT, LATENT_LIMIT, shape, np.float16),
            "measurements": spaces.Box(np.zeros_like(high), high, dtype=np.float32),
        }
    )


def action_space() -> spaces.Box:
    """Return the action space: steer, then a1 and a2 with throttle = max(0, a1) and brake = max(0, a2); zero coasts."""
    return spaces.Box(-1.0, 1.0, (3,), np.float32)


def measurement_vector(speed_mps: float, distance_m: float, damage_kns: float, command: int) -> Measurements:
    """Build the measurement vector `float32 [9]`; `command` is a CARLA RoadOption 1..6. Values are clipped to their ranges."""
    if not 1 <= command <= len(COMMANDS):
        raise BadInput(
            f"command {command} is not a RoadOption that a route has, expected 1..{len(COMMANDS)} ({', '.join(COMMANDS)})"
        )
    vector = np.zeros(MEASUREMENTS, np.float32)
    vector[0] = np.clip(speed_mps, 0.0, MAX_SPEED_MPS)
    vector[1] = np.clip(distance_m, 0.0, MAX_DISTANCE_M)
    vector[2] = np.clip(damage_kns, 0.0, MAX_DAMAGE_KNS)
    vector[2 + command] = 1.0
    return vector


class LatentStack:
    """The two most recent latents, oldest first; the first latent of an episode stands for both."""

    def __init__(self) -> None:
        self._recent: deque[Latents] = deque(maxlen=LATENTS_SEEN)

    def clear(self) -> None:
        """Forget everything (a new episode begins)."""
        self._recent.clear()

    def push(self, latent: Latents) -> Latents:
        """Add a latent `float16 [C, h, w]` and return the stack `float16 [2, C, h, w]`."""
        self._recent.append(latent)
        if len(self._recent) < LATENTS_SEEN:
            self._recent.append(latent)
        return np.stack(self._recent)
