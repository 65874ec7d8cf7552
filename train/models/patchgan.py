"""PatchGAN, the discriminator of pix2pix (Isola et al., arXiv 1611.07004, appendix 6.1.2): real or not, patch by patch.

Every logit looks at 70x70 pixels. The adversarial baselines of arXiv 1908.02711 use it, EL-GAN (arXiv 1806.05525) too:
its embedding is the map before the last convolution, so both need one body.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput

WIDTHS = (64, 128, 256, 512)  # channels of the hidden layers: the first three halve the map, the fourth keeps its stride
SLOPE = 0.2  # of the leaky ReLUs
INITIAL_STD = 0.02  # of all weights at the start, as in pix2pix
MIN_SIDE = 24  # the smallest frame that leaves one patch [pixels]


class PatchGan(nn.Module):
    """Judge a frame together with its labels or prediction, joined along the channels.

    `in_channels` is 3 + N for frames of 3 channels and N class maps: `critic(torch.cat((frames, probabilities), 1))`.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, WIDTHS[0], 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for before, after in itertools.pairwise(WIDTHS):
            stride = 1 if after == WIDTHS[-1] else 2
            convolution = nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(WIDTHS[-1], 1, 4, padding=1)
        self.apply(_initialise)

    def forward(self, pairs: Tensor, *, embed: bool = False) -> Tensor:
        """Score `[B, in_channels, H, W]`: logits `[B, H/8 - 2, W/8 - 2]`, above zero for real.

        With `embed` return the last hidden map `[B, 512, H/8 - 1, W/8 - 1]` instead, whose distance between a prediction
        and the labels of the same frame is EL-GAN's loss. Raises `BadInput` for frames that leave no patch.
        """
        height, width = pairs.shape[2:]
        if min(height, width) < MIN_SIDE:
            raise BadInput(
                f"frames are {height}x{width}, PatchGAN expects at least {MIN_SIDE}x{MIN_SIDE}; train at a larger size"
            )
        embedding: Tensor = self.body(pairs)  # [B, 3 + N, H, W] -> [B, 512, H/8 - 1, W/8 - 1]
        if embed:
            return embedding
        logits: Tensor = self.classifier(embedding)  # [B, 1, H/8 - 2, W/8 - 2]
        return logits.squeeze(1)


def _initialise(module: nn.Module) -> None:
    with torch.no_grad():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0.0, INITIAL_STD)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1.0, INITIAL_STD)
