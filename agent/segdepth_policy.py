"""What the independent driver's policy makes of label map, depth and measurements (see `segdepth.py`).

The driver that arXiv 2008.04751 borrows for its Table V is described by its state alone, so the network is this project's: the
shape of the paper's own agent, with one convolution more in front, because these maps are four times as fine as the latents.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from roadworthy.agent.observation import MEASUREMENTS
from roadworthy.agent.policy_scales import MEASUREMENT_CAP, MEASUREMENT_SCALES
from roadworthy.agent.segdepth import VOID

NEAR_M = 10.0  # [m] depth at which the input of the network is one half: near things count, the far end hardly


class SegDepthExtractor(BaseFeaturesExtractor):
    """The shared trunk on label map and depth, fused with the measurements to 128 features."""

    measurement_scale: Tensor  # [9]

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=128)
        rows, columns = observation_space["segmentation"].shape or (0, 0)
        self.register_buffer("measurement_scale", torch.tensor(MEASUREMENT_SCALES))
        left = -(-rows // 8) * -(-columns // 8)
        self.see = nn.Sequential(
            nn.Conv2d(VOID + 1, 32, 5, stride=4, padding=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * left, 1024), nn.ReLU(),
            nn.Linear(1024, 512), nn.ReLU(),
        )  # fmt: skip
        self.measure = nn.Sequential(nn.Linear(MEASUREMENTS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.fuse = nn.Sequential(nn.Linear(512 + 64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Map segmentation `[B, h, w]`, depth `[B, h, w]` and measurements `[B, 9]` to features `[B, 128]`."""
        seen = self.see(maps(observations["segmentation"], observations["depth"]))  # [B, 512]
        scaled = (observations["measurements"] / self.measurement_scale).clamp(max=MEASUREMENT_CAP)
        fused: Tensor = self.fuse(torch.cat([seen, self.measure(scaled)], dim=1))  # [B, 576] -> [B, 128]
        return fused


def maps(segmentation: Tensor, depth_m: Tensor) -> Tensor:
    """Return the network's input `[B, 21, h, w]`: one plane per class (void has none), and nearness 1 / (1 + depth / 10 m)."""
    planes = F.one_hot(segmentation.long(), VOID + 1)[..., :VOID].movedim(-1, 1).float()  # [B, 20, h, w]
    nearness = NEAR_M / (NEAR_M + depth_m.float())  # [B, h, w]
    return torch.cat([planes, nearness[:, None]], dim=1)
