"""Conservative pseudo-labels for pixels that nobody labelled: class-balanced self-training and its regularisers (CRST).

A network labels the target domain itself and learns from what it is sure of (Zou et al., ECCV 2018, arXiv 1810.07911: CBST). So
that frequent classes do not crowd out the others, each class k has its own threshold λ_k, passed by the same portion of the
pixels predicted as k. To keep wrong labels from being believed, labels or network are regularised (ICCV 2019, arXiv
1908.09822: CRST). Soft targets are `[B, N, H, W]`, all zero where no label is given, as the losses take them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.losses import soft_cross_entropy

FIRST_PORTION, PORTION_STEP, LAST_PORTION = 0.20, 0.05, 0.50  # of the pixels, by round; the published schedule
LRENT_ALPHA = 0.25  # weight of the label entropy
MRKLD_ALPHA = 0.1  # weight of the network's divergence from uniform


def portion(round_index: int) -> float:
    """Return which portion of the pixels is labelled in a round, counted from 0: 20 %, 25 %, ... up to 50 %."""
    return min(LAST_PORTION, FIRST_PORTION + PORTION_STEP * round_index)


def class_thresholds(confidence: Tensor, predicted: Tensor, classes: int, portion: float) -> Tensor:
    """Return thresholds `[N]` that the surest `portion` of the pixels predicted as each class reach.

    `confidence` (largest probability, float) and `predicted` (its class, int64) hold all the target domain's pixels, in any
    shape. A class that is never predicted gets 1. Raises ValueError for a portion outside 0 to 1.
    """
    if not 0 < portion <= 1:
        raise ValueError(f"portion is {portion}, expected more than 0 and at most 1")
    thresholds = torch.ones(classes, dtype=confidence.dtype, device=confidence.device)
    for index in range(classes):
        of_class = confidence[predicted == index]
        if of_class.numel():
            wanted = max(1, math.floor(portion * of_class.numel()))
            thresholds[index] = torch.topk(of_class, wanted).values[-1]
    return thresholds


def _relative(probs: Tensor, thresholds: Tensor) -> Tensor:
    return probs / thresholds.view(1, -1, 1, 1)  # [B, N, H, W]


def hard_labels(probs: Tensor, thresholds: Tensor) -> Tensor:
    """Return CBST's labels `int64 [B, H, W]`: the class with the largest p_k / λ_k, ignored where that is below 1."""
    best, labels = _relative(probs, thresholds).max(1)  # [B, H, W] each
    return torch.where(best >= 1, labels, IGNORE)


def entropy_regularised_labels(probs: Tensor, thresholds: Tensor, alpha: float = LRENT_ALPHA) -> Tensor:
    """Return LRENT's soft labels `[B, N, H, W]`: y_k ∝ (p_k / λ_k)^(1/α), all zero where no label is better.

    They minimise −Σ y_k log(p_k / λ_k) + α Σ y_k log y_k over the simplex; at the minimum that is −α log Σ (p_k / λ_k)^(1/α),
    and a pixel is labelled where it is below the cost of no label, 0. Raises ValueError for an alpha that is not above 0.
    """
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}, expected a number above 0")
    tiny = torch.finfo(probs.dtype).tiny
    powers = _relative(probs, thresholds).clamp(min=tiny).log() / alpha  # [B, N, H, W], log (p_k / λ_k)^(1/α)
    gain = torch.logsumexp(powers, 1, keepdim=True)  # [B, 1, H, W]
    return torch.softmax(powers, 1) * (gain > 0)


def divergence_regularised_cross_entropy(logits: Tensor, target_probs: Tensor, alpha: float = MRKLD_ALPHA) -> Tensor:
    """Return MRKLD's loss: the cross-entropy plus −α/N·Σ log p_k, averaged over labelled pixels.

    The second term is α·KL(uniform ‖ p) up to a constant: it keeps the network from being too sure.
    """
    labelled = target_probs.sum(1, keepdim=True) > 0  # [B, 1, H, W]
    return soft_cross_entropy(logits, target_probs + alpha / logits.shape[1] * labelled)
