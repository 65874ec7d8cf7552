"""Self-training's loss: learn the pseudo-labels that an earlier network gave the target's pixels (see `train.rounds`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.train.losses import sinkhorn_wasserstein, soft_cross_entropy, step_wasserstein
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Setting, TargetObjective
from roadworthy.train.selftraining import MRKLD_ALPHA, divergence_regularised_cross_entropy

LOSSES = ("cross-entropy", "divergence", "wasserstein", "l1")


@dataclass(frozen=True)
class SelfTrainingOptions:
    """Options of "self-training"."""

    loss: str = "cross-entropy"  # on the soft labels; divergence (MRKLD), wasserstein (Sinkhorn) or l1, its step metric's case
    weight: float = 1.0  # beside the labelled frames' loss
    alpha: float = MRKLD_ALPHA  # of loss=divergence, how much the network is kept from being too sure
    epsilon: float = 0.1  # of Sinkhorn's regularisation
    iterations: int = 50  # of Sinkhorn


class SelfTraining(TargetObjective):
    """Minimise a loss against soft pseudo-labels, averaged over the pixels that have one (CRST, arXiv 1908.09822).

    With loss=wasserstein it is the transport cost under the training's ground matrix (arXiv 2008.04751, section III-A), with
    l1 half the ℓ1 distance (its eq. 5).
    """

    wants_pseudo = True
    pseudo_terms = frozenset({"pseudo-labels"})

    def __init__(self, options: SelfTrainingOptions, setting: Setting) -> None:
        if options.loss not in LOSSES:
            raise BadInput(f"option loss of objective 'self-training' is {options.loss!r}, expected one of {', '.join(LOSSES)}")
        if not options.epsilon > 0 or options.iterations < 1:
            raise BadInput(
                f"options epsilon and iterations of objective 'self-training' are {options.epsilon} and {options.iterations}, "
                "expected a number above 0 and at least 1"
            )
        self.options = options
        ground = setting.ground.check(setting.taxonomy)
        self.cost = torch.tensor(ground.cost, dtype=torch.float32)  # [N, N], truth first

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"pseudo-labels": the weighted loss}."""
        assert batch.pseudo is not None
        options, logits, soft = self.options, target.logits, batch.pseudo  # [U, N, H, W] both
        if options.loss == "cross-entropy":
            loss = soft_cross_entropy(logits, soft)
        elif options.loss == "divergence":
            loss = divergence_regularised_cross_entropy(logits, soft, options.alpha)
        elif options.loss == "l1":
            loss = step_wasserstein(logits, soft)
        else:
            loss = sinkhorn_wasserstein(logits, soft, self.cost.to(logits.device), options.epsilon, options.iterations)
        return {"pseudo-labels": options.weight * loss}
