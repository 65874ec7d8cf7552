"""Cross-entropy, plain or with class weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.train.losses import cross_entropy
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Setting

ENET_OFFSET = 1.02  # c of w = 1 / ln(c + share), which bounds the weights to 1.4 .. 50 (arXiv 1606.02147, section 5.2)
MEDIAN_LIMIT = 10.0  # a class much rarer than the median one would otherwise drown all others


@dataclass(frozen=True)
class CrossEntropyOptions:
    """Options of "cross-entropy"."""

    weights: str = "none"  # of the classes: none, enet (1 / ln(1.02 + share)) or median (median share / share, at most 10)


def class_weights(kind: str, class_pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Return class weights `[N]` from pixel counts, or None for "none". Classes without a pixel weigh as much as the rarest."""
    if kind == "none":
        return None
    share = class_pixels / max(1, int(class_pixels.sum()))
    seen = share > 0
    if kind == "enet":
        weights = 1.0 / np.log(ENET_OFFSET + share)
    elif kind == "median":
        median = np.median(share[seen]) if seen.any() else 1.0
        weights = np.minimum(median / np.where(seen, share, 1.0), MEDIAN_LIMIT)
        weights[~seen] = weights[seen].max(initial=1.0)
    else:
        raise BadInput(f"unknown class weights {kind!r}; known: none, enet, median")
    return weights.astype(np.float32)


class CrossEntropy(Objective):
    """Minimise −log p_true per pixel."""

    def __init__(self, options: CrossEntropyOptions, setting: Setting) -> None:
        weights = class_weights(options.weights, setting.class_pixels)
        self.weights = None if weights is None else torch.from_numpy(weights)  # [N]
        self.mean_weight = None if weights is None else setting.mean_weight(weights)

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"cross-entropy": loss}."""
        logits = prediction.logits
        weights = None if self.weights is None else self.weights.to(logits.device)
        return {"cross-entropy": cross_entropy(logits, batch.target, weights, mean_weight=self.mean_weight)}
