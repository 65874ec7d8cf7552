"""ResNet encoders (He et al., arXiv 1512.03385), dilated instead of strided where a segmenter wants finer maps.

Parameters have torchvision's names and shapes (and its place of the stride, the 3x3 convolution), so that its ImageNet
weights fit: see `backbones`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.train.models.convolution import initialise

STAGE_WIDTHS = (64, 128, 256, 512)  # inner widths of the four stages


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut (paper, figure 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, width, h / stride, w / stride]`."""
        inner = self.relu(self.bn1(self.conv1(x)))
        joined: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.downsample(x))
        return joined


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up by four, beside a short cut (paper, figure 5 right)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, 4 * width, h / stride, w / stride]`."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        joined: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(x))
        return joined


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class Architecture(NamedTuple):
    """A ResNet's kind of block and how many each stage has (paper, table 1)."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]


ARCHITECTURES = {
    "resnet18": Architecture(BasicBlock, (2, 2, 2, 2)),
    "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Architecture(Bottleneck, (3, 4, 23, 3)),
}


class Stages(NamedTuple):
    """The maps after each of a ResNet's four stages, from a quarter of the frame's resolution down to the deepest."""

    layer1: Tensor
    layer2: Tensor
    layer3: Tensor
    layer4: Tensor


class ResNet(nn.Module):
    """A ResNet without its classification head; `output_stride` is 8 or 16 frame pixels per cell of the deepest map.

    A stage that would go beyond the output stride keeps its resolution, and all its 3x3 convolutions are dilated to see
    as far as they did (as PSPNet and DeepLab do).
    """

    def __init__(self, name: str, output_stride: int, in_channels: int = 3) -> None:
        super().__init__()
        self.name, self.output_stride = name, output_stride
        block, blocks = ARCHITECTURES[name]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        channels, stride, dilation = 64, 4, 1
        stages = []
        for number, (width, count) in enumerate(zip(STAGE_WIDTHS, blocks, strict=True)):
            step = 1 if number == 0 else 2
            if stride * step > output_stride:
                dilation, step = dilation * step, 1
            stride *= step
            layers = [block(channels, width, step, dilation)]
            channels = width * block.expansion
            layers += [block(channels, width, 1, dilation) for _ in range(count - 1)]
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialise(self)

    @staticmethod
    def channels(name: str) -> tuple[int, int, int, int]:
        """Return the channels of the four stages of the ResNet called `name`."""
        expansion = ARCHITECTURES[name].block.expansion
        first, second, third, fourth = STAGE_WIDTHS
        return first * expansion, second * expansion, third * expansion, fourth * expansion

    def forward(self, frames: Tensor) -> Stages:
        """`[B, 3, H, W]` -> four maps; those of layer1 are `[B, C, H/4, W/4]`, of layer2 at H/8."""
        half = self.relu(self.bn1(self.conv1(frames)))  # [B, 64, H/2, W/2]
        first = self.layer1(F.max_pool2d(half, 3, 2, 1))  # [B, C1, H/4, W/4]
        second = self.layer2(first)  # [B, C2, H/8, W/8]
        third = self.layer3(second)  # [B, C3, h, w], h = H/8 or H/16
        return Stages(first, second, third, self.layer4(third))
