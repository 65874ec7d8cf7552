"""AdvEnt (ADVENT, arXiv 1811.12833, section 3.2): make the target's uncertainty look like the source's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.train.losses import logit_self_information
from roadworthy.train.models import MODELS
from roadworthy.train.models.domain import DomainDiscriminator
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Schedule, Setting, TargetObjective


@dataclass(frozen=True)
class AdvEntOptions:
    """Options of "advent"; the defaults are the published ones."""

    weight: float = 0.001  # λ_adv of the logits
    auxiliary: float = 0.0002  # the same of auxiliary logits, where the segmenter has some


class AdvEnt(TargetObjective):
    """Minimise λ·BCE(D(I_target), 1) against a discriminator D that tells weighted self-information maps I apart (eq. 6, 7).

    The source is 1, the target 0. A segmenter with auxiliary logits has a discriminator for each of its two levels. Both
    players learn in every iteration, from one forward pass of the segmenter.
    """

    schedule = Schedule(together=True)
    frame_terms = frozenset({"domain", "auxiliary domain"})

    def __init__(self, options: AdvEntOptions, setting: Setting) -> None:
        self.options = options
        self.two_level = MODELS[setting.model].two_level
        self.critic = DomainDiscriminator(len(setting.taxonomy), 2 if self.two_level else 1)
        self._seen: tuple[Batch, list[Tensor]] | None = None  # of the batch that the segmenter learnt from last

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"domain": λ·BCE(D(I_target), 1)}, and {"auxiliary domain"} of the second level."""
        assert self.critic is not None
        maps = self._maps(target)  # of one or two levels, [U, N, H, W]
        scores = self.critic(maps)  # [U, h, w] each
        with torch.no_grad():
            seen = [torch.cat(pair) for pair in zip(self._maps(source), [each.detach() for each in maps], strict=True)]
        self._seen = (batch, seen)  # [B + U, N, H, W] each
        names = ("domain", "auxiliary domain")
        weights = (self.options.weight, self.options.auxiliary)
        return {
            name: weight * F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
            for name, weight, score in zip(names, weights, scores, strict=False)
        }

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"discriminator": BCE(D(I_source), 1) and BCE(D(I_target), 0), averaged, summed over levels}."""
        assert self.critic is not None
        seen = self._seen[1] if self._seen is not None and self._seen[0] is batch else self._look(batch)
        self._seen = None
        losses = []
        for score in self.critic(seen):  # [B + U, h, w]
            domain = torch.zeros_like(score)
            domain[: len(batch.frames)] = 1.0
            losses.append(F.binary_cross_entropy_with_logits(score, domain))
        return {"discriminator": torch.stack(losses).sum()}

    def _maps(self, prediction: Prediction) -> list[Tensor]:
        """Return the weighted self-information maps `[B, N, H, W]` of each level that has a discriminator."""
        levels = (prediction.logits, prediction.auxiliary if self.two_level else None)
        return [logit_self_information(logits) for logits in levels if logits is not None]

    def _look(self, batch: Batch) -> list[Tensor]:
        """Return the maps of both domains `[B + U, N, H, W]` by a forward pass of their own."""
        with torch.no_grad():
            source, target = self.predict(batch)
            assert target is not None
            return [torch.cat(pair) for pair in zip(self._maps(source), self._maps(target), strict=True)]
