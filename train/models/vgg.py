"""The VGG-16 encoder (Simonyan and Zisserman, arXiv 1409.1556), plain or with batch normalisation.

`features` has torchvision's numbering of layers, so that its ImageNet weights fit: see `backbones`.
"""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import initialise

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # widths; a 2x2 pooling after each


class VGG16(nn.Module):
    """The thirteen 3x3 convolutions of VGG-16, run stage by stage: how to pool in between is the segmenter's affair."""

    def __init__(self, *, norm: bool, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.bounds: list[tuple[int, int]] = []  # of each stage within `features`, without its pooling
        channels = in_channels
        for widths in STAGES:
            start = len(layers)
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
            self.bounds.append((start, len(layers)))
            layers.append(nn.MaxPool2d(2, 2))  # for torchvision's numbering
        self.features = nn.Sequential(*layers)
        initialise(self)

    def stage(self, number: int, maps: Tensor) -> Tensor:
        """Run the convolutions of stage `number` (0 to 4), which keep the resolution."""
        for index in range(*self.bounds[number]):
            maps = self.features[index](maps)
        return maps
