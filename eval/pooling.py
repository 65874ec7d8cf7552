"""Several training seeds of one objective as one row: mean figures, and intervals that hold the luck of the seeds too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from roadworthy.eval.evaluate import group_members
from roadworthy.eval.image_scores import (
    class_intervals,
    compare_scores,
    nullable,
    read_scores,
    resample_images,
)
from roadworthy.eval.resampling import mean_over_seeds
from roadworthy.eval.statistics import Estimate, estimate
from roadworthy.runtime.taxonomy import Taxonomy

POOLED = ("metrics", "per_class", "per_group", "reliability", "severity_contributions")


def pool(evaluations: Sequence[Mapping[str, Any]], taxonomy: Taxonomy, *, seed: int = 0) -> dict[str, Any]:
    """Put what `evaluate` wrote of each training seed together: the keys `POOLED`, as an evaluation has them.

    One evaluation is returned as it is. Of several, every figure is the mean over seeds of the seed's own figure (not the
    figure of a pooled confusion matrix), with a hierarchical interval: seeds, then images.
    """
    if len(evaluations) == 1:
        return {key: evaluations[0][key] for key in POOLED}
    (scores,) = read_scores({"seeds": evaluations}).values()
    resampling = resample_images(scores, seed)
    cost = np.array(evaluations[0]["ground"]["cost"], np.float64)
    of_seed = [score.statistics(cost) for score in scores]
    of_class = [score.class_statistics() for score in scores]
    of_group = [score.group_statistics(group_members(taxonomy)) for score in scores]
    classes = {
        name: [mean_over_seeds([found[name][index] for found in of_class]) for index in range(len(taxonomy))]
        for name in of_class[0]
    }
    return {
        "metrics": {
            name: _within(estimate(mean_over_seeds([found[name] for found in of_seed]), resampling), name).to_dict()
            for name in of_seed[0]
        },
        "per_class": {
            **{
                key: _means([found["per_class"][key] for found in evaluations])
                for key in ("iou", "bf", "hausdorff_px", "accuracy")
            },
            **{
                f"{name}_interval": [ends and [max(ends[0], 0.0), min(ends[1], 1.0)] for ends in each]
                for name, each in class_intervals(classes, resampling).items()
            },
        },
        "per_group": {
            str(group): {
                "classes": list(taxonomy.groups[group]),
                **_within(estimate(mean_over_seeds([found[group] for found in of_group]), resampling), "miou").to_dict(),
            }
            for group in of_group[0]
        },
        "reliability": np.sum([found["reliability"] for found in evaluations], axis=0).tolist(),
        "severity_contributions": np.mean([found["severity_contributions"] for found in evaluations], axis=0).tolist(),
    }


def _within(found: Estimate, metric: str) -> Estimate:
    """Cut an interval at what the metric can be: none is below 0, and all but the distance are at most 1.

    A t interval over two or three seeds does not know this.
    """
    return replace(found, low=max(found.low, 0.0), high=found.high if metric == "hausdorff_px" else min(found.high, 1.0))


def drift(
    rounded: Sequence[Mapping[str, Any]], exact: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Return what a precision changes: each metric of `rounded` minus that of `exact`, seed by seed on the same images."""
    found = compare_scores({"rounded": rounded, "exact": exact}, pairs=[("rounded", "exact")], seed=seed)
    return {metric: difference.estimate.to_dict() for metric, (difference,) in found.items()}


def _means(values: Sequence[Sequence[float | None]]) -> Any:
    """Mean over seeds of each class [seeds][N] -> [N]; None where no seed has a value."""
    array = np.array(values, np.float64)  # null becomes nan
    present = ~np.isnan(array)
    count = present.sum(axis=0)
    return nullable(
        np.divide(np.where(present, array, 0.0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
    )
