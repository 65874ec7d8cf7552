"""The U-Net of pix2pix (Isola et al., arXiv 1611.07004) with nine down-sampling blocks, as arXiv 1908.02711 segments with.

Each block halves the map by a 4x4 convolution, with batch normalisation and ReLU; the decoder's blocks are the same with
transposed convolutions, and see the encoder's map of their resolution too. As in pix2pix, the outermost and the innermost
convolution have no normalisation, and the outermost transposed one is the classifier. Unlike pix2pix's generator it has
ReLUs in the encoder too, as 1908.02711 says, and no dropout, which was pix2pix's source of noise.

Nine halvings take 512 pixels to one. A map with an odd side is padded by one row or column of zeros before it is halved,
and what the decoder makes of it is cropped: any size works, and a small frame, whose map is 1x1 before the ninth block,
costs no more than it must (padding the frame itself to 512 pixels would make eight times the work of 128x256 ones).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from roadworthy.train.models.convolution import crop, pad_to_multiple, refuse_single_values
from roadworthy.train.models.prediction import Prediction, Segmenter

FIRST_WIDTH, LAST_WIDTH = 64, 512  # channels after the first block, doubled by each next one up to the last width
INITIAL_STD = 0.02  # of all weights at the start, as in pix2pix
DEPTH = 9  # down-sampling blocks
LATENT_BLOCKS = 4  # after which the map is the latent


class UNetBody(nn.Module):
    """The U-Net between any number of channels, with `depth` down-sampling blocks.

    The first has `width` channels, and each next one twice as many up to eight times that. `slope` is that of the encoder's
    ReLUs for negative values, and `dropout` the number of the decoder's innermost blocks that drop half of their output:
    pix2pix's generator has 0.2 and 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        *,
        width: int = FIRST_WIDTH,
        slope: float = 0.0,
        dropout: int = 0,
    ) -> None:
        super().__init__()
        widths = [min(width << level, width * LAST_WIDTH // FIRST_WIDTH) for level in range(depth)]
        down, up = [], []
        for level, channels in enumerate(widths):
            before = widths[level - 1] if level else in_channels
            halve = nn.Conv2d(before, channels, 4, 2, 1, bias=False)
            down.append(_Block(halve, channels, norm=0 < level < depth - 1, slope=slope))
            if level:
                skipped = channels if level == depth - 1 else 2 * channels
                double = nn.ConvTranspose2d(skipped, before, 4, 2, 1, bias=False)
                up.append(_Block(double, before, norm=True, dropped=level >= depth - dropout))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)  # from the outermost to the innermost
        self.last = nn.ConvTranspose2d(2 * widths[0], out_channels, 4, 2, 1)
        self.apply(_initialise)

    def contract(self, frames: Tensor, blocks: int) -> list[Tensor]:
        """Return the maps after each of the first `blocks` down-sampling blocks, `[B, C, ceil(h/2), ceil(w/2)]` each."""
        maps = [frames]
        for block in self.down[:blocks]:
            maps.append(block(pad_to_multiple(maps[-1], 2)))
        return maps[1:]

    def expand(self, maps: list[Tensor]) -> Tensor:
        """Return what the last layer sees, `[B, 128, H/2, W/2]`, from all the maps that `contract` gave."""
        x = maps[-1]
        for block, skipped in zip(reversed(self.up), reversed(maps[:-1]), strict=True):
            x = torch.cat((block(x, skipped.shape[2:]), skipped), 1)  # [B, C, h, w] -> [B, 2C', 2h, 2w]
        return x


class _Block(nn.Module):
    def __init__(self, convolution: nn.Module, channels: int, *, norm: bool, slope: float = 0.0, dropped: bool = False) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(channels) if norm else None
        self.dropout = nn.Dropout(0.5) if dropped else None
        self.activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        """Convolve, normalise, activate, crop to `size` (height, width)."""
        x = self.convolution(x)
        if self.training and size is not None:
            x = crop(x, *size)  # what is outside must not count in the statistics
        if self.norm is not None:
            if self.training:
                refuse_single_values(x, "U-Net")
            x = self.norm(x)
        if self.dropout is not None:
            x = self.dropout(x)
        activated: Tensor = self.activation(x)
        # In evaluation last: inference backends fuse convolution, norm and ReLU when nothing is between them.
        return activated if size is None else crop(activated, *size)


def _initialise(module: nn.Module) -> None:
    with torch.no_grad():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.normal_(0.0, INITIAL_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1.0, INITIAL_STD)


class UNet(Segmenter):
    """The U-Net as a segmenter. Its latent is the map after four blocks, `[B, 512, H/16, W/16]`."""

    latent_channels = LAST_WIDTH
    latent_stride = 1 << LATENT_BLOCKS

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.body = UNetBody(in_channels, classes, DEPTH)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, 512, H/16, W/16]`, the first four blocks alone."""
        return self.body.contract(frames, LATENT_BLOCKS)[-1]

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 128, H/2, W/2]`, latent `[B, 512, H/16, W/16]`."""
        maps = self.body.contract(frames, DEPTH)
        embedding = self.body.expand(maps)  # [B, 128, H/2, W/2]
        logits = crop(self.body.last(embedding), *frames.shape[2:])  # [B, N, H, W]
        return Prediction(logits, embedding, maps[LATENT_BLOCKS - 1])
