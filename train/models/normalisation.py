"""The one place that says how a uint8 frame becomes a network's input. Export bakes the same numbers into its graph."""

from __future__ import annotations

import torch
from torch import Tensor

# ImageNet statistics on the 0-255 scale: the networks with pre-trained backbones expect them, the others do not mind.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


def normalise(frames: Tensor) -> Tensor:
    """Turn frames `uint8 [B, H, W, 3]` RGB into the network's input `float32 [B, 3, H, W]`, in channels-last memory."""
    mean = torch.tensor(MEAN_RGB, device=frames.device)
    std = torch.tensor(STD_RGB, device=frames.device)
    # Cast before the permute: TensorRT refuses to transpose uint8.
    return ((frames.to(torch.float32) - mean) / std).permute(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
