"""What an objective is: how a segmenter learns, as named loss terms and, with a critic, a schedule of taking turns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.ground import GroundMatrix
from roadworthy.train.models.prediction import Prediction


class Batch(NamedTuple):
    """What an objective learns from: normalised `frames float32 [B, 3, H, W]`, `target int64 [B, H, W]` (255 = ignored)."""

    frames: Tensor
    target: Tensor


@dataclass(frozen=True)
class Schedule:
    """How the two players take turns: `segmenter` updates, then `critic` updates, and so on; the segmenter begins."""

    segmenter: int = 1
    critic: int = 0

    def is_critic(self, iteration: int) -> bool:
        """Tell whose turn `iteration` (from 0, both players' updates counted) is."""
        return iteration % (self.segmenter + self.critic) >= self.segmenter

    def iterations(self, segmenter_steps: int) -> int:
        """Return how many iterations of both players it takes until the segmenter had `segmenter_steps` updates."""
        full_turns = (segmenter_steps - 1) // self.segmenter
        return segmenter_steps + full_turns * self.critic


@dataclass(frozen=True)
class Setting:
    """The facts of a training that an objective may build on."""

    model: str  # the segmenter's name
    taxonomy: Taxonomy
    class_pixels: npt.NDArray[np.int64]  # [N], labelled pixels per class in the training data
    ground: GroundMatrix
    steps: int  # updates of the segmenter in all


class Objective(ABC):
    """A way to learn. `fit` attaches the networks, then asks for losses, by turns as `schedule` says."""

    schedule = Schedule()
    critic: nn.Module | None = None
    segmenter: nn.Module

    def attach(self, segmenter: nn.Module, critic: nn.Module | None) -> None:
        """Use these networks from now on (they may be wrapped for devices and precision)."""
        self.segmenter, self.critic = segmenter, critic

    @abstractmethod
    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the segmenter's loss for a prediction as named scalar terms; their sum is minimised."""

    def segmenter_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms whose sum the segmenter minimises."""
        return self.terms(self.segmenter(batch.frames), batch)

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms whose sum the critic minimises. Objectives with a critic override it."""
        raise NotImplementedError(f"{type(self).__name__} has no critic, so nothing to train at iteration of a critic")
