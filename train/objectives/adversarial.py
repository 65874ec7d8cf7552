"""Conventional adversarial training (arXiv 1908.02711, section 3.1): a discriminator tells predictions from labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.losses import cross_entropy, one_hot
from roadworthy.train.models.patchgan import PatchGan
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Schedule, Setting


@dataclass(frozen=True)
class AdversarialOptions:
    """Options of "adversarial"."""

    weight: float = 0.1  # λ of eq. 2; the paper gives no value for its baselines. At 1 the term can drown the labels
    segmenter_steps: int = 1  # updates of the segmenter per turn
    discriminator_steps: int = 1  # updates of the discriminator per turn


class Adversarial(Objective):
    """Minimise CE + λ·BCE(d(x, ŷ), 1) (eq. 2, non-saturating), against a PatchGAN that is conditioned on the frame.

    Pixels without a label are blank in what the discriminator sees, labels and prediction alike: they contribute nothing.
    """

    frame_terms = frozenset({"adversarial"})

    def __init__(self, options: AdversarialOptions, setting: Setting) -> None:
        if options.segmenter_steps < 1 or options.discriminator_steps < 1:
            raise BadInput("an adversarial objective needs segmenter_steps and discriminator_steps of at least 1")
        if setting.steps <= options.segmenter_steps:
            raise BadInput(
                f"with {setting.steps} steps in all and segmenter_steps={options.segmenter_steps} the discriminator would "
                "never have a turn; train longer, or take shorter turns"
            )
        self.weight = options.weight
        self.schedule = Schedule(options.segmenter_steps, options.discriminator_steps)
        self.critic = PatchGan(3 + len(setting.taxonomy))

    def predicted(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return frames and probabilities joined, `[B, 3 + N, H, W]`, blank where there is no label."""
        labelled = (batch.target != IGNORE).unsqueeze(1)  # [B, 1, H, W]
        return torch.cat((batch.frames, torch.softmax(logits, 1) * labelled), 1)

    def labelled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return frames and one-hot labels joined, `[B, 3 + N, H, W]`, blank where there is no label."""
        return torch.cat((batch.frames, one_hot(batch.target, logits.shape[1])), 1)

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"cross-entropy": CE, "adversarial": λ·BCE(d(x, ŷ), 1)}."""
        assert self.critic is not None
        scores = self.critic(self.predicted(prediction.logits, batch))  # [B, h, w]
        return {
            "cross-entropy": cross_entropy(prediction.logits, batch.target),
            "adversarial": self.weight * F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores)),
        }

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"discriminator": BCE(d(x, ŷ), 0) + BCE(d(x, y), 1)} (eq. 1); the segmenter is frozen."""
        assert self.critic is not None
        with torch.no_grad():
            logits = self.segmenter(batch.frames).logits
        fake = self.critic(self.predicted(logits, batch))  # [B, h, w]
        real = self.critic(self.labelled(logits, batch))  # [B, h, w]
        on_fake = F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        return {"discriminator": on_fake + F.binary_cross_entropy_with_logits(real, torch.ones_like(real))}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"realness": what the discriminator takes each patch of the prediction for, 0 fake to 1 real}, `[B, h, w]`."""
        with self.watching():
            assert self.critic is not None
            scores = self.critic(self.predicted(self.segmenter(batch.frames).logits, batch))
            return {"realness": torch.sigmoid(scores).float()}
