"""What an adaptation study found: confusion matrices per image, and from them figures, intervals and answers to claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadworthy.eval.adaptation_claims import claimed_pairs
from roadworthy.eval.adaptation_pairs import POINTS_OF_VIEW, SCENES, ViewPair, view_pairs
from roadworthy.eval.adaptation_plan import (
    FINE_TUNING,
    NO_ADAPTATION,
    ORACLE,
    OURS,
    SOURCE_ONLY,
    STATISTICS,
    AdaptationStudy,
    RealPlan,
    ScenesPlan,
    method_run,
    pair_run,
    views_plan,
)
from roadworthy.eval.evaluate import BLOCK
from roadworthy.eval.image_scores import class_accuracies, ious, nullable
from roadworthy.eval.resampling import (
    Counts,
    Floats,
    Resampling,
    Statistic,
    cluster_bootstrap,
    hierarchical_bootstrap,
    mean_over_seeds,
    of_confusion,
    weighted_mean,
)
from roadworthy.eval.statistics import LEVEL, Difference, clusters_needed, differences, estimate
from roadworthy.runtime.scores import confusion
from roadworthy.runtime.taxonomy import CAMVID, CARLA13
from roadworthy.train.checkpoint import load_run
from roadworthy.train.data import open_dataset
from roadworthy.train.data.folding import fold_classes
from roadworthy.train.data.frames import Frames
from roadworthy.train.models.normalisation import normalise

BATCH = 8  # frames scored at a time
SCENE_METHODS = (NO_ADAPTATION, STATISTICS, OURS, FINE_TUNING)


@torch.no_grad()
def score_run(run: Path, spec: str) -> list[Any]:
    """Run a trained segmenter over the validation split of a data set; returns one confusion matrix `[N][N]` per image."""
    model, config, taxonomy = load_run(run)
    frames = Frames(fold_classes(open_dataset(spec, "val"), taxonomy.name), config.size)
    found = []
    for start in range(0, len(frames), BATCH):
        samples = [frames[index] for index in range(start, min(start + BATCH, len(frames)))]
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
        labels = model(normalise(images)).logits.argmax(1).numpy()  # [B, N, H, W] -> [B, H, W]
        for predicted, sample in zip(labels, samples, strict=True):
            found.append(confusion(predicted, sample.labels, len(taxonomy)).tolist())
    return found


def summarise(study: AdaptationStudy, folder: Path) -> dict[str, Any]:
    """Put all scores of a finished study together."""
    facts: dict[str, Any] = {"model": study.model, "size": [study.height, study.width]}
    if study.scenes is not None:
        facts["scenes"] = _scenes(study.scenes, folder)
    if study.real is not None:
        facts["real"] = _real(study.real, folder)
    return facts


def _over_true_classes(values: Floats, matrices: Counts) -> Floats:
    """Return the mean over the classes that the truth has, `[R, N] -> [R]`."""
    present = matrices.sum(axis=2) > 0  # [R, N]
    total: Floats = np.where(present, values, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return total


def mean_iou(matrices: Counts) -> Floats:
    """Return the mean IoU over the classes that the truth has, `[R, N, N] -> [R]`: one list of classes for every method."""
    return _over_true_classes(ious(matrices), matrices)


def mean_accuracy(matrices: Counts) -> Floats:
    """Return the mean accuracy over the classes that the truth has, `[R, N, N] -> [R]`."""
    return _over_true_classes(class_accuracies(matrices), matrices)


def _scenes(plan: ScenesPlan, folder: Path) -> dict[str, Any]:
    """Return experiment (a): every figure is the mean over pairs (and seeds), its interval over scenes."""
    pairs = view_pairs(views_plan(plan))
    spent: dict[str, list[float]] = {method: [] for method in SCENE_METHODS}
    facts: dict[str, Any] = {"classes": list(CARLA13.classes), "seeds": list(plan.seeds)}
    for kind in (POINTS_OF_VIEW, SCENES):
        chosen = [pair for pair in pairs if pair.kind == kind]
        if not chosen:
            continue
        tables: dict[str, Any] = {}
        of_pairs: dict[str, Floats] = {}  # mean IoU [pairs]
        means: dict[str, dict[str, Statistic]] = {"mean_iou": {}, "mean_accuracy": {}}
        places = sorted({place for pair in chosen for place in pair.scenes})
        resampling = cluster_bootstrap([f"{place:04d}" for place in places])
        enough = len(places) >= clusters_needed(LEVEL)
        for method in SCENE_METHODS:
            summed = []  # [pairs][seeds, N, N]
            for pair in chosen:
                found = [_read(folder, pair_run(method, pair, seed)) for seed in plan.seeds]
                spent[method] += [each["seconds"] for each in found]
                summed.append(np.stack([np.array(each["scores"][pair.target], np.int64).sum(0) for each in found]))
            iou = np.stack([_class_means(ious(matrices)) for matrices in summed])  # [pairs, N]
            accuracy = np.stack([_class_means(class_accuracies(matrices)) for matrices in summed])
            of_pairs[method] = np.array([mean_iou(matrices).mean() for matrices in summed])
            means["mean_iou"][method] = over_scenes(of_pairs[method], chosen)
            means["mean_accuracy"][method] = over_scenes(
                np.array([mean_accuracy(matrices).mean() for matrices in summed]), chosen
            )
            tables[method] = {
                **{metric: _figure(each[method], resampling, enough) for metric, each in means.items()},
                "iou": nullable(_class_means(iou)),
                "accuracy": nullable(_class_means(accuracy)),
            }
        # Each at the full level: they are different questions, and the scenes are few.
        questions = [(OURS, other) for other in SCENE_METHODS if other != OURS]
        compared = differences(means["mean_iou"], resampling, pairs=questions, share=False)
        facts[kind] = {
            "pairs": [f"{pair.source}-{pair.target}" for pair in chosen],
            "scenes": len(places),
            "scenes_needed": clusters_needed(LEVEL),
            "methods": tables,
            "differences": [
                {
                    **_plain(each),
                    **({} if enough else {"low": None, "high": None}),
                    "of_pairs": [round(value, 5) for value in (of_pairs[each.first] - of_pairs[each.second]).tolist()],
                }
                for each in compared
            ],
        }
    facts["seconds"] = {method: round(float(np.mean(each)), 1) for method, each in spent.items()}
    return facts


def over_scenes(values: Floats, pairs: Sequence[ViewPair]) -> Statistic:
    """Make the statistic "mean of `values` [pairs]" of how often each of the pairs' scenes was drawn.

    What makes a scene hard, and the network that learnt its labels, is in all pairs of it, so scenes are drawn and not pairs.
    A pair of two scenes counts by the product of their draws (the bootstrap of a network's nodes: Snijders and Borgatti,
    Connections 22, 1999), one within a scene by that scene's.
    """
    places = sorted({place for pair in pairs for place in pair.scenes})
    source = np.array([places.index(pair.scenes[0]) for pair in pairs])
    target = np.array([places.index(pair.scenes[1]) for pair in pairs])
    mean = weighted_mean(values)

    def of_draws(weights: Floats) -> Floats:
        drawn = weights[:, source]  # [R, scenes] -> [R, pairs]
        return mean(np.where(source == target, drawn, drawn * weights[:, target]))

    return of_draws


def _figure(statistic: Statistic, resampling: Resampling, enough: bool) -> dict[str, float | None]:
    """Return a figure as plain data; without its interval where the scenes are too few for one."""
    found = estimate(statistic, resampling).to_dict()
    return found if enough else {**found, "low": None, "high": None}


def _plain(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "second": difference.second,
        "distinguishable": difference.distinguishable,
        **difference.estimate.to_dict(),
    }


def _class_means(values: Floats) -> Floats:
    """Return the mean of each class over the rows that have it, `[rows, N] -> [N]`."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    means: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return means


def _real(plan: RealPlan, folder: Path) -> dict[str, Any]:
    """Return experiment (b): the mean over seeds of the data set's figures; intervals over seeds and blocks of images."""
    methods: dict[str, Any] = {}
    statistics: dict[str, Statistic] = {}
    images = 0
    for method in plan.methods:
        found = [_read(folder, method_run(method, seed)) for seed in plan.seeds]
        matrices = np.array([each["scores"][CAMVID.name] for each in found], np.int64)  # [seeds, images, N, N]
        images = matrices.shape[1]
        statistics[method] = mean_over_seeds([of_confusion(of_seed, mean_iou) for of_seed in matrices])
        summed = matrices.sum(1)  # [seeds, N, N]
        methods[method] = {
            "mean_iou_of_seeds": [round(value, 5) for value in mean_iou(summed).tolist()],
            "iou": nullable(_class_means(ious(summed))),
            "updates": found[0]["updates"],
            "seconds": round(float(np.mean([each["seconds"] for each in found])), 1),
        }
    blocks = [f"{index // BLOCK:04d}" for index in range(images)]
    if len(plan.seeds) == 1:
        resampling = cluster_bootstrap(blocks)
    else:
        of_seed = [str(seed) for seed in plan.seeds for _ in blocks]
        resampling = hierarchical_bootstrap([of_seed], blocks * len(plan.seeds))
    for method, statistic in statistics.items():
        methods[method]["mean_iou"] = estimate(statistic, resampling).to_dict()
    claimed = claimed_pairs(plan.methods)
    # What no claim is about is compared at the full level each; the claims share the 5 % of their intervals.
    adapting = [method for method in plan.methods if method not in (SOURCE_ONLY, STATISTICS, ORACLE)]
    others = [(method, SOURCE_ONLY) for method in plan.methods if method != SOURCE_ONLY]
    others += [(method, STATISTICS) for method in adapting if STATISTICS in plan.methods]
    others = [pair for pair in others if pair not in claimed]
    compared = [
        *differences(statistics, resampling, pairs=claimed),
        *differences(statistics, resampling, pairs=others, share=False),
    ]
    return {
        "classes": list(CAMVID.classes),
        "seeds": list(plan.seeds),
        "images": images,
        "methods": methods,
        "differences": [_plain(each) for each in compared],
    }


def _read(folder: Path, name: str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = json.loads((folder / "scores" / f"{name}.json").read_text(encoding="utf-8"))
    return values
