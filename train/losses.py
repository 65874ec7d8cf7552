"""Functional losses of per-pixel classification, apart from how they are used, so that they can be checked one by one.

All take `logits [B, N, H, W]` (float) and `target [B, H, W]` (int64 class ids, `ignore_index` = no label) and return a
scalar: the mean over the labelled pixels, unless they say otherwise. An ignored pixel adds exactly nothing to the value,
the gradient and the number that is divided by; a batch without any label gives zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.wasserstein import wasserstein

__all__ = [
    "betting_map",
    "cross_entropy",
    "focal",
    "gambling",
    "importance_aware",
    "pixel_cross_entropy",
    "pixel_mean",
    "staked",
    "wasserstein",
]


def _rows(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return pixel rows `[P, N]` and `[P]` where the logits lie in channels-last memory, else both unchanged.

    There the rows cost no copy, and torch's row kernel is 2.5 times faster than its map kernel.
    """
    if logits.is_contiguous() or not logits.is_contiguous(memory_format=torch.channels_last):
        return logits, target
    return logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), target.reshape(-1)  # [B, N, H, W] -> [B * H * W, N]


def _valid_count(target: Tensor, ignore_index: int) -> Tensor:
    return (target != ignore_index).sum().clamp(min=1)


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None, ignore_index: int = IGNORE) -> Tensor:
    """Return the cross-entropy −log p_true, averaged over labelled pixels.

    With class `weights [N]` it is the weighted average Σ w_t·CE / Σ w_t, as in torch: the weights' scale does not matter.
    """
    rows, truth = _rows(logits, target)
    total = F.cross_entropy(rows, truth, weights, ignore_index=ignore_index, reduction="sum")
    if weights is None:
        return total / _valid_count(target, ignore_index)
    valid = target != ignore_index
    mass = (weights[target.where(valid, 0)] * valid).sum()
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def pixel_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return the cross-entropy of each pixel, `[B, H, W]`, zero where the target is ignored."""
    rows, truth = _rows(logits, target)
    return F.cross_entropy(rows, truth, ignore_index=ignore_index, reduction="none").view(target.shape)


def pixel_mean(losses: Tensor, target: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return the mean over labelled pixels of `losses [B, H, W]` that are zero where the target is ignored."""
    return losses.sum() / _valid_count(target, ignore_index)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, ignore_index: int = IGNORE) -> Tensor:
    """Return the softmax focal loss −(1 − p_true)^γ log p_true (arXiv 1708.02002, eq. 4), averaged over labelled pixels."""
    loss = pixel_cross_entropy(logits, target, ignore_index)  # [B, H, W]
    missing = -torch.expm1(-loss)  # 1 - p_true, exact for small losses
    return pixel_mean(missing.clamp(min=0) ** gamma * loss, target, ignore_index)


def importance_aware(logits: Tensor, target: Tensor, weights: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return cross-entropy times the importance `weights [N]` of the true class (arXiv 2008.04751, section II).

    The importances are normalised to mean 1 over the labelled pixels of the batch, which makes it the weighted average
    of `cross_entropy`: an importance is a ratio between classes, not a scale of the loss.
    """
    return cross_entropy(logits, target, weights, ignore_index)


def betting_map(scores: Tensor, beta: float = 0.02) -> Tensor:
    """Turn a gambler's raw `scores [B, H, W]` into bets `[B, H, W]` that sum to 1 over each image.

    g = (σ(score) + β) / Σ (σ(score) + β) (arXiv 1908.02711, eq. 6); β > 0 keeps a stake on every pixel.
    """
    stakes = torch.sigmoid(scores) + beta  # [B, H, W]
    return stakes / stakes.sum((1, 2), keepdim=True)


def gambling(logits: Tensor, target: Tensor, bets: Tensor, ignore_index: int = IGNORE, *, literal: bool = False) -> Tensor:
    """Return Σ bets·CE over labelled pixels, averaged over the batch's images (arXiv 1908.02711, eq. 4 without its sign).

    The segmenter minimises it and the gambler maximises it. `bets [B, H, W]` come from `betting_map` and sum to 1 over
    an image, so the sum is already an average; `literal` also divides by W·H, as eq. 4 prints it, which makes the term
    vanish beside the cross-entropy. The gradient reaches `logits` on two ways: through the cross-entropy (flow A) and,
    where the bets were computed from these logits, through the gambler (flow B).
    """
    return staked(pixel_cross_entropy(logits, target, ignore_index), bets, literal=literal)


def staked(losses: Tensor, bets: Tensor, *, literal: bool = False) -> Tensor:
    """Return what `bets [B, H, W]` on pixel `losses [B, H, W]` win: `gambling` for losses that are there already."""
    won = (bets * losses).sum() / losses.shape[0]
    return won / (losses.shape[1] * losses.shape[2]) if literal else won
