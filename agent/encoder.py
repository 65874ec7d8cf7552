"""A torch segmenter behind the driver: its latents while driving, and the policy's gradient into its encoder.

arXiv 2008.04751 learns driver and segmenter together. Usually the driver takes the latents as they are. With an
`EncoderGradient`, each update of the policy sees them as functions of the encoder's weights (the frames are encoded once more),
and the encoder takes a step of its own along the gradient of the actor-critic's loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn
from torch.nn import functional as F

from roadworthy.agent.observation import LATENT_LIMIT, MAX_LATENT_CELLS, LatentShape
from roadworthy.agent.policy import DrivePolicy
from roadworthy.runtime.observation import pooling_factor
from roadworthy.runtime.segmenter import Segmentation
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.models.prediction import Segmenter as Network

MAX_GRADIENT = 0.5  # norm that the encoder's gradient is clipped to, as the policy's is


class NetworkLatents:
    """A torch network as the environment's source of latents: no export between two rounds."""

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        """Wrap `network`, which takes frames of `size` (height, width)."""
        self._network = network.eval()
        with torch.inference_mode():
            shape = self._network.encode(normalise(torch.zeros(1, *size, 3, dtype=torch.uint8))).shape  # [1, C, h, w]
        self.latent_shape: LatentShape | None = (int(shape[1]), int(shape[2]), int(shape[3]))

    def __call__(self, frames: npt.NDArray[np.uint8]) -> Segmentation:
        """Run frames `uint8 [B, H, W, 3]`; gives the latent only."""
        with torch.inference_mode():
            latent = self._network.encode(normalise(torch.from_numpy(frames)))  # [B, C, h, w]
        return Segmentation(None, None, latent.numpy())


class EncoderGradient:
    """Lets what the policy learns from change the encoder of `network`: `attach` it to a learner, `step` after each update."""

    def __init__(self, network: Network, learning_rate: float) -> None:
        """Prepare to change `network`, whose batch statistics stay as they are."""
        self._network = network.eval()
        self._optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
        self._actor: nn.Parameter | None = None  # a weight of the policy, held still while the critic learns alone

    def attach(self, algorithm: BaseAlgorithm) -> None:
        """Make the updates of `algorithm`, whose observations hold `frames` `[B, 2, H, W, 3]`, reach the encoder."""
        assert isinstance(algorithm.policy, DrivePolicy)
        self._actor = algorithm.policy.action_net.get_parameter("weight")
        algorithm.policy.features_extractor.register_forward_pre_hook(self._encode_again)

    def step(self) -> None:
        """Take one step along the gradient of the last update; none while the critic learns alone."""
        assert self._actor is not None, "attach() comes first"
        if self._actor.requires_grad:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT)
            self._optimiser.step()
        self._optimiser.zero_grad()

    def _encode_again(self, _: nn.Module, inputs: tuple[dict[str, Tensor], ...]) -> tuple[Any, ...] | None:
        """Replace the latents that were seen while driving by the encoder's own; only where a gradient is asked for."""
        if not torch.is_grad_enabled():
            return None
        (observations,) = inputs
        frames = observations["frames"]  # [B, 2, H, W, 3]
        latents = pooled(self._network.encode(normalise(frames.flatten(0, 1))))  # [B*2, C, h, w]
        return ({**observations, "latents": latents.view(*frames.shape[:2], *latents.shape[1:])},)  # [B, 2, C, h, w]


def pooled(latents: Tensor) -> Tensor:
    """Pool latents `[B, C, h, w]` as `roadworthy.runtime.observation.pool_latent` does, but for its rounding to float16."""
    factors = [pooling_factor(cells, limit) for cells, limit in zip(latents.shape[-2:], MAX_LATENT_CELLS, strict=True)]
    smaller = F.avg_pool2d(latents, factors, ceil_mode=True, count_include_pad=False)
    return smaller.clamp(-LATENT_LIMIT, LATENT_LIMIT)
