"""The discriminator of ADVENT (arXiv 1811.12833, section 5.1, after DCGAN): which domain a prediction comes from."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput

WIDTHS = (64, 128, 256, 512)  # channels of the hidden layers
SLOPE = 0.2  # of the leaky ReLUs
STRIDE = 32  # pixels per score, along each side: five layers that halve the map; also the smallest side of a frame


class DomainDiscriminator(nn.Module):
    """One fully convolutional discriminator for each of `levels` maps of `classes` channels, without normalisation."""

    def __init__(self, classes: int, levels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_discriminator(classes) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Score the maps `[B, N, H, W]` of each level: logits `[B, H/32, W/32]`, above zero for the source.

        Raises `BadInput` for frames that leave no score.
        """
        height, width = maps[0].shape[2:]
        if min(height, width) < STRIDE:
            raise BadInput(
                f"frames are {height}x{width}, AdvEnt's discriminator expects at least {STRIDE}x{STRIDE}; "
                "train at a larger size"
            )
        fast = maps[0].device.type == "cpu" and bfloat16_is_fast()
        with torch.autocast("cpu", torch.bfloat16) if fast else contextlib.nullcontext():
            return [level(each).squeeze(1).float() for level, each in zip(self.levels, maps, strict=False)]


@cache
def bfloat16_is_fast() -> bool:
    """Tell whether this processor multiplies bfloat16 itself (AVX-512 BF16, AMX).

    There the discriminator's convolutions take half the time, and most of an adversarial step of a small segmenter is
    theirs; its scores are a domain's odds, not labels, and lose nothing that matters.
    """
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _discriminator(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((classes, *WIDTHS)):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 4, stride=2, padding=1))
