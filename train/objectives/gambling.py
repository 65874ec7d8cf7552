"""Gambling adversarial networks (arXiv 1908.02711): a gambler bets on where the segmenter is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.losses import betting_map, gambling, pixel_cross_entropy, pixel_mean, staked
from roadworthy.train.models.gambler import build_gambler
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective, Schedule, Setting


@dataclass(frozen=True)
class GamblingOptions:
    """Options of "gambling"; the defaults are the paper's for Cityscapes with U-Net (its supplement)."""

    weight: float = 1.0  # λ, the weight of the adversarial term beside the cross-entropy
    beta: float = 0.02  # β, the smoothing of the betting map
    segmenter_steps: int = 200  # updates of the segmenter per turn
    gambler_steps: int = 400  # updates of the gambler per turn
    literal: bool = False  # divide the adversarial term by W·H too, as eq. 4 prints it


class Gambling(Objective):
    """Minimise CE + λ·Σ bets·CE, while the gambler maximises Σ bets·CE with its bets (eq. 5 and 4).

    Pixels without a label are blank in the prediction that the gambler sees: they contribute nothing.
    """

    frame_terms = frozenset({"gambling"})

    def __init__(self, options: GamblingOptions, setting: Setting) -> None:
        if options.segmenter_steps < 1 or options.gambler_steps < 1:
            raise BadInput("gambling needs segmenter_steps and gambler_steps of at least 1: the players take turns")
        if setting.steps <= options.segmenter_steps:
            raise BadInput(
                f"with {setting.steps} steps in all and segmenter_steps={options.segmenter_steps} the gambler would never "
                "have a turn; train longer, or take shorter turns: gambling(segmenter_steps=10, gambler_steps=20)"
            )
        self.options = options
        self.schedule = Schedule(options.segmenter_steps, options.gambler_steps)
        self.critic = build_gambler(setting.model, len(setting.taxonomy))

    def bets(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the gambler's betting maps `[B, H, W]` for logits `[B, N, H, W]`; each sums to 1."""
        assert self.critic is not None
        labelled = (batch.target != IGNORE).unsqueeze(1)  # [B, 1, H, W]
        scores: Tensor = self.critic(batch.frames, torch.softmax(logits, 1) * labelled)  # [B, H, W]
        return betting_map(scores, self.options.beta)

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"cross-entropy": CE, "gambling": λ·Σ bets·CE}; the gradient also flows through the gambler (flow B)."""
        bets = self.bets(prediction.logits, batch)  # [B, H, W]
        losses = pixel_cross_entropy(prediction.logits, batch.target)  # [B, H, W], shared by both terms
        return {
            "cross-entropy": pixel_mean(losses, batch.target),
            "gambling": self.options.weight * staked(losses, bets, literal=self.options.literal),
        }

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"gambler": −Σ bets·CE}; the segmenter is frozen."""
        with torch.no_grad():
            logits = self.segmenter(batch.frames).logits
        bets = self.bets(logits, batch)  # [B, H, W]
        return {"gambler": -gambling(logits, batch.target, bets, literal=self.options.literal)}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"bets": betting maps}, each divided by its highest bet."""
        with self.watching():
            bets = self.bets(self.segmenter(batch.frames).logits, batch)  # [B, H, W]
            return {"bets": (bets / bets.amax((1, 2), keepdim=True)).float()}
