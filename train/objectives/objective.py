"""What an objective is: how a segmenter learns, as named loss terms and, with a critic, a schedule of taking turns.

One that adapts to a target domain also sees frames of it that nobody labelled: those of the source and those of the target
go through the segmenter together, so that normalisations over a batch see both domains.
"""

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
from roadworthy.train.losses import cross_entropy, entropy
from roadworthy.train.models.prediction import Prediction


class Batch(NamedTuple):
    """What an objective learns from: normalised `frames float32 [B, 3, H, W]`, `target int64 [B, H, W]` (255 = ignored).

    With a target domain also its frames without labels, `unlabelled float32 [U, 3, H, W]`, and in self-training the soft
    labels that an earlier network gave them, `pseudo float32 [U, N, H, W]`, all zero where it gave none.
    """

    frames: Tensor
    target: Tensor
    unlabelled: Tensor | None = None
    pseudo: Tensor | None = None


@dataclass(frozen=True)
class Schedule:
    """How the two players take turns: `segmenter` updates, then `critic` updates, and so on; the segmenter begins.

    With `together` there are no turns: every iteration updates both on one batch, the critic on what the segmenter made of
    it before its update.
    """

    segmenter: int = 1
    critic: int = 0
    together: bool = False

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
    generator: nn.Module | None = None  # learns with the segmenter, from the same loss
    segmenter: nn.Module
    supervised = True  # whether it learns from labels; what does not can only be a term beside one that does
    adapts = False  # whether it learns from unlabelled frames of the target domain
    wants_pseudo = False  # whether those need pseudo-labels
    # The segmenter's terms that average over frames; all others average over labelled pixels. A batch that is worked through
    # in parts (several processes, or to save memory) is put together again by this. A critic's terms average over frames.
    frame_terms: frozenset[str] = frozenset()
    pseudo_terms: frozenset[str] = frozenset()  # those that average over pseudo-labelled pixels instead

    def attach(self, segmenter: nn.Module, critic: nn.Module | None, generator: nn.Module | None = None) -> None:
        """Use these networks from now on (they may be wrapped for devices and precision)."""
        self.segmenter, self.critic = segmenter, critic
        if generator is not None:
            self.generator = generator

    @abstractmethod
    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the segmenter's loss for a prediction as named scalar terms; their sum is minimised."""

    def segmenter_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named scalar terms whose sum the segmenter minimises.

        A segmenter with an auxiliary head (PSPNet) adds {"auxiliary": 0.4·CE} of that head's logits.
        """
        source, target = self.predict(batch)
        terms = self.terms(source, batch)
        if source.auxiliary is not None:
            terms["auxiliary"] = source.auxiliary_weight * cross_entropy(source.auxiliary, batch.target)
        if target is not None:
            terms |= self.target_terms(source, target, batch)
        return terms

    def predict(self, batch: Batch) -> tuple[Prediction, Prediction | None]:
        """Return the segmenter's predictions for the labelled frames and, if the objective adapts, for the unlabelled ones."""
        if not self.adapts:
            prediction: Prediction = self.segmenter(batch.frames)
            return prediction, None
        assert batch.unlabelled is not None  # `fit` sees to it
        both: Prediction = self.segmenter(torch.cat((batch.frames, batch.unlabelled)))  # [B + U, 3, H, W]
        return both.split(len(batch.frames))

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that an objective which adapts adds for the target's frames (and may make of the source's)."""
        return {}

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
        modules = [module for module in (self.segmenter, self.critic, self.generator) if module is not None]
        were_training = [module.training for module in modules]
        try:
            with torch.no_grad():
                for module in modules:
                    module.eval()
                yield
        finally:
            for module, was_training in zip(modules, were_training, strict=True):
                module.train(was_training)


class TargetObjective(Objective):
    """A term for the target's frames alone, to be added to an objective that learns from labels."""

    supervised = False
    adapts = True

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return nothing: the labels are the other terms' matter."""
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"entropy": how unsure the segmenter is of each pixel}, `[B, H, W]`."""
        with self.watching():
            logits = self.segmenter(batch.frames).logits.float()
            return {"entropy": entropy(torch.softmax(logits, 1)).clamp(0, 1)}
