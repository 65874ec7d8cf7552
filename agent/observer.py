"""What an environment shows its driver of each moment: the one thing in which the driving environments differ.

An observer belongs to one ego, as it may remember earlier moments; several may share a loaded model.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.ego import Moment
from roadworthy.agent.observation import (
    LATENTS_SEEN,
    LatentSource,
    LatentStack,
    Measurements,
    Observation,
    measurement_space,
    observation_space,
    pool_latent,
)
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmenter


class Observer(Protocol):
    """How one ego's driver sees."""

    cameras: tuple[str, ...]  # kinds of `sensor.camera.<kind>` it needs beside the colour camera
    space: spaces.Dict

    def forget(self) -> None:
        """Forget earlier moments (a new episode begins, or the car was put elsewhere)."""
        ...

    def observe(self, moment: Moment, measurements: Measurements) -> Observation:
        """Return what the driver sees of `moment`, an element of `space`."""
        ...

    def paint(self, moment: Moment) -> npt.NDArray[np.uint8] | None:
        """Return the labels that this observer's model predicts, painted `uint8 [H, W, 3]`; None if it has none."""
        ...


class LatentObserver:
    """The two most recent latents of a segmenter: `roadworthy/Drive-v0`."""

    cameras: tuple[str, ...] = ()

    def __init__(self, segmenter: LatentSource) -> None:
        """Show the latents of `segmenter`; raises `BadInput` if it gives none."""
        if segmenter.latent_shape is None:
            name = segmenter.path if isinstance(segmenter, Segmenter) else type(segmenter).__name__
            raise BadInput(f"{name}: this model gives no latent; export it with its latent output to drive on it")
        self.space = observation_space(segmenter.latent_shape)
        self._segmenter = segmenter
        self._latents = LatentStack()

    def forget(self) -> None:
        """Forget the previous latent."""
        self._latents.clear()

    def observe(self, moment: Moment, measurements: Measurements) -> Observation:
        """Return `latents` float16 `[2, C, h, w]` and `measurements` float32 `[9]`."""
        latent = self._segmenter(moment.frame[None]).latent  # [1, C, h, w]
        assert latent is not None
        return {"latents": self._latents.push(pool_latent(latent)[0]), "measurements": measurements}

    def paint(self, moment: Moment) -> npt.NDArray[np.uint8] | None:
        """Return the model's labels in its own palette, if it was exported with labels."""
        if not isinstance(self._segmenter, Segmenter) or "labels" not in self._segmenter.outputs:
            return None
        labels = self._segmenter(moment.frame[None]).labels
        assert labels is not None
        return self._segmenter.metadata.lookup_taxonomy().colourise(labels[0])


class FrameObserver:
    """The two most recent colour frames, for whoever computes their latents elsewhere: `roadworthy.agent.latents`."""

    cameras: tuple[str, ...] = ()

    def __init__(self, height_px: int, width_px: int) -> None:
        """Show frames of `height_px` x `width_px`."""
        frames = spaces.Box(0, 255, (LATENTS_SEEN, height_px, width_px, 3), np.uint8)
        self.space = spaces.Dict({"frames": frames, "measurements": measurement_space()})
        self._previous: npt.NDArray[np.uint8] | None = None

    def forget(self) -> None:
        """Forget the previous frame."""
        self._previous = None

    def observe(self, moment: Moment, measurements: Measurements) -> Observation:
        """Return `frames` uint8 `[2, H, W, 3]`, oldest first, an episode's first for both, and `measurements` float32 `[9]`."""
        previous = moment.frame if self._previous is None else self._previous
        self._previous = moment.frame
        return {"frames": np.stack([previous, moment.frame]), "measurements": measurements}

    def paint(self, moment: Moment) -> None:
        """No prediction."""
