"""DeepLabV2 (Chen et al., arXiv 1606.00915): a dilated ResNet and an atrous spatial pyramid whose branches are summed.

As published for ResNet-101: output stride 8, four 3x3 convolutions of rates 6, 12, 18 and 24 straight to the classes
(DeepLab-ASPP-L). The conditional random field of the paper's post-processing is not part of it.

The two-level form has a second pyramid on the encoder's third stage, as domain adaptation uses it (AdaptSegNet, arXiv
1802.10349, section 4.2; ADVENT, arXiv 1811.12833, section 5.1).
"""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import resize
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.resnet import ResNet

RATES = (6, 12, 18, 24)  # dilations of the branches
CLASSIFIER_STD = 0.01  # of the classifiers' weights at the start
SECOND_WEIGHT = 0.1  # of the second level's segmentation loss, as ADVENT weighs it


class DeepLabV2(Segmenter):
    """DeepLabV2. Its latent, which is also its embedding, is the deepest map, `[B, C, H/8, W/8]`."""

    backbone: str
    latent_stride = 8

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.encoder = ResNet(self.backbone, self.latent_stride, in_channels)
        self.branches = _pyramid(self.latent_channels, classes)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, C, H/8, W/8]`, the encoder alone."""
        latent: Tensor = self.encoder(frames).layer4
        return latent

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`; embedding and latent are one map, `[B, C, H/8, W/8]`."""
        latent = self.encode(frames)
        return Prediction(resize(_summed(self.branches, latent), *frames.shape[2:]), latent, latent)


class TwoLevelDeepLabV2(DeepLabV2):
    """DeepLabV2 whose third stage predicts too: auxiliary logits in training mode."""

    two_level = True

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes, in_channels)
        self.second_branches = _pyramid(ResNet.channels(self.backbone)[2], classes)

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> as `DeepLabV2`, and in training mode auxiliary logits `[B, N, H, W]` of the third stage."""
        stages = self.encoder(frames)
        latent = stages.layer4
        logits = resize(_summed(self.branches, latent), *frames.shape[2:])  # [B, C, H/8, W/8] -> [B, N, H, W]
        auxiliary = None
        if self.training:
            auxiliary = resize(_summed(self.second_branches, stages.layer3), *frames.shape[2:])  # [B, C/2, ..] -> [B, N, H, W]
        return Prediction(logits, latent, latent, auxiliary, SECOND_WEIGHT)


def _pyramid(channels: int, classes: int) -> nn.ModuleList:
    """Return the branches of an atrous spatial pyramid that ends in the classes."""
    branches = [nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate) for rate in RATES]
    for branch in branches:
        nn.init.normal_(branch.weight, std=CLASSIFIER_STD)
        assert branch.bias is not None
        nn.init.zeros_(branch.bias)
    return nn.ModuleList(branches)


def _summed(branches: nn.ModuleList, maps: Tensor) -> Tensor:
    """Return the sum of the branches, `[B, C, h, w]` -> `[B, N, h, w]`."""
    summed = sum(branch(maps) for branch in branches)
    assert isinstance(summed, Tensor)
    return summed


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


class TwoLevelDeepLabV2ResNet18(TwoLevelDeepLabV2):
    """The two-level form on ResNet-18, for trying things out."""

    backbone = "resnet18"
    latent_channels = 512


class TwoLevelDeepLabV2ResNet101(TwoLevelDeepLabV2):
    """The two-level form on ResNet-101, as ADVENT publishes it."""

    backbone = "resnet101"
    latent_channels = 2048
