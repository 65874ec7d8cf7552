"""Importance-aware segmentation (arXiv 2008.04751, section II): mistakes on important classes cost more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from roadworthy.train.ground import importance_weights, load_groups
from roadworthy.train.losses import importance_aware
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Setting

OWN_GROUPS = "taxonomy"  # the option that stands for the groups which the taxonomy brings


@dataclass(frozen=True)
class ImportanceAwareOptions:
    """Options of "importance-aware"."""

    groups: str = OWN_GROUPS  # taxonomy = its groups 4 (most important) to 1; or a YAML file, see ground.load_groups


class ImportanceAware(Objective):
    """Minimise the cross-entropy times the importance of the true class, whose mean over the data's pixels is 1."""

    def __init__(self, options: ImportanceAwareOptions, setting: Setting) -> None:
        own = options.groups == OWN_GROUPS
        weights = importance_weights(setting.taxonomy) if own else load_groups(Path(options.groups), setting.taxonomy)
        self.weights = torch.tensor(weights)  # [N]
        self.mean_weight = setting.mean_weight(np.array(weights))

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"importance-aware": loss}."""
        weights = self.weights.to(prediction.logits.device)
        loss = importance_aware(prediction.logits, batch.target, weights, mean_weight=self.mean_weight)
        return {"importance-aware": loss}
