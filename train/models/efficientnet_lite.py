"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946, in the variant for quantised inference): the encoder of `lite0`.

Unlike EfficientNet-B0 it has ReLU6 instead of swish and no squeeze-and-excitation, so that every tensor has a range that
8 bits hold well and every operator runs everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.train.models.convolution import initialise

NORM_EPSILON = 1e-3  # of the published network; its momentum of 0.01 is too slow for trainings of a few hundred steps
STEM_WIDTH = 32  # channels


class _Stage(NamedTuple):
    expansion: int
    width: int
    blocks: int
    stride: int
    kernel: int


STAGES = (
    _Stage(1, 16, 1, 1, 3),
    _Stage(6, 24, 2, 2, 3),
    _Stage(6, 40, 2, 2, 5),
    _Stage(6, 80, 3, 2, 3),
    _Stage(6, 112, 3, 1, 5),
    _Stage(6, 192, 4, 2, 5),
    _Stage(6, 320, 1, 1, 3),
)
LOW_STAGE = 1  # the last one at a quarter of the frame's resolution


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does, with which the published weights were trained.

    A strided one over an even side pads more at the end than at the beginning; the usual even padding would shift the
    maps of the ImageNet weights by half a pixel at each halving.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, C', ceil(h / stride), ceil(w / stride)]`."""
        (before_h, after_h), (before_w, after_w) = (self._padding(side, axis) for axis, side in enumerate(x.shape[2:]))
        if (before_h, before_w) != (after_h, after_w):
            x, before_h, before_w = F.pad(x, (before_w, after_w, before_h, after_h)), 0, 0
        return F.conv2d(x, self.weight, self.bias, self.stride, (before_h, before_w), self.dilation, self.groups)

    def _padding(self, side: int, axis: int) -> tuple[int, int]:
        span = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        needed = max(0, (-(-side // self.stride[axis]) - 1) * self.stride[axis] + span - side)
        return needed // 2, needed - needed // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class InvertedResidual(nn.Module):
    """1x1 up, one convolution per channel, 1x1 down without activation; a short cut where the shapes agree."""

    def __init__(self, in_channels: int, stage: _Stage, stride: int, dilation: int) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.expand = None
        if stage.expansion > 1:
            self.expand = nn.Sequential(nn.Conv2d(in_channels, inner, 1, bias=False), _norm(inner), nn.ReLU6(inplace=True))
        depthwise = SameConv2d(inner, inner, stage.kernel, stride, 0, dilation, inner, bias=False)
        self.depthwise = nn.Sequential(depthwise, _norm(inner), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(nn.Conv2d(inner, stage.width, 1, bias=False), _norm(stage.width))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, width, h / stride, w / stride]`."""
        inner = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(inner))
        return out + x if out.shape == x.shape else out


class EfficientNetLite0(nn.Module):
    """The encoder; `output_stride` is 16 or, as for classification, 32 frame pixels per cell of the deepest map.

    At 16 the sixth stage keeps its resolution and the convolutions behind its first one are dilated instead: every second
    cell of every second row is then what the strided network computes, so ImageNet's weights keep their meaning.
    """

    latent_channels = STAGES[-1].width
    low_channels = STAGES[LOW_STAGE].width

    def __init__(self, output_stride: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        stem = SameConv2d(in_channels, STEM_WIDTH, 3, 2, bias=False)
        self.stem = nn.Sequential(stem, _norm(STEM_WIDTH), nn.ReLU6(inplace=True))
        channels, reached, dilation = STEM_WIDTH, 2, 1
        stages = []
        for stage in STAGES:
            blocks = []
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                keeps = reached * stride > output_stride
                blocks.append(InvertedResidual(channels, stage, 1 if keeps else stride, dilation))
                dilation, reached = (dilation * stride, reached) if keeps else (dilation, reached * stride)
                channels = stage.width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        initialise(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, 3, H, W]` -> low-level features `[B, 24, H/4, W/4]` and the deepest map `[B, 320, h, w]`."""
        maps = self.stem(frames)  # [B, 32, H/2, W/2]
        low = maps
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number == LOW_STAGE:
                low = maps
        return low, maps
