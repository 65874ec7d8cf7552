"""DeepLabV3+ (Chen et al., arXiv 1802.02611): an atrous separable pyramid with image pooling, and a light decoder.

As published: output stride 16, rates 6, 12 and 18, low-level features of a quarter of the frame's resolution reduced to 48
channels, two 3x3 convolutions of 256, all 3x3 convolutions depthwise separable.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from roadworthy.train.models.convolution import (
    conv_norm_relu,
    initialise,
    refuse_single_values,
    resize,
    separable_conv_norm_relu,
)
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.resnet import ResNet

RATES = (6, 12, 18)  # dilations of the pyramid at output stride 16
WIDTH = 256  # channels of pyramid and decoder
LOW_LEVEL_WIDTH = 48  # channels that the low-level features are reduced to
DROPOUT = 0.1  # probability, after the pyramid and before the classifier


class AtrousPyramid(nn.Module):
    """A 1x1 convolution, three dilated ones and the average of the image, joined and projected (arXiv 1706.05587, 3.3)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_norm_relu(in_channels, width, 1)])
        self.branches.extend(separable_conv_norm_relu(in_channels, width, dilation=rate) for rate in RATES)
        self.image = conv_norm_relu(in_channels, width, 1)
        self.project = nn.Sequential(conv_norm_relu(width * (len(RATES) + 2), width, 1), nn.Dropout2d(DROPOUT))

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, width, h, w]`."""
        mean = maps.mean((2, 3), keepdim=True)  # [B, C, h, w] -> [B, C, 1, 1]
        if self.training:
            refuse_single_values(mean, "DeepLabV3+")
        image = self.image(mean).expand(-1, -1, *maps.shape[2:])  # [B, width, 1, 1] -> [B, width, h, w]
        joined = torch.cat((*(branch(maps) for branch in self.branches), image), 1)  # [B, 5 * width, h, w]
        projected: Tensor = self.project(joined)
        return projected


class Decoder(nn.Module):
    """From the encoder's deepest and low-level maps to the features that are classified (paper, figure 2)."""

    def __init__(self, deep_channels: int, low_channels: int, width: int = WIDTH, low_width: int = LOW_LEVEL_WIDTH) -> None:
        super().__init__()
        self.pyramid = AtrousPyramid(deep_channels, width)
        self.low = conv_norm_relu(low_channels, low_width, 1)
        self.refine = nn.Sequential(
            separable_conv_norm_relu(width + low_width, width),
            separable_conv_norm_relu(width, width),
            nn.Dropout2d(DROPOUT),
        )
        initialise(self)

    def forward(self, deep: Tensor, low: Tensor) -> Tensor:
        """`[B, C, H/16, W/16]` and `[B, c, H/4, W/4]` -> `[B, width, H/4, W/4]`."""
        context = resize(self.pyramid(deep), *low.shape[2:])  # [B, width, H/16, W/16] -> [B, width, H/4, W/4]
        refined: Tensor = self.refine(torch.cat((context, self.low(low)), 1))
        return refined


class DeepLabV3Plus(Segmenter):
    """DeepLabV3+. Its latent is the deepest map, `[B, C, H/16, W/16]`."""

    backbone: str
    latent_stride = 16

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        low_channels, *_, deep_channels = ResNet.channels(self.backbone)
        self.encoder = ResNet(self.backbone, self.latent_stride, in_channels)
        self.decoder = Decoder(deep_channels, low_channels)
        self.classifier = nn.Conv2d(WIDTH, classes, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, C, H/16, W/16]`, the encoder alone."""
        latent: Tensor = self.encoder(frames).layer4
        return latent

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 256, H/4, W/4]`, latent `[B, C, H/16, W/16]`."""
        stages = self.encoder(frames)
        embedding = self.decoder(stages.layer4, stages.layer1)  # [B, 256, H/4, W/4]
        logits = resize(self.classifier(embedding), *frames.shape[2:])  # [B, N, H/4, W/4] -> [B, N, H, W]
        return Prediction(logits, embedding, stages.layer4)


class DeepLabV3PlusResNet18(DeepLabV3Plus):
    """DeepLabV3+ on ResNet-18."""

    backbone = "resnet18"
    latent_channels = 512


class DeepLabV3PlusResNet50(DeepLabV3Plus):
    """DeepLabV3+ on ResNet-50."""

    backbone = "resnet50"
    latent_channels = 2048
