"""EL-GAN (arXiv 1806.05525; eq. 3 of 1908.02711): the prediction should look to the discriminator as the labels do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from roadworthy.train.losses import cross_entropy, embedding_distance
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.adversarial import Adversarial, AdversarialOptions
from roadworthy.train.objectives.objective import Batch


@dataclass(frozen=True)
class ElGanOptions(AdversarialOptions):
    """Options of "el-gan": those of "adversarial"."""


class ElGan(Adversarial):
    """Minimise CE + λ·‖d_e(x, ŷ) − d_e(x, y)‖₂, with d_e the last hidden map of the discriminator of eq. 1."""

    frame_terms = frozenset({"embedding"})

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"cross-entropy": CE, "embedding": λ·distance}; the gradient flows through the prediction's side alone."""
        assert self.critic is not None
        logits = prediction.logits
        with torch.no_grad():
            true = self.critic(self.labelled(logits, batch), embed=True)  # [B, E, h, w]
        predicted = self.critic(self.predicted(logits, batch), embed=True)  # [B, E, h, w]
        return {
            "cross-entropy": cross_entropy(logits, batch.target),
            "embedding": self.weight * embedding_distance(predicted, true),
        }
