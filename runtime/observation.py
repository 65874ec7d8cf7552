"""What a driver sees, without a simulator: the two latest latents, pooled, and the measurement vector with its ranges.

The driving environment and the vehicle build their observations with these same functions.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput

MAX_LATENT_CELLS = (16, 32)  # rows, columns; larger latents are average-pooled to at most this
LATENT_LIMIT = 1_000.0  # latents are clipped to +-this, far beyond what a trained encoder gives; keeps float16 finite
LATENTS_SEEN = 2  # the two most recent
COMMANDS = ("LEFT", "RIGHT", "STRAIGHT", "LANEFOLLOW", "CHANGELANELEFT", "CHANGELANERIGHT")  # CARLA RoadOption 1..6
MAX_SPEED_MPS = 60.0  # [m/s]
MAX_DISTANCE_M = 20_000.0  # [m]
MAX_DAMAGE_KNS = 1_000.0  # [kN s]
MEASUREMENTS = 3 + len(COMMANDS)  # speed, distance to goal, damage, one-hot command

LatentShape = tuple[int, int, int]  # C, h, w
Latents = npt.NDArray[np.float16]
Measurements = npt.NDArray[np.float32]


def pooled_shape(shape: LatentShape) -> LatentShape:
    """Return the shape of a latent `[C, h, w]` after pooling to at most `MAX_LATENT_CELLS`."""
    channels, rows, columns = shape
    return channels, _pooled(rows, MAX_LATENT_CELLS[0]), _pooled(columns, MAX_LATENT_CELLS[1])


def _pooled(cells: int, limit: int) -> int:
    return -(-cells // pooling_factor(cells, limit))


def pooling_factor(cells: int, limit: int) -> int:
    """Return how many `cells` in a row become one, so that at most `limit` are left."""
    return -(-cells // limit)


def pool_latent(latent: npt.NDArray[np.float32]) -> Latents:
    """Average-pool latents `[B, C, h, w]` to at most 16 x 32 cells, clip and store them as float16.

    Windows are whole cells; a last window that overhangs averages the cells that exist.
    """
    pooled: npt.NDArray[np.floating] = latent
    for axis, limit in ((2, MAX_LATENT_CELLS[0]), (3, MAX_LATENT_CELLS[1])):
        factor = pooling_factor(pooled.shape[axis], limit)
        if factor > 1:
            starts = np.arange(0, pooled.shape[axis], factor)
            sums = np.add.reduceat(pooled, starts, axis=axis)
            counts = np.diff(np.append(starts, pooled.shape[axis])).astype(np.float32)
            pooled = sums / counts.reshape([-1 if a == axis else 1 for a in range(4)])
    stored: Latents = np.clip(pooled, -LATENT_LIMIT, LATENT_LIMIT).astype(np.float16)
    return stored


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
