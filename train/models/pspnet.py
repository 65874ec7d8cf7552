"""PSPNet (Zhao et al., arXiv 1612.01105): a dilated ResNet whose last map is joined by its averages over 1, 2, 3 and 6 bins.

As published: output stride 8, an auxiliary head on the third stage, dropout 0.1 before both classifiers. For ResNet-18 the
widths of the heads are a quarter of what they look at, as they are for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.train.models.convolution import conv_norm_relu, initialise, refuse_single_values, resize
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.resnet import ResNet

BINS = (1, 2, 3, 6)  # per side, of the pyramid's levels
DROPOUT = 0.1  # probability


def adaptive_average(maps: Tensor, bins: int) -> Tensor:
    """Average `[B, C, h, w]` over bins x bins windows: `[B, C, bins, bins]`, as `F.adaptive_avg_pool2d`.

    In an export the windows are fixed. Where they are equal, that is an average pooling. Where they are not (they overlap
    then), torch's exporter would write a slice and a mean per window, hundreds of nodes; as the windows of rows and of
    columns are independent, two products with constant matrices say the same.
    """
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(maps, bins)
    height, width = maps.shape[2:]
    if height % bins == 0 and width % bins == 0:
        return F.avg_pool2d(maps, (height // bins, width // bins))
    rows = _window_means(height, bins).to(maps)[None, None]  # [1, 1, bins, h]
    columns = _window_means(width, bins).to(maps).T[None, None]  # [1, 1, w, bins]
    return rows @ (maps @ columns)  # [B, C, h, w] -> [B, C, h, bins] -> [B, C, bins, bins]


def _window_means(length: int, bins: int) -> Tensor:
    """Return `[bins, length]`: row b averages the cells of window b, which starts at ⌊b·length/bins⌋."""
    means = torch.zeros(bins, length)
    for index in range(bins):
        start, end = index * length // bins, -(-(index + 1) * length // bins)
        means[index, start:end] = 1 / (end - start)
    return means


class PyramidPooling(nn.Module):
    """Join a map with what its averages over coarser and coarser bins say (paper, figure 3c)."""

    def __init__(self, channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.levels = nn.ModuleList(conv_norm_relu(channels, channels // len(bins), 1) for _ in bins)
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, 2C, h, w]`."""
        height, width = maps.shape[2:]
        pooled = [adaptive_average(maps, bins) for bins in self.bins]  # [B, C, bins, bins]
        if self.training:
            refuse_single_values(pooled[0], "PSPNet")
        levels = [resize(level(means), height, width) for level, means in zip(self.levels, pooled, strict=True)]
        return torch.cat((maps, *levels), 1)


def _features(in_channels: int, width: int) -> nn.Sequential:
    """Return what stands before a classifier."""
    features = nn.Sequential(conv_norm_relu(in_channels, width, 3), nn.Dropout2d(DROPOUT))
    initialise(features)
    return features


class PSPNet(Segmenter):
    """PSPNet. Its latent is the deepest map, `[B, C, H/8, W/8]`; the auxiliary head is there in training only.

    `auxiliary=False` leaves that head out, for a gambler.
    """

    backbone: str
    latent_stride = 8
    two_level = True

    def __init__(self, classes: int, in_channels: int = 3, *, auxiliary: bool = True) -> None:
        super().__init__(classes)
        *_, third, fourth = ResNet.channels(self.backbone)
        self.pyramid = PyramidPooling(fourth)
        self.features = _features(2 * fourth, fourth // 4)
        self.classifier = nn.Conv2d(fourth // 4, classes, 1)
        auxiliary_head = nn.Sequential(_features(third, third // 4), nn.Conv2d(third // 4, classes, 1))
        self.auxiliary_head = auxiliary_head if auxiliary else None
        self.encoder = ResNet(self.backbone, self.latent_stride, in_channels)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, C, H/8, W/8]`, the encoder alone."""
        latent: Tensor = self.encoder(frames).layer4
        return latent

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, C/4, H/8, W/8]`, latent `[B, C, H/8, W/8]`."""
        height, width = frames.shape[2:]
        stages = self.encoder(frames)
        embedding = self.features(self.pyramid(stages.layer4))  # [B, C, H/8, W/8] -> [B, 2C, ..] -> [B, C/4, H/8, W/8]
        logits = resize(self.classifier(embedding), height, width)  # [B, N, H/8, W/8] -> [B, N, H, W]
        auxiliary = None
        if self.training and self.auxiliary_head is not None:
            auxiliary = resize(self.auxiliary_head(stages.layer3), height, width)  # [B, C/2, H/8, W/8] -> [B, N, H, W]
        return Prediction(logits, embedding, stages.layer4, auxiliary)


class PSPNetResNet18(PSPNet):
    """PSPNet on ResNet-18, for trying things out and for small machines."""

    backbone = "resnet18"
    latent_channels = 512


class PSPNetResNet50(PSPNet):
    """PSPNet on ResNet-50, as in most of the paper's ablations."""

    backbone = "resnet50"
    latent_channels = 2048


class PSPNetResNet101(PSPNet):
    """PSPNet on ResNet-101, as in the paper's results on Cityscapes."""

    backbone = "resnet101"
    latent_channels = 2048
