"""Demonstrated steps as a driver would have seen them: the part of imitation that depends on the kind of observation."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.observation import Latents, observation_space
from roadworthy.agent.policy import DrivePolicy, LatentMeasurementExtractor
from roadworthy.agent.segdepth import MAX_DEPTH_M, VOID, segdepth_space
from roadworthy.runtime.errors import BadInput

LATENT_BLOCK_CELLS = 4  # side of a hidden block
MAP_BLOCK_PX = 16  # the same part of the picture in a thinned map

Numbers = npt.NDArray[np.int64]


class Lesson(Protocol):
    """What the demonstrated steps look like to one kind of driver."""

    space: spaces.Dict

    def prepare(self, policy: DrivePolicy, sample: Numbers) -> None:
        """Fit what the policy knows beforehand, such as scales, to the steps of `sample`."""
        ...

    def seen(self, chosen: Numbers) -> dict[str, Tensor]:
        """Return the observations of the steps `chosen`, all parts but the measurements, each `[B, ...]`."""
        ...

    def hide(self, seen: dict[str, Tensor], share: float, rng: np.random.Generator) -> None:
        """Hide random blocks of what is seen, a `share` of all, in place.

        A policy that has learned a junction by heart does not listen to the command; one that sees it in parts must.
        """
        ...


class LatentLesson:
    """Two latents of a segmenter."""

    def __init__(self, latents: Latents, demonstrations: Demonstrations) -> None:
        """Use `latents` `[N, C, h, w]`, those of the demonstrated frames."""
        channels, rows, columns = latents.shape[1:]
        self.space = observation_space((channels, rows, columns))
        self._latents, self._demonstrations = latents, demonstrations
        self._neutral: Tensor | None = None  # [2C] each channel's mean

    def prepare(self, policy: DrivePolicy, sample: Numbers) -> None:
        """Standardise each channel."""
        assert isinstance(policy.trunk, LatentMeasurementExtractor)
        policy.trunk.normalise_to(torch.from_numpy(self._latents[sample]))
        self._neutral = policy.trunk.latent_mean

    def seen(self, chosen: Numbers) -> dict[str, Tensor]:
        """Return `latents [B, 2, C, h, w]`."""
        pairs = np.stack([self._latents[self._demonstrations.previous(chosen)], self._latents[chosen]], axis=1)
        return {"latents": torch.from_numpy(pairs).float()}

    def hide(self, seen: dict[str, Tensor], share: float, rng: np.random.Generator) -> None:
        """Replace blocks by each channel's mean."""
        assert self._neutral is not None, "prepare() comes first"
        latents = seen["latents"]
        batch, times, channels, rows, columns = latents.shape
        mask = _blocks((batch, rows, columns), LATENT_BLOCK_CELLS, share, rng)  # [B, h, w]
        neutral = self._neutral.view(1, times, channels, 1, 1)
        latents.copy_(torch.where(mask[:, None, None], neutral, latents))


class SegDepthLesson:
    """The true label map, and depth."""

    def __init__(self, demonstrations: Demonstrations) -> None:
        """Use the maps of `demonstrations`; raises `BadInput` if they were recorded without."""
        if demonstrations.segmentation is None or demonstrations.depth is None:
            raise BadInput(
                "these demonstrations were recorded without label maps and depth; record them again with this version"
            )
        rows, columns = demonstrations.segmentation.shape[1:]
        self.space = segdepth_space(rows, columns)
        self._segmentation, self._depth = demonstrations.segmentation, demonstrations.depth

    def prepare(self, policy: DrivePolicy, sample: Numbers) -> None:
        """Nothing to fit: classes and metres are what they are."""

    def seen(self, chosen: Numbers) -> dict[str, Tensor]:
        """Return `segmentation [B, h, w]` and `depth [B, h, w]`."""
        return {
            "segmentation": torch.from_numpy(self._segmentation[chosen]),
            "depth": torch.from_numpy(self._depth[chosen]).float(),
        }

    def hide(self, seen: dict[str, Tensor], share: float, rng: np.random.Generator) -> None:
        """Replace blocks by void, infinitely far away."""
        shape = seen["segmentation"].shape
        mask = _blocks((shape[0], shape[1], shape[2]), MAP_BLOCK_PX, share, rng)  # [B, h, w]
        seen["segmentation"].masked_fill_(mask, VOID)
        seen["depth"].masked_fill_(mask, MAX_DEPTH_M)


def _blocks(shape: tuple[int, int, int], side: int, share: float, rng: np.random.Generator) -> Tensor:
    """Return a mask `[B, h, w]` of random square blocks."""
    batch, rows, columns = shape
    blocks = torch.from_numpy(rng.random((batch, -(-rows // side), -(-columns // side))) < share)
    return blocks.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :rows, :columns]
