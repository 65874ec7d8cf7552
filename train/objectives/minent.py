"""MinEnt (ADVENT, arXiv 1811.12833, section 3.1): be sure of the target's pixels too."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from roadworthy.train.losses import logit_entropy
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Setting, TargetObjective


@dataclass(frozen=True)
class MinEntOptions:
    """Options of "minent"; the defaults are the published ones."""

    weight: float = 0.001  # λ_ent of the logits
    auxiliary: float = 0.0002  # the same of auxiliary logits, where the segmenter has some


class MinEnt(TargetObjective):
    """Minimise λ times the mean entropy (0 certain to 1 uniform) of the target's pixels (eq. 3 and 4)."""

    frame_terms = frozenset({"entropy", "auxiliary entropy"})

    def __init__(self, options: MinEntOptions, setting: Setting) -> None:
        self.options = options

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"entropy": λ·mean entropy}, and {"auxiliary entropy"} of auxiliary logits."""
        terms = {"entropy": self.options.weight * logit_entropy(target.logits).mean()}
        if target.auxiliary is not None:
            terms["auxiliary entropy"] = self.options.auxiliary * logit_entropy(target.auxiliary).mean()
        return terms
