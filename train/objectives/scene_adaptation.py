"""Scene adaptation by reconstruction (Di Mauro et al., AVSS 2018): from good scores the frame can be painted again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.johnson import JohnsonGenerator
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB
from roadworthy.train.models.patchgan import PatchGan
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Schedule, Setting, TargetObjective


@dataclass(frozen=True)
class SceneAdaptationOptions:
    """Options of "scene-adaptation"; the defaults are the paper's, whose generator is CycleGAN's."""

    reconstruction: float = 1.0  # weight of the reconstruction's l1 error
    adversarial: float = 1.0  # weight of the discriminator's verdict
    width: int = 64  # channels of the generator at full resolution
    blocks: int = 9  # residual blocks of the generator


class SceneAdaptation(TargetObjective):
    """Minimise ‖G(F(x)) − x‖₁ + BCE(D(G(F(x))), 1) over source and target (eq. 2 and 3, non-saturating), means over pixels.

    F is the segmenter, whose class scores the generator G turns back into the frame; both learn. D is a 70x70 PatchGAN, which
    learns in the same iterations to tell frames from reconstructions. Pictures are RGB from -1 to 1.
    """

    schedule = Schedule(together=True)
    frame_terms = frozenset({"reconstruction", "realness"})

    def __init__(self, options: SceneAdaptationOptions, setting: Setting) -> None:
        if options.width < 1 or options.blocks < 0:
            raise BadInput(
                f"scene-adaptation's width is {options.width} and blocks {options.blocks}, expected 1 or more and 0 or more"
            )
        self.options = options
        self.generator = JohnsonGenerator(len(setting.taxonomy), options.width, options.blocks)
        self.critic = PatchGan(3)
        self._seen: tuple[Batch, Tensor] | None = None  # the reconstructions that the segmenter learnt from last

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return {"reconstruction": ℓ1, "realness": BCE(D(G(F(x))), 1)}, each over both domains."""
        assert self.critic is not None
        real, made = self._real(batch), self._made(source, target)  # [B + U, 3, H, W] each
        self._seen = (batch, made.detach())
        scores = self.critic(made)  # [B + U, h, w]
        return {
            "reconstruction": self.options.reconstruction * F.l1_loss(made, real),
            "realness": self.options.adversarial * F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores)),
        }

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"discriminator": BCE(D(x), 1) + BCE(D(G(F(x))), 0)} over both domains; F and G are frozen."""
        assert self.critic is not None
        if self._seen is not None and self._seen[0] is batch:
            made = self._seen[1]
        else:
            with torch.no_grad():
                source, target = self.predict(batch)
                assert target is not None
                made = self._made(source, target)
        self._seen = None
        on_real, on_made = self.critic(self._real(batch)), self.critic(made)  # [B + U, h, w] each
        loss = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
        return {"discriminator": loss + F.binary_cross_entropy_with_logits(on_made, torch.zeros_like(on_made))}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"reconstruction": the brightness of the frames painted again}, `[B, H, W]`, and the entropy."""
        with self.watching():
            assert self.generator is not None
            made = self.generator(self.segmenter(batch.frames).logits).float()  # [B, 3, H, W]
        return {"reconstruction": (made.mean(1) + 1) / 2, **super().pictures(batch)}

    def _made(self, source: Prediction, target: Prediction) -> Tensor:
        """Return the reconstructions `[B + U, 3, H, W]` of both domains."""
        assert self.generator is not None
        made: Tensor = self.generator(torch.cat((source.logits, target.logits)))
        return made

    def _real(self, batch: Batch) -> Tensor:
        """Return the frames of both domains as pictures from -1 to 1, `[B + U, 3, H, W]`."""
        assert batch.unlabelled is not None
        frames = torch.cat((batch.frames, batch.unlabelled))  # normalised
        mean = torch.tensor(MEAN_RGB, device=frames.device).view(1, 3, 1, 1)
        std = torch.tensor(STD_RGB, device=frames.device).view(1, 3, 1, 1)
        return (frames * std + mean) / 127.5 - 1
