"""What an objective is: how a segmenter learns, as named loss terms and, with a critic, a schedule of taking turns."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.ground import GroundMatrix
from roadworthy.train.losses import cross_entropy
from roadworthy.train.models.prediction import AUXILIARY_WEIGHT, Prediction


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

    def segmenter_updates(self, iteration: int) -> int:
        """Return how many of the first `iteration` iterations were the segmenter's."""
        turns, rest = divmod(iteration, self.segmenter + self.critic)
        return turns * self.segmenter + min(rest, self.segmenter)

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

    def mean_weight(self, weights: npt.NDArray[np.floating]) -> float:
        """Return the mean of class weights `[N]` over the labelled pixels of the training data (1 where there are none)."""
        pixels = int(self.class_pixels.sum())
        return float((self.class_pixels * weights).sum()) / pixels if pixels else 1.0


class Objective(ABC):
    """A way to learn. `fit` attaches the networks, then asks for losses, by turns as `schedule` says."""

    schedule = Schedule()
    critic: nn.Module | None = None
    segmenter: nn.Module
    # The segmenter's terms that average over frames; all others average over labelled pixels. A batch that is worked through
    # in parts (several processes, or to save memory) is put together again by this. A critic's terms average over frames.
    frame_terms: frozenset[str] = frozenset()

    def attach(self, segmenter: nn.Module, critic: nn.Module | None) -> None:
        """Use these networks from now on (they may be wrapped for devices and precision)."""
        self.segmenter, self.critic = segmenter, critic

    @abstractmethod
    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the segmenter's loss for a prediction as named scalar terms; their sum is minimised."""

    def segmenter_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms whose sum the segmenter minimises.

        A segmenter with an auxiliary head (PSPNet) adds {"auxiliary": 0.4·CE} of that head's logits.
        """
        prediction: Prediction = self.segmenter(batch.frames)
        terms = self.terms(prediction, batch)
        if prediction.auxiliary is not None:
            terms["auxiliary"] = AUXILIARY_WEIGHT * cross_entropy(prediction.auxiliary, batch.target)
        return terms

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms whose sum the critic minimises. Objectives with a critic override it."""
        raise NotImplementedError(f"{type(self).__name__} has no critic, so nothing to train at iteration of a critic")

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return what this objective can show of `batch`: named maps `float32 [B, h, w]` from 0 (dark) to 1 (bright).

        The networks are left as they were: looking at a training does not change it.
        """
        return {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Run the networks in evaluation mode and without gradients, for a while."""
        modules = [module for module in (self.segmenter, self.critic) if module is not None]
        were_training = [module.training for module in modules]
        try:
            with torch.no_grad():
                for module in modules:
                    module.eval()
                yield
        finally:
            for module, was_training in zip(modules, were_training, strict=True):
                module.train(was_training)
