"""Functional losses of per-pixel classification, apart from how they are used, so that they can be checked one by one.

All take `logits [B, N, H, W]` (float) and `target [B, H, W]` (int64 class ids, `ignore_index` = no label) and return a
scalar: the mean over the labelled pixels, unless they say otherwise. An ignored pixel adds exactly nothing to the value,
the gradient and the number that is divided by; a batch without any label gives zero.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.sinkhorn import sinkhorn_wasserstein
from roadworthy.train.wasserstein import wasserstein

__all__ = [
    "betting_map",
    "cross_entropy",
    "embedding_distance",
    "entropy",
    "focal",
    "gambling",
    "importance_aware",
    "logit_entropy",
    "logit_self_information",
    "one_hot",
    "pixel_cross_entropy",
    "pixel_mean",
    "self_information",
    "sinkhorn_wasserstein",
    "soft_cross_entropy",
    "staked",
    "step_wasserstein",
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


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    ignore_index: int = IGNORE,
    mean_weight: float | None = None,
) -> Tensor:
    """Return the cross-entropy −log p_true, averaged over labelled pixels.

    With class `weights [N]` it is the weighted average Σ w_t·CE / Σ w_t, as in torch: the weights' scale does not matter.
    With the `mean_weight` of a pixel in all the training data it is Σ w_t·CE / (mean_weight · labelled pixels) instead:
    the same on average, and the parts of a batch add up to it.
    """
    rows, truth = _rows(logits, target)
    if weights is not None:  # torch wants both in one precision, and half of it would round the weights
        weights = weights.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
        rows = rows.to(weights.dtype)
    total = F.cross_entropy(rows, truth, weights, ignore_index=ignore_index, reduction="sum")
    if weights is None:
        return total / _valid_count(target, ignore_index)
    if mean_weight is not None:
        return total / (mean_weight * _valid_count(target, ignore_index))
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


def importance_aware(
    logits: Tensor, target: Tensor, weights: Tensor, ignore_index: int = IGNORE, mean_weight: float | None = None
) -> Tensor:
    """Return cross-entropy times the importance `weights [N]` of the true class (arXiv 2008.04751, section II).

    The importances are normalised to mean 1 over pixels, those of the batch or, with `mean_weight`, those of all the training
    data (see `cross_entropy`): an importance is a ratio between classes, not a scale of the loss.
    """
    return cross_entropy(logits, target, weights, ignore_index, mean_weight)


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


def embedding_distance(predicted: Tensor, true: Tensor) -> Tensor:
    """Return ‖d_e(x, ŷ) − d_e(x, y)‖₂ of a discriminator's embeddings `[B, E, h, w]` (arXiv 1908.02711, eq. 3).

    A patch discriminator judges every patch by itself: the norm is over a patch's E features, averaged over patches and
    images, so that the loss does not grow with the frame. The gradient is zero where both embeddings are the same.
    """
    distance: Tensor = torch.linalg.vector_norm(predicted - true, dim=1)  # [B, E, h, w] -> [B, h, w]
    return distance.mean()


def one_hot(target: Tensor, classes: int, ignore_index: int = IGNORE) -> Tensor:
    """Return class ids `[B, H, W]` as probabilities `float32 [B, N, H, W]`, all zero where the target is ignored."""
    valid = target != ignore_index
    planes = torch.zeros((target.shape[0], classes, *target.shape[1:]), device=target.device)
    return planes.scatter_(1, target.where(valid, 0).unsqueeze(1), valid.unsqueeze(1).to(planes.dtype))  # [B, N, H, W]


def _soft_mean(losses: Tensor, target_probs: Tensor) -> Tensor:
    """Return the mean of `losses [B, H, W]` over the pixels whose soft target `[B, N, H, W]` is not all zero."""
    labelled = target_probs.sum(1) > 0  # [B, H, W]
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


def soft_cross_entropy(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Return −Σ t·log softmax(logits) for soft targets `[B, N, H, W]`, averaged over labelled pixels (all-zero = no label)."""
    return _soft_mean(-(target_probs * torch.log_softmax(logits, 1)).sum(1), target_probs)


def step_wasserstein(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Return ½ Σ |softmax(logits) − t|, averaged over labelled pixels (arXiv 2008.04751, eq. 5).

    It is the Wasserstein distance to soft targets `[B, N, H, W]` (all zero = no label) where every mistake costs 1.
    """
    difference = torch.softmax(logits, 1) - target_probs  # [B, N, H, W]
    return _soft_mean(0.5 * difference.abs().sum(1), target_probs)


def self_information(probs: Tensor) -> Tensor:
    """Return −p·log p / log N of probabilities `[B, N, H, W]`, same shape: what AdvEnt's discriminator sees (CVPR 2019).

    Divided by log N as in its authors' code, so that a pixel's values add up to its `entropy`.
    """
    tiny = torch.finfo(probs.dtype).tiny  # keeps the gradient finite at p = 0, where the value is 0 all the same
    return -probs * torch.log(probs.clamp(min=tiny)) / math.log(probs.shape[1])


def entropy(probs: Tensor) -> Tensor:
    """Return the entropy of probabilities `[B, N, H, W]` per pixel, `[B, H, W]`, from 0 (certain) to 1 (uniform)."""
    return self_information(probs).sum(1)


def logit_self_information(logits: Tensor) -> Tensor:
    """Return `self_information(softmax(logits))` of `[B, N, H, W]`, same shape, without rounding probabilities on the way."""
    logs = torch.log_softmax(logits, 1)  # [B, N, H, W]
    return -logs.exp() * logs / math.log(logits.shape[1])


def logit_entropy(logits: Tensor) -> Tensor:
    """Return `entropy(softmax(logits))` of `[B, N, H, W]` per pixel, `[B, H, W]`, as `logit_self_information` does."""
    return logit_self_information(logits).sum(1)
