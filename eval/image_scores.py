"""The scores of every image of a data set, the metrics made of them, and the paired comparison of models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadworthy.eval.calibration import BINS, expected_calibration_error
from roadworthy.eval.resampling import (
    Counts,
    Floats,
    Resampling,
    Statistic,
    cluster_bootstrap,
    hierarchical_bootstrap,
    mean_over_seeds,
    of_confusion,
    ratio_of_sums,
    weighted_mean,
)
from roadworthy.eval.statistics import Difference, differences, estimate
from roadworthy.runtime.errors import BadInput

METRICS: Mapping[str, str] = {
    "miou": "mean IoU, 0..1, larger is better",
    "pixel_accuracy": "fraction of valid pixels labelled right",
    "bf": "mean BF-score, 0..1, larger is better",
    "hausdorff_px": "mean modified Hausdorff distance [pixels], smaller is better",
    "mean_max_probability": "mean of the largest class probability over valid pixels, 0..1",
    "std_max_probability": "standard deviation of the largest class probability over valid pixels, 0..1",
    "expected_severity": "mean severity per valid pixel under the ground matrix, 0..1, smaller is better",
    "ece": f"expected calibration error over {BINS} equal intervals of confidence, 0..1, smaller is better",
}


@dataclass(frozen=True)
class ImageScores:
    """What was measured on each image of a data set, in its order."""

    names: tuple[str, ...]
    groups: tuple[str, ...]  # images of one group (a recorded episode) are resampled together
    confusions: Counts  # [images, N, N] rows truth
    bf: Floats  # [images, N]
    hausdorff_px: Floats  # [images, N]
    confidence: Floats  # [images] mean of the largest probability over valid pixels
    confidence_squared: Floats  # [images] mean of its square
    reliability: Floats  # [images, BINS, 3] pixels, summed confidence and right pixels per interval of confidence

    def statistics(self, cost: Floats) -> dict[str, Statistic]:
        """Make the statistic of every metric in `METRICS`; `cost` is the evaluation's ground matrix [N, N]."""
        return {
            "miou": of_confusion(self.confusions, lambda matrices: _mean(ious(matrices), axis=1)),
            "pixel_accuracy": of_confusion(self.confusions, _accuracies),
            "bf": weighted_mean(image_means(self.bf)),
            "hausdorff_px": weighted_mean(image_means(self.hausdorff_px)),
            "mean_max_probability": weighted_mean(self.confidence),
            "std_max_probability": self._scatter,
            "expected_severity": of_confusion(self.confusions, lambda matrices: _severities(matrices, cost)),
            "ece": self._calibration,
        }

    def _scatter(self, weights: Floats) -> Floats:
        """Evaluate the standard deviation of the largest probability for weights [R, images] -> [R]; images count alike."""
        mean, of_squares = (weighted_mean(values)(weights) for values in (self.confidence, self.confidence_squared))
        deviations: Floats = np.sqrt(np.maximum(of_squares - mean**2, 0.0))
        return deviations

    def _calibration(self, weights: Floats) -> Floats:
        """Evaluate the calibration error for weights [R, images] -> [R]."""
        flat = self.reliability.reshape(len(self.names), -1)  # [images, BINS, 3] -> [images, BINS * 3]
        return expected_calibration_error((weights @ flat).reshape(-1, BINS, 3))

    def group_statistics(self, groups: Mapping[int, Sequence[int]]) -> dict[int, Statistic]:
        """Make the mean IoU over the classes (train ids) of each importance group that occur."""

        def mean_of(members: list[int]) -> Statistic:
            return of_confusion(self.confusions, lambda matrices: _mean(ious(matrices)[:, members], axis=1))

        return {group: mean_of(list(members)) for group, members in groups.items()}

    def class_statistics(self) -> dict[str, list[Statistic]]:
        """Make the IoU and the BF-score of each class."""
        hits = np.diagonal(self.confusions, axis1=1, axis2=2).astype(np.float64)  # [images, N]
        unions = self.confusions.sum(axis=1) + self.confusions.sum(axis=2) - hits  # [images, N]
        return {
            "iou": [ratio_of_sums(hits[:, c], unions[:, c]) for c in range(hits.shape[1])],
            "bf": [weighted_mean(self.bf[:, c]) for c in range(hits.shape[1])],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; of each confusion matrix only the entries that are not zero."""
        flat = self.confusions.reshape(len(self.names), -1)
        return {
            "names": list(self.names),
            "groups": list(self.groups),
            "confusions": [[[int(place), int(row[place])] for place in np.flatnonzero(row)] for row in flat],
            "bf": nullable(self.bf),
            "hausdorff_px": nullable(self.hausdorff_px),
            "confidence": nullable(self.confidence),
            "confidence_squared": nullable(self.confidence_squared),
            "reliability": self.reliability.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: int) -> ImageScores:
        """Read what `to_dict` wrote."""
        flat = np.zeros((len(data["names"]), classes * classes), np.int64)
        for row, entries in zip(flat, data["confusions"], strict=True):
            for place, count in entries:
                row[place] = count
        arrays = {
            key: np.array(data[key], np.float64)
            for key in ("bf", "hausdorff_px", "confidence", "confidence_squared", "reliability")
        }  # null becomes nan
        return cls(tuple(data["names"]), tuple(data["groups"]), flat.reshape(-1, classes, classes), **arrays)


def class_intervals(
    statistics: Mapping[str, Sequence[Statistic]], resampling: Resampling
) -> dict[str, list[list[float] | None]]:
    """Return the interval [low, high] of each class's figures, as `class_statistics` makes them; None where there is none."""
    intervals = {name: [estimate(of_class, resampling) for of_class in each] for name, each in statistics.items()}
    return {
        name: [[found.low, found.high] if math.isfinite(found.low + found.high) else None for found in each]
        for name, each in intervals.items()
    }


def resample_images(scores: Sequence[ImageScores], seed: int = 0) -> Resampling:
    """Make the bootstrap of several seeds' scores on the same images: seeds, then groups of images (`mean_over_seeds`)."""
    groups = scores[0].groups
    if len(scores) == 1:
        return cluster_bootstrap(groups, seed=seed)
    members = [str(index) for index in range(len(scores)) for _ in groups]
    return hierarchical_bootstrap([members], list(groups) * len(scores), seed=seed)


def read_scores(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[ImageScores]]:
    """Read what `evaluate` wrote, by name and seed. A model with one seed stands beside every seed of those with several.

    Raises `BadInput` when they were not measured on the same images with the same classes and ground matrix.
    """
    first = next(iter(results.values()))[0]
    seeds = max(len(each) for each in results.values())
    found = {}
    for name, each in results.items():
        for result in each:
            for key in ("classes", "ground"):
                if result[key] != first[key]:
                    raise BadInput(f"{name} was evaluated with another {key} than the others; evaluate all models alike")
            if result["per_image"]["names"] != first["per_image"]["names"]:
                raise BadInput(f"{name} was evaluated on other images than the others; evaluate all models on one data set")
        scores = [ImageScores.from_dict(result["per_image"], len(result["classes"])) for result in each]
        if len(scores) not in (1, seeds):
            raise BadInput(f"{name} has {len(scores)} seeds, expected {seeds} as the others have, or one")
        found[name] = scores * seeds if len(scores) == 1 else scores
    return found


def compare_scores(
    results: Mapping[str, Sequence[Mapping[str, Any]]], *, pairs: Sequence[tuple[str, str]] | None = None, seed: int = 0
) -> dict[str, list[Difference]]:
    """Compare models on the same images, metric by metric (paired bootstrap).

    Args:
        results: what `evaluate` wrote, by name, one per training seed in the same order; a single one for a model without.
        pairs: which to compare; None = every pair.
        seed: of the bootstrap.

    Raises:
        BadInput: they were not measured alike, see `read_scores`.
    """
    scores = read_scores(results)
    cost = np.array(next(iter(results.values()))[0]["ground"]["cost"], np.float64)
    resampling = resample_images(next(iter(scores.values())), seed)
    statistics = {name: [score.statistics(cost) for score in each] for name, each in scores.items()}
    return {
        metric: differences(
            {name: mean_over_seeds([found[metric] for found in each]) for name, each in statistics.items()},
            resampling,
            pairs=pairs,
        )
        for metric in METRICS
    }


def ious(matrices: Counts) -> Floats:
    """Return `runtime.scores.iou` of many confusion matrices at once, `[R, N, N] -> [R, N]`."""
    hits = np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)  # [R, N]
    unions = matrices.sum(axis=1) + matrices.sum(axis=2) - hits
    scores: Floats = np.divide(hits, unions, out=np.full(hits.shape, np.nan), where=unions > 0)
    return scores


def class_accuracies(matrices: Counts) -> Floats:
    """Return the share of each class's pixels labelled right, `[..., N, N] -> [..., N]`; nan for a class without pixels."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)  # [..., N]
    totals = matrices.sum(axis=-1)
    shares: Floats = np.divide(hits, totals, out=np.full(hits.shape, np.nan), where=totals > 0)
    return shares


def _accuracies(matrices: Counts) -> Floats:
    """Return the share of pixels labelled right, `[R, N, N] -> [R]`; nan without pixels."""
    totals = matrices.sum(axis=(1, 2)).astype(np.float64)
    right = np.trace(matrices, axis1=1, axis2=2)
    shares: Floats = np.divide(right, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return shares


def _severities(matrices: Counts, cost: Floats) -> Floats:
    """Return `segmentation.expected_severity` of many confusion matrices at once, `[R, N, N] -> [R]`."""
    totals = matrices.sum(axis=(1, 2)).astype(np.float64)
    costs = np.einsum("rtp,tp->r", matrices.astype(np.float64), cost)
    means: Floats = np.divide(costs, totals, out=np.zeros(len(totals)), where=totals > 0)
    return means


def image_means(values: Floats) -> Floats:
    """Mean of each image [images, N] -> [images] over the classes that have a value; nan where none has."""
    return _mean(values, axis=1)


def class_means(values: Floats) -> Floats:
    """Mean of each class [images, N] -> [N] over the images that have a value; nan where none has."""
    return _mean(values, axis=0)


def _mean(values: Floats, axis: int) -> Floats:
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    means: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return means


def nullable(values: Floats) -> Any:
    """Turn an array into lists with null for nan."""
    return [nullable(item) for item in values] if values.ndim > 1 else [None if math.isnan(v) else v for v in values.tolist()]
