"""The pieces that most segmenters are built of: convolution + norm + ReLU, He's initialisation, bilinear resizing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution that keeps the size (but for its stride), batch normalisation and ReLU."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def separable_conv_norm_relu(in_channels: int, out_channels: int, *, dilation: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution per channel followed by a 1x1 across them, then norm and ReLU (arXiv 1802.02611, 3.1)."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, 1, dilation, dilation, in_channels, bias=False)
    return nn.Sequential(depthwise, *conv_norm_relu(in_channels, out_channels, 1))


def initialise(network: nn.Module) -> None:
    """Draw all convolutions from He's normal distribution for ReLUs (arXiv 1502.01852, eq. 10), biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def resize(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize `[B, C, h, w]` to `[B, C, height, width]`, bilinearly with half-pixel centres (align_corners=False)."""
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Pad `[B, C, H, W]` with zeros on the right and below, up to the next multiples of `multiple`; crop what comes out."""
    below, right = -frames.shape[2] % multiple, -frames.shape[3] % multiple
    return F.pad(frames, (0, right, 0, below)) if below or right else frames


def crop(maps: Tensor, height: int, width: int) -> Tensor:
    """Cut `[B, C, h, w]` to its top left `[B, C, height, width]`."""
    return maps if maps.shape[2:] == (height, width) else maps[:, :, :height, :width]


def refuse_single_values(pooled: Tensor, name: str) -> None:
    """Raise `BadInput` when training would normalise over one value per channel: a batch of one, pooled to 1x1."""
    if pooled.shape[0] * pooled.shape[2] * pooled.shape[3] == 1:
        raise BadInput(
            f"{name} pools a frame to one value per channel, which batch normalisation cannot learn from with 1 frame per "
            "batch; expected a batch_size of at least 2"
        )
