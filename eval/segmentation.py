"""How good a segmentation is: structure (BF-score, modified Hausdorff), confidence and severity.

Confusion and IoU live in `runtime.scores`; every stage counts with that one implementation, and so does this one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.eval.contours import directed, trace
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import Confusion, confusion, iou, mean_iou
from roadworthy.runtime.taxonomy import IGNORE

__all__ = [
    "BF_TOLERANCE",
    "Confusion",
    "ContourScores",
    "bf_score",
    "confusion",
    "contour_scores",
    "expected_severity",
    "iou",
    "mean_iou",
    "mean_max_probability",
    "modified_hausdorff",
    "severity_contributions",
]

BF_TOLERANCE = 0.0075  # [fraction of the image diagonal], arXiv 1908.02711, section 4 (after Csurka et al., BMVC 2013)


class ContourScores(NamedTuple):
    """Structure scores of one image per class; nan where the score is not defined."""

    bf: npt.NDArray[np.float64]  # [N] in 0..1; nan for a class in neither map, 0 for a class in only one
    hausdorff_px: npt.NDArray[np.float64]  # [N] pixels; nan unless the class has a contour in both maps


def contour_scores(
    pred: npt.NDArray[np.integer], label: npt.NDArray[np.integer], classes: int, tolerance: float = BF_TOLERANCE
) -> ContourScores:
    """Compute BF-score and modified Hausdorff distance of one image together; they share all the geometry.

    Args:
        pred: train ids `[H, W]`.
        label: train ids `[H, W]`, 255 = void. Pixels void here are void in `pred` too, and no contour runs along them.
        classes: number of classes N.
        tolerance: two contour points match when at most this far apart [fraction of the image diagonal].

    BF is the harmonic mean of the matched fractions of predicted and true contour points (arXiv 1908.02711, "Metrics").
    A class that fills all valid pixels has no contour: it scores 1 when that is so in both maps and 0 when in one.
    Hausdorff is eq. 7 of the same paper: the average (not the maximum) of the two directed mean distances.
    Raises `BadInput` for different shapes or ids outside 0..classes-1.
    """
    if pred.shape != label.shape or pred.ndim != 2:
        raise BadInput(f"prediction has shape {pred.shape}, label has {label.shape}; expected one [H, W] for both")
    valid = label != IGNORE
    masked = np.where(valid, pred, IGNORE).astype(np.int64)
    for what, ids in (("prediction", masked[valid]), ("label", label[valid])):
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < classes:
            raise BadInput(
                f"{what} has ids {int(ids.min())}..{int(ids.max())}, expected 0..{classes - 1} or {IGNORE} (ignored)"
            )
    guess, truth = trace(masked.astype(np.uint8), classes), trace(label.astype(np.uint8), classes)
    tolerance_px = tolerance * math.hypot(*label.shape)
    forward, backward = directed(guess, truth, tolerance_px), directed(truth, guess, tolerance_px)

    in_guess, in_truth = guess.pixels > 0, truth.pixels > 0  # [N]
    drawn = (forward.points > 0) & (backward.points > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = forward.matched / forward.points  # [N]
        recall = backward.matched / backward.points
        both = precision + recall
        harmonic = np.where(both > 0, 2 * precision * recall / both, 0.0)
        average = (forward.total_px / forward.points + backward.total_px / backward.points) / 2
    no_contour = (forward.points == 0) & (backward.points == 0) & in_guess & in_truth
    bf = np.where(drawn, harmonic, np.where(no_contour, 1.0, np.where(in_guess | in_truth, 0.0, np.nan)))
    return ContourScores(bf, np.where(drawn, average, np.nan))


def bf_score(
    pred: npt.NDArray[np.integer], label: npt.NDArray[np.integer], classes: int, tolerance: float = BF_TOLERANCE
) -> npt.NDArray[np.float64]:
    """Return the BF-score of one image per class, `float64 [N]` in 0..1; arguments and errors as `contour_scores`.

    The score of an image is the mean over the classes that are not nan; the score of a data set is the mean over images.
    """
    return contour_scores(pred, label, classes, tolerance).bf


def modified_hausdorff(pred: npt.NDArray[np.integer], label: npt.NDArray[np.integer], classes: int) -> npt.NDArray[np.float64]:
    """Return the modified Hausdorff distance of one image per class, `float64 [N]` [pixels]; see `contour_scores`."""
    return contour_scores(pred, label, classes).hausdorff_px


def mean_max_probability(probs: npt.NDArray[np.floating]) -> float:
    """Return the mean largest class probability of `probs` `[N, H, W]` or `[B, N, H, W]` (arXiv 1908.02711, table 1)."""
    if probs.ndim < 3:
        raise BadInput(f"probabilities have shape {probs.shape}, expected [N, H, W] or [B, N, H, W]")
    return float(probs.max(axis=-3).mean(dtype=np.float64))


def severity_contributions(confusion: npt.NDArray[np.integer], cost: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return what each pair (truth, prediction) adds to the expected severity, `float64 [N, N]`; the sum is the total."""
    if confusion.shape != cost.shape:
        raise BadInput(
            f"confusion is {confusion.shape}, ground matrix is {cost.shape}; expected one [N, N] of the same classes"
        )
    pixels = int(confusion.sum())
    if pixels == 0:
        return np.zeros(confusion.shape, np.float64)
    return confusion * np.asarray(cost, np.float64) / pixels


def expected_severity(confusion: npt.NDArray[np.integer], cost: npt.NDArray[np.floating]) -> float:
    """Return the mean severity per valid pixel: Σ confusion[t, p] · cost[t, p] / Σ confusion.

    `cost[truth, predicted]` is a ground matrix (arXiv 2008.04751, eq. 2, indexed truth first); with its largest entry 1
    the result lies in 0..1. Raises `BadInput` when the two do not have one shape; 0.0 for an empty confusion.
    """
    return float(severity_contributions(confusion, cost).sum())
