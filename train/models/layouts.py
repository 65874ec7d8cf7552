"""The networks of SemGAN ("Adversarial pixel-level generation of semantic images", figures 1 and 2).

What makes it SemGAN is the border between the two networks: K class channels with a softmax over them instead of three colours
with a tanh. The paper's text gives kernels, but neither depth nor widths nor norms; they are laid out as the convolutional GANs
of AshPy are, the library that the authors' company published: the generator projects its noise to a small map, doubles it by
transposed convolutions with batch normalisation, and ends in a convolution at full size; the discriminator halves the map by
convolutions with dropout and has no normalisation. (With batch normalisation in the discriminator, real and generated batches
are each normalised by their own statistics, which hides from the generator what it should match.) Widths and depth are ours:
64 channels after the discriminator's first convolution (`WIDTH`), and maps down to 4 to 7 pixels.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput

WIDTH = 64  # channels at half of the full size, doubled at each smaller map
SLOPE = 0.3  # of the leaky ReLUs
DROPOUT = 0.3  # of the discriminator
SMALLEST = 4  # [pixels], the shorter side of the smallest map


def halvings(size: tuple[int, int]) -> int:
    """Return how many times (height, width) is halved down to the smallest map. Raises `BadInput` for other sides."""
    levels = max(0, min(size) // SMALLEST).bit_length() - 1
    if levels < 2 or any(side % (1 << levels) for side in size):
        step = 1 << max(levels, 2)
        raise BadInput(
            f"layouts of {size[1]}x{size[0]} pixels cannot be halved {max(levels, 2)} times; expected sides of at least 16 "
            f"that are multiples of {step}, for example 64x64 or 128x64"
        )
    return levels


class LayoutGenerator(nn.Module):
    """Noise `[B, L]` -> maps `[B, C, H, W]`: class probabilities, or with `rgb` three colours from -1 to 1."""

    def __init__(
        self, channels: int, size: tuple[int, int], *, latent: int, kernel: int, width: int = WIDTH, rgb: bool = False
    ) -> None:
        super().__init__()
        levels = halvings(size)
        widths = [width << level for level in reversed(range(levels))]  # from the smallest map to half of the full size
        widths.append(max(1, width // 2))  # at full size
        self.latent, self.width, self.rgb = latent, width, rgb
        self.smallest = (widths[0], size[0] >> levels, size[1] >> levels)  # channels, height, width
        self.project = nn.Linear(latent, math.prod(self.smallest), bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.LeakyReLU(SLOPE)]
        for before, after in itertools.pairwise(widths):
            layers.append(nn.ConvTranspose2d(before, after, kernel, 2, kernel // 2, output_padding=1, bias=False))
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
        # No stride in the last one: it would leave a pattern of squares on one-hot maps.
        layers.append(nn.Conv2d(widths[-1], channels, kernel, padding=kernel // 2))
        self.body = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, noise: Tensor) -> Tensor:
        """`[B, L]` drawn from N(0, 1) -> `[B, C, H, W]`."""
        maps: Tensor = self.body(self.project(noise).unflatten(1, self.smallest))  # [B, L] -> [B, C', h, w] -> [B, C, H, W]
        return torch.tanh(maps) if self.rgb else torch.softmax(maps, 1)


class LayoutCritic(nn.Module):
    """Tell real maps `[B, C, H, W]` (one-hot, or colours) from generated ones."""

    def __init__(self, channels: int, size: tuple[int, int], *, kernel: int, width: int = WIDTH) -> None:
        super().__init__()
        levels = halvings(size)
        widths = [channels, *(width << level for level in range(levels))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, kernel, 2, kernel // 2), nn.LeakyReLU(SLOPE), nn.Dropout(DROPOUT)]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1] * (size[0] >> levels) * (size[1] >> levels), 1)
        self.apply(_initialise)

    def features(self, maps: Tensor) -> Tensor:
        """Return what the last layer sees, `[B, F]`: the features that the generator learns to match."""
        hidden: Tensor = self.body(maps)  # [B, C, H, W] -> [B, C', h, w]
        return hidden.flatten(1)

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, H, W]` -> logits `[B]`, above zero for real."""
        logits: Tensor = self.classifier(self.features(maps))  # [B, 1]
        return logits.squeeze(1)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the binary cross-entropy of calling the real maps real and the generated ones not (eq. 1), a scalar."""
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return real + fake


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return ‖mean of `real` - mean of `fake`‖² of features `[B, F]` (Salimans et al., arXiv 1606.03498, section 3.1)."""
    return (real.mean(0) - fake.mean(0)).square().sum()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
