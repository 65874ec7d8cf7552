"""Time BF-score and modified Hausdorff on one core and print JSON: `python scripts/bench_metrics.py [--rounds N]`.

The pair is synthetic: a town-like map of 19 classes at 1024x512 and a prediction whose contours are bent by a few pixels.
The naive baseline builds two distance maps per class, as most published code does.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from roadworthy.eval.segmentation import BF_TOLERANCE, contour_scores
from roadworthy.runtime import machine

CLASSES = 19
HEIGHT, WIDTH = 512, 1024  # [pixels]


def make_pair(bend_px: float = 3.0, speckle: float = 0.002) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Make a prediction and a label, `uint8 [H, W]` each."""
    rng = np.random.default_rng(0)
    centres = np.stack([rng.uniform(0, HEIGHT, 150), rng.uniform(0, WIDTH, 150)], axis=1)
    kinds = rng.integers(0, CLASSES, len(centres))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    nearest = np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres], axis=0)  # [H, W]
    label = kinds[nearest].astype(np.uint8)
    bend = ndimage.gaussian_filter(rng.normal(size=(2, HEIGHT, WIDTH)), (0, 8, 8))
    bend *= bend_px / bend.std()
    rows = np.clip(y + bend[0], 0, HEIGHT - 1).astype(np.intp)
    columns = np.clip(x + bend[1], 0, WIDTH - 1).astype(np.intp)
    pred = label[rows, columns]
    noisy = rng.random(pred.shape) < speckle
    pred[noisy] = rng.integers(0, CLASSES, int(noisy.sum()))
    return pred, label


def naive(pred: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> list[float]:
    """Score each class with two distance maps; returns BF-scores and Hausdorff distances to check against."""
    found = []
    limit = BF_TOLERANCE * math.hypot(*label.shape)
    cross = ndimage.generate_binary_structure(2, 1)
    for kind in range(CLASSES):
        contours = [mask & ~ndimage.binary_erosion(mask, cross, border_value=1) for mask in (pred == kind, label == kind)]
        if not all(contour.any() for contour in contours):
            continue
        away = [ndimage.distance_transform_edt(~contour) for contour in contours]
        there, back = away[1][contours[0]], away[0][contours[1]]
        precision, recall = (there <= limit).mean(), (back <= limit).mean()
        found += [2 * precision * recall / (precision + recall), (there.mean() + back.mean()) / 2]
    return found


def median_ms(call: Callable[[], object], rounds: int) -> float:
    """Return the median time of `call` in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    pred, label = make_pair()
    scores = contour_scores(pred, label, CLASSES)  # also compiles
    ours = [value for pair in zip(scores.bf, scores.hausdorff_px, strict=True) for value in pair if not math.isnan(pair[1])]
    np.testing.assert_allclose(ours, naive(pred, label), rtol=1e-9)
    fast = median_ms(lambda: contour_scores(pred, label, CLASSES), rounds)
    slow = median_ms(lambda: naive(pred, label), max(rounds // 5, 1))
    result = {
        "what": "BF-score + modified Hausdorff, one core",
        "size": [HEIGHT, WIDTH],
        "classes": CLASSES,
        "rounds": rounds,
        "median_ms": round(fast, 2),
        "naive_median_ms": round(slow, 2),
        "times_faster": round(slow / fast, 1),
        "machine": machine.describe().to_dict(),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
