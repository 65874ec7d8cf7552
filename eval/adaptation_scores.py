"""What an adaptation study found: confusion matrices per image, and from them figures, intervals and answers to claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadworthy.agent.views import view_names
from roadworthy.eval.adaptation_plan import (
    FINE_TUNING,
    NO_ADAPTATION,
    OURS,
    POINTS_OF_VIEW,
    SCENES,
    SOURCE_ONLY,
    STATISTICS,
    AdaptationStudy,
    RealPlan,
    ScenesPlan,
    claimed_pairs,
    method_run,
    view_pairs,
    views_plan,
)
from roadworthy.eval.evaluate import BLOCK
from roadworthy.eval.image_scores import class_accuracies, ious, nullable
from roadworthy.eval.resampling import (
    Counts,
    Floats,
    Statistic,
    cluster_bootstrap,
    hierarchical_bootstrap,
    mean_over_seeds,
    of_confusion,
    weighted_mean,
)
from roadworthy.eval.statistics import differences, estimate
from roadworthy.runtime.scores import confusion
from roadworthy.runtime.taxonomy import CAMVID, CARLA13
from roadworthy.train.checkpoint import load_run
from roadworthy.train.data import open_dataset
from roadworthy.train.data.folding import fold_classes
from roadworthy.train.data.frames import Frames
from roadworthy.train.models.normalisation import normalise

BATCH = 8  # frames scored at a time


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
    """Return experiment (a): every figure is the mean over pairs (and seeds), its interval over pairs."""
    pairs = view_pairs(view_names(views_plan(plan)))
    spent: dict[str, list[float]] = {NO_ADAPTATION: [], OURS: [], FINE_TUNING: []}
    facts: dict[str, Any] = {"classes": list(CARLA13.classes), "seeds": list(plan.seeds)}
    for kind in (POINTS_OF_VIEW, SCENES):
        chosen = [(source, target) for each, source, target in pairs if each == kind]
        if not chosen:
            continue
        runs = {NO_ADAPTATION: "{source}", OURS: "{source}-{target}", FINE_TUNING: "{target}"}
        tables: dict[str, Any] = {}
        means: dict[str, dict[str, Statistic]] = {"mean_iou": {}, "mean_accuracy": {}}
        resampling = cluster_bootstrap([f"{source}-{target}" for source, target in chosen])
        for method, name in runs.items():
            summed = []  # [pairs][seeds, N, N]
            for source, target in chosen:
                run = name.format(source=source, target=target)
                found = [_read(folder, f"{run}-s{seed}") for seed in plan.seeds]
                spent[method] += [each["seconds"] for each in found]
                summed.append(np.stack([np.array(each["scores"][target], np.int64).sum(0) for each in found]))
            iou = np.stack([_class_means(ious(matrices)) for matrices in summed])  # [pairs, N]
            accuracy = np.stack([_class_means(class_accuracies(matrices)) for matrices in summed])
            for metric, score in (("mean_iou", mean_iou), ("mean_accuracy", mean_accuracy)):
                means[metric][method] = weighted_mean(np.array([score(matrices).mean() for matrices in summed]))
            tables[method] = {
                **{metric: estimate(each[method], resampling).to_dict() for metric, each in means.items()},
                "iou": nullable(_class_means(iou)),
                "accuracy": nullable(_class_means(accuracy)),
            }
        # Each at the full level: six pairs are enough for one question, and too few for two that share its 5 %.
        questions = [(OURS, NO_ADAPTATION), (OURS, FINE_TUNING)]
        compared = [each for pair in questions for each in differences(means["mean_iou"], resampling, pairs=[pair])]
        facts[kind] = {
            "pairs": [f"{source}-{target}" for source, target in chosen],
            "methods": tables,
            "differences": [
                {"first": each.first, "second": each.second, "distinguishable": each.distinguishable, **each.estimate.to_dict()}
                for each in compared
            ],
        }
    facts["seconds"] = {method: round(float(np.mean(each)), 1) for method, each in spent.items()}
    return facts


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
    against = [(method, SOURCE_ONLY) for method in plan.methods if method != SOURCE_ONLY]
    if STATISTICS in plan.methods:
        against += [(method, STATISTICS) for method in plan.methods if method not in (SOURCE_ONLY, STATISTICS)]
    against += [pair for pair in claimed_pairs(plan.methods) if pair not in against]
    compared = differences(statistics, resampling, pairs=against)
    return {
        "classes": list(CAMVID.classes),
        "seeds": list(plan.seeds),
        "images": images,
        "methods": methods,
        "differences": [
            {"first": each.first, "second": each.second, "distinguishable": each.distinguishable, **each.estimate.to_dict()}
            for each in compared
        ],
    }


def _read(folder: Path, name: str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = json.loads((folder / "scores" / f"{name}.json").read_text(encoding="utf-8"))
    return values
