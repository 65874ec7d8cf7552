"""What the driver sees, as Gymnasium spaces; what fills them is in `roadworthy.runtime.observation`, for the vehicle too."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.observation import (
    COMMANDS,
    LATENT_LIMIT,
    LATENTS_SEEN,
    MAX_DAMAGE_KNS,
    MAX_DISTANCE_M,
    MAX_LATENT_CELLS,
    MAX_SPEED_MPS,
    MEASUREMENTS,
    Latents,
    LatentShape,
    LatentStack,
    Measurements,
    measurement_vector,
    pool_latent,
    pooled_shape,
)
from roadworthy.runtime.segmenter import Segmentation

__all__ = [
    "COMMANDS",
    "LATENTS_SEEN",
    "LATENT_LIMIT",
    "MAX_LATENT_CELLS",
    "MEASUREMENTS",
    "LatentShape",
    "LatentSource",
    "LatentStack",
    "Latents",
    "Measurements",
    "Observation",
    "action_space",
    "measurement_space",
    "measurement_vector",
    "observation_space",
    "observation_spaces",
    "pool_latent",
    "pooled_shape",
]

Observation = dict[str, npt.NDArray[np.generic]]


class LatentSource(Protocol):
    """What turns frames into latents: the runtime's `Segmenter`, best on a latent-only graph, or a test's stand-in."""

    latent_shape: LatentShape | None  # C, h, w; None for a model exported without its latent

    def __call__(self, frames: npt.NDArray[np.uint8]) -> Segmentation:
        """Run frames `uint8 [B, H, W, 3]`; the result's `latent` is `float32 [B, C, h, w]`."""
        ...


def observation_space(latent_shape: LatentShape) -> spaces.Dict:
    """Return the observation space for latents of `latent_shape` (before pooling).

    - `latents` float16 `[2, C, h, w]`: the previous and the current latent, within +-`LATENT_LIMIT`;
    - `measurements` float32 `[9]`: speed 0..60 m/s, distance to the goal along the route 0..20 000 m, collision damage (sum of
      the impulses so far) 0..1000 kN s, then one-hot of the command LEFT, RIGHT, STRAIGHT, LANEFOLLOW, CHANGELANELEFT,
      CHANGELANERIGHT. They are in these units; the policy scales them.
    """
    shape = (LATENTS_SEEN, *pooled_shape(latent_shape))
    return spaces.Dict(
        {"latents": spaces.Box(-LATENT_LIMIT, LATENT_LIMIT, shape, np.float16), "measurements": measurement_space()}
    )


def measurement_space() -> spaces.Box:
    """Return the space of `measurement_vector`, float32 `[9]`; its ranges are in `observation_space`."""
    high = np.array([MAX_SPEED_MPS, MAX_DISTANCE_M, MAX_DAMAGE_KNS, *[1.0] * len(COMMANDS)], np.float32)
    return spaces.Box(np.zeros_like(high), high, dtype=np.float32)


def observation_spaces(space: spaces.Space[Any]) -> dict[str, spaces.Box]:
    """Return the parts of an observation space by name; raises `BadInput` for one that is no Dict of Boxes."""
    parts = dict(space.items()) if isinstance(space, spaces.Dict) else {}
    boxes = {name: part for name, part in parts.items() if isinstance(part, spaces.Box)}
    if not boxes or len(boxes) < len(parts):
        raise BadInput(f"observation space {space}: expected a Dict of Boxes, as the driving environments have")
    return boxes


def action_space() -> spaces.Box:
    """Return the action space: steer, then a1 and a2 with throttle = max(0, a1) and brake = max(0, a2); zero coasts."""
    return spaces.Box(-1.0, 1.0, (3,), np.float32)
