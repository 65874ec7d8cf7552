"""DeepLabV2 (Chen et al., arXiv 1606.00915): a dilated ResNet and an atrous spatial pyramid whose branches are summed.

As published for ResNet-101: output stride 8, four 3x3 convolutions of rates 6, 12, 18 and 24 straight to the classes
(DeepLab-ASPP-L). The conditional random field of the paper's post-processing is not part of it.
"""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import resize
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.resnet import ResNet

RATES = (6, 12, 18, 24)  # dilations of the branches
CLASSIFIER_STD = 0.01  # of the classifiers' weights at the start


class DeepLabV2(Segmenter):
    """DeepLabV2. Its latent, which is also its embedding, is the deepest map, `[B, C, H/8, W/8]`."""

    backbone: str
    latent_stride = 8

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.encoder = ResNet(self.backbone, self.latent_stride, in_channels)
        self.branches = nn.ModuleList(
            nn.Conv2d(self.latent_channels, classes, 3, padding=rate, dilation=rate) for rate in RATES
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=CLASSIFIER_STD)  # type: ignore[arg-type]  # modules' attributes are untyped
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, C, H/8, W/8]`, the encoder alone."""
        latent: Tensor = self.encoder(frames).layer4
        return latent

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`; embedding and latent are one map, `[B, C, H/8, W/8]`."""
        latent = self.encode(frames)
        summed = sum(branch(latent) for branch in self.branches)  # [B, C, H/8, W/8] -> [B, N, H/8, W/8]
        assert isinstance(summed, Tensor)
        return Prediction(resize(summed, *frames.shape[2:]), latent, latent)


class DeepLabV2ResNet18(DeepLabV2):
    """DeepLabV2 on ResNet-18, for trying things out."""

    backbone = "resnet18"
    latent_channels = 512


class DeepLabV2ResNet50(DeepLabV2):
    """DeepLabV2 on ResNet-50."""

    backbone = "resnet50"
    latent_channels = 2048


class DeepLabV2ResNet101(DeepLabV2):
    """DeepLabV2 on ResNet-101, as in the paper."""

    backbone = "resnet101"
    latent_channels = 2048
