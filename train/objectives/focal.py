"""Focal loss (arXiv 1708.02002): cross-entropy that pays less attention to pixels which are right already."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from roadworthy.train.losses import focal
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Setting


@dataclass(frozen=True)
class FocalOptions:
    """Options of "focal"; the default is the paper's best (its table 1b)."""

    gamma: float = 2.0  # γ, how quickly a pixel's share falls with its probability of the true class; 0 = cross-entropy


class Focal(Objective):
    """Minimise −(1 − p_true)^γ log p_true per pixel (eq. 4)."""

    def __init__(self, options: FocalOptions, setting: Setting) -> None:
        self.gamma = options.gamma

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"focal": loss}."""
        return {"focal": focal(prediction.logits, batch.target, self.gamma)}
