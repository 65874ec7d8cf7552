"""Severity-aware Wasserstein training (arXiv 2008.04751): a mistake costs what the ground matrix says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from roadworthy.train.ground import MetricKind
from roadworthy.train.losses import wasserstein
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Setting


@dataclass(frozen=True)
class WassersteinOptions:
    """Options of "wasserstein". The paper starts from a network that was pre-trained with cross-entropy: see `init`."""

    metric: str = "linear"  # the function of the ground matrix: linear, power, huber or step (section III-B)
    rho: float = 2.0  # the power of metric=power
    tau: float = 0.5  # the threshold of metric=huber


class Wasserstein(Objective):
    """Minimise Σ_p softmax_p · cost[true, p] per pixel (eq. 2), with the training's ground matrix."""

    def __init__(self, options: WassersteinOptions, setting: Setting) -> None:
        ground = setting.ground.check(setting.taxonomy)
        metric = ground.with_metric(cast("MetricKind", options.metric), options.rho, options.tau)
        self.cost = torch.tensor(metric.cost, dtype=torch.float32)  # [N, N], truth first

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"wasserstein": loss}."""
        return {"wasserstein": wasserstein(prediction.logits, batch.target, self.cost.to(prediction.logits.device))}
