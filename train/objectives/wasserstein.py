"""Severity-aware Wasserstein training (arXiv 2008.04751): a mistake costs what the ground matrix says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.train.ground import MetricKind
from roadworthy.train.losses import one_hot, sinkhorn_wasserstein, step_wasserstein, wasserstein
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Setting


@dataclass(frozen=True)
class WassersteinOptions:
    """Options of "wasserstein". The paper starts from a network that was pre-trained with cross-entropy: see `init`."""

    metric: str = "linear"  # the function of the ground matrix: linear, power, huber or step (section III-B)
    rho: float = 2.0  # the power of metric=power
    tau: float = 0.5  # the threshold of metric=huber
    smoothing: float = 0.0  # mass of a target that is spread over all classes; above 0 the target is conservative
    epsilon: float = 0.1  # of Sinkhorn's regularisation, for conservative targets
    iterations: int = 50  # of Sinkhorn


class Wasserstein(Objective):
    """Minimise the Wasserstein distance to the target per pixel, with the training's ground matrix.

    Against a one-hot target it is Σ_p softmax_p · cost[true, p] (eq. 2). Against a conservative one it takes Sinkhorn's
    iterations, or with metric=step half the ℓ1 distance (eq. 5).
    """

    def __init__(self, options: WassersteinOptions, setting: Setting) -> None:
        if not 0 <= options.smoothing < 1:
            raise BadInput(
                f"option smoothing of objective 'wasserstein' is {options.smoothing}, expected 0 or more and below 1"
            )
        if not options.epsilon > 0 or options.iterations < 1:
            raise BadInput(
                f"options epsilon and iterations of objective 'wasserstein' are {options.epsilon} and {options.iterations}, "
                "expected a number above 0 and at least 1"
            )
        ground = setting.ground.check(setting.taxonomy)
        metric = ground.with_metric(cast("MetricKind", options.metric), options.rho, options.tau)
        self.options = options
        self.cost = torch.tensor(metric.cost, dtype=torch.float32)  # [N, N], truth first

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"wasserstein": loss}."""
        logits, options = prediction.logits, self.options
        cost = self.cost.to(logits.device)
        if options.smoothing == 0:
            return {"wasserstein": wasserstein(logits, batch.target, cost)}
        certain = one_hot(batch.target, logits.shape[1])  # [B, N, H, W], all zero without a label
        even = options.smoothing / logits.shape[1]
        target = (1 - options.smoothing) * certain + even * certain.sum(1, keepdim=True)  # [B, N, H, W]
        if options.metric == "step":
            return {"wasserstein": step_wasserstein(logits, target)}
        return {"wasserstein": sinkhorn_wasserstein(logits, target, cost, options.epsilon, options.iterations)}
