"""Calibration: does a segmenter that says "90 % sure" get 90 % of those pixels right?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput

BINS = 15  # equal intervals of confidence, as in Guo et al., ICML 2017 (arXiv 1706.04599), section 3

Floats = npt.NDArray[np.float64]


def reliability(confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Floats:
    """Sort pixels into `BINS` equal intervals of confidence, each open below and closed above (eq. 2 of Guo et al.).

    Args:
        confidence: largest class probability of each pixel, 0..1, any shape; leave void pixels out.
        right: whether the pixel's label is right, same shape.

    Returns:
        `float64 [BINS, 3]`: pixels, the sum of their confidence, and how many are right. Sums of several images add up.

    Raises:
        BadInput: the shapes differ, or a confidence is outside 0..1 or not a number.
    """
    if confidence.shape != right.shape:
        raise BadInput(f"confidence has shape {confidence.shape}, right has {right.shape}; expected one shape for both")
    flat = confidence.ravel().astype(np.float64)  # [...] -> [pixels]
    if flat.size and not (flat.min() >= 0 and flat.max() <= 1 + 1e-6):  # half precision may round a little above 1
        raise BadInput(f"confidence runs from {flat.min():g} to {flat.max():g}, expected probabilities between 0 and 1")
    place = np.clip(np.ceil(flat * BINS).astype(np.intp) - 1, 0, BINS - 1)
    counts = [np.bincount(place, weights, BINS) for weights in (None, flat, right.ravel().astype(np.float64))]
    return np.stack(counts, axis=1).astype(np.float64)  # 3 x [BINS] -> [BINS, 3]


def expected_calibration_error(counts: Floats) -> Floats:
    """Return Σ pixels/total · |accuracy − confidence| over the bins (eq. 3 of Guo et al.), 0..1; nan without a pixel.

    `counts` is `[..., BINS, 3]` as `reliability` makes it; the result has the leading shape.
    """
    gap = np.abs(counts[..., 2] - counts[..., 1]).sum(axis=-1)  # pixels · |accuracy - confidence|, [..., BINS] -> [...]
    total = counts[..., 0].sum(axis=-1)
    error: Floats = np.divide(gap, total, out=np.full(np.shape(total), math.nan), where=total > 0)
    return error


def reliability_curve(counts: Floats) -> list[tuple[float, float, float]]:
    """Return (mean confidence, accuracy, share of all pixels) of every bin of `counts` `[BINS, 3]` that has pixels."""
    total = float(counts[:, 0].sum())
    return [(float(c / n), float(r / n), float(n / total)) for n, c, r in counts if n > 0]
