"""The generator of Johnson et al. (arXiv 1603.08155) in the form that CycleGAN gave it (arXiv 1703.10593, section 7.1)."""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import crop, pad_to_multiple

MULTIPLE = 4  # two layers halve the map
INITIAL_STD = 0.02  # of all weights at the start, as in CycleGAN


class JohnsonGenerator(nn.Module):
    """From maps of any number of channels to a picture: halve twice, residual blocks, double twice, tanh."""

    def __init__(self, in_channels: int, width: int = 64, blocks: int = 9) -> None:
        """`width` is the channels at full resolution; they double with each halving."""
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7), *_norm_relu(width)]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), *_norm_relu(2 * channels)]
        layers += [Residual(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [up, *_norm_relu(channels // 2)]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn `[B, in_channels, H, W]` into pictures `[B, 3, H, W]` from -1 to 1."""
        height, width = maps.shape[2:]
        pictures: Tensor = self.layers(pad_to_multiple(maps, MULTIPLE))
        return crop(pictures, height, width)


class Residual(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_norm_relu(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, h, w]` -> same shape."""
        joined: Tensor = maps + self.inner(maps)
        return joined


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)
