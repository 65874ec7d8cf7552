"""Multi-scale structural similarity (Wang, Simoncelli, Bovik, Asilomar 2003), and how alike the pictures of one set are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.errors import BadInput

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, the finest first (section 3.2)
WINDOW, SIGMA = 11, 1.5  # [pixels], of the Gaussian window
K1, K2, RANGE = 0.01, 0.03, 255.0  # the constants that keep the fractions from 0 / 0, and the largest value
PAIRS = 2000  # looked at to see how alike the pictures of a set are
PAIRS_AT_ONCE = 64


def ms_ssim(left: Tensor, right: Tensor) -> Tensor:
    """Return how alike pictures `[B, C, H, W]` of values 0..255 are pair by pair, `[B]`; 1 for equal ones.

    Luminance counts at the coarsest scale alone, contrast and structure at all five. At a scale smaller than the window of 11
    pixels the window shrinks with it, its deviation in proportion (as in Karras et al., arXiv 1710.10196: pictures of 64
    pixels have no five scales otherwise). Negative means count as 0. Raises `BadInput` below 16 pixels.
    """
    if left.shape != right.shape or min(left.shape[2:]) < 1 << (len(WEIGHTS) - 1):
        raise BadInput(
            f"pictures of {tuple(left.shape)} and {tuple(right.shape)}, expected one [B, C, H, W] with sides of at least 16"
        )
    similarity = torch.ones(len(left), dtype=left.dtype)
    for scale, weight in enumerate(WEIGHTS):
        luminance, structure = compare_windows(left, right)  # [B, C, h, w] each
        last = scale == len(WEIGHTS) - 1
        value = (luminance * structure if last else structure).mean((1, 2, 3))  # [B]
        similarity = similarity * value.clamp(min=0) ** weight
        if not last:
            left, right = F.avg_pool2d(left, 2), F.avg_pool2d(right, 2)  # [B, C, h, w] -> [B, C, h/2, w/2]
    return similarity


def mean_similarity(pictures: npt.NDArray[np.uint8], *, seed: int = 0, pairs: int = PAIRS) -> float:
    """Return the mean MS-SSIM of random pairs of different pictures of a set `uint8 [M, H, W, 3]`: high where all look alike.

    Raises `BadInput` for fewer than two pictures.
    """
    if len(pictures) < 2:
        raise BadInput(f"{len(pictures)} pictures, expected at least 2 to compare")
    rng = np.random.default_rng([seed, 7])
    first = rng.integers(0, len(pictures), pairs)
    second = (first + rng.integers(1, len(pictures), pairs)) % len(pictures)
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2)  # [M, H, W, 3] -> [M, 3, H, W]
    found = [
        ms_ssim(values[first[start : start + PAIRS_AT_ONCE]].float(), values[second[start : start + PAIRS_AT_ONCE]].float())
        for start in range(0, pairs, PAIRS_AT_ONCE)
    ]
    return float(torch.cat(found).double().mean())


def compare_windows(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luminance and the contrast-and-structure term where the window fits whole, `[B, C, h, w]` each."""
    side = min(WINDOW, *left.shape[2:])
    places = torch.arange(side, dtype=left.dtype) - (side - 1) / 2
    window = torch.exp(-0.5 * (places / (SIGMA * side / WINDOW)) ** 2)
    window = window / window.sum()
    stacked = torch.cat((left, right, left * left, right * right, left * right), 1)  # [B, 5C, h, w]
    channels = stacked.shape[1]
    rows = F.conv2d(stacked, window.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    means = F.conv2d(rows, window.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)  # [B, 5C, h', w']
    mean_l, mean_r, square_l, square_r, product = means.chunk(5, 1)  # [B, C, h', w'] each
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    luminance = (2 * mean_l * mean_r + c1) / (mean_l**2 + mean_r**2 + c1)
    covariance = product - mean_l * mean_r
    structure = (2 * covariance + c2) / (square_l - mean_l**2 + square_r - mean_r**2 + c2)
    return luminance, structure
