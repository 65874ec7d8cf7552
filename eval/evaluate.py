"""Evaluate one exported model on one labelled data set: every metric with its interval, and the values of every image."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.eval.calibration import reliability
from roadworthy.eval.image_scores import ImageScores, class_accuracies, class_intervals, class_means, nullable
from roadworthy.eval.resampling import cluster_bootstrap
from roadworthy.eval.segmentation import BF_TOLERANCE, contour_scores, severity_contributions
from roadworthy.eval.statistics import estimate
from roadworthy.runtime import load, machine
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, write_text
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.scores import confusion, iou
from roadworthy.runtime.taxonomy import IGNORE, TAXONOMIES, Taxonomy
from roadworthy.train.data import open_dataset
from roadworthy.train.data.dataset import Dataset, Sample
from roadworthy.train.ground import GroundMatrix, importance, severity

ProgressCallback = Callable[[str, float], None]

BLOCK = 10  # successive images of a drive that count as one when resampling: neighbours look alike

CONVENTION = (
    "mIoU is data-set-level (one confusion matrix over all test images) with void pixels ignored; BF-score and Hausdorff "
    f"are per image and then averaged; BF tolerance {BF_TOLERANCE:.2%} of the image diagonal"
)


def evaluate(
    model: Path,
    data: str,
    output: Path,
    *,
    split: str | None = None,
    ground: GroundMatrix | None = None,
    examples: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    batch: int = 4,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Run `model` on a data set and write its metrics to `output` (JSON); returns what was written.

    Args:
        model: an exported ONNX model with labels and confidence outputs.
        data: the data set, as `open_dataset` takes it (`camvid:PATH`, `recording:PATH`).
        output: where the JSON goes; example predictions go to the folder `<output stem>.frames` beside it.
        split: of the data set, when it has several.
        ground: the evaluation's ground matrix, see `shipped_ground` for the default.
        examples: how many images, evenly spread over the data set, to keep with their predictions.
        device: to run on, see `runtime.load`.
        threads: CPU threads of the runtime and of the measuring; None = all physical cores.
        batch: images per call.
        seed: of the bootstrap.
        progress: called with a text and the fraction done.

    The intervals take images that look alike as one, see `clusters_of`.

    Raises:
        BadInput: the model lacks an output, its taxonomy is not the data set's, or the data set is unusable or empty.
    """
    dataset = open_dataset(data, split)
    segmenter = load(model, device=device, threads=threads)
    metadata = segmenter.metadata
    taxonomy = dataset.taxonomy
    if metadata.taxonomy != taxonomy.name:
        raise BadInput(
            f"{model} predicts the classes of {metadata.taxonomy!r}, {data} is labelled in {taxonomy.name!r}; "
            "evaluate it on a data set of its own taxonomy"
        )
    if "labels" not in segmenter.outputs or "confidence" not in segmenter.outputs:
        raise BadInput(
            f"{model} has the outputs {', '.join(segmenter.outputs)}; expected labels and confidence: export it again"
        )
    if len(dataset) == 0:
        raise BadInput(f"{data}: the data set has no images")
    matrix = ground if ground is not None else shipped_ground(taxonomy)
    cost = np.asarray(matrix.cost, np.float64)
    kept = spread(examples, len(dataset))
    frames = output.with_suffix(".frames")

    clusters = clusters_of(dataset, drives=data.partition(":")[0] == "recording")
    pool = threads or machine.usable_cores()
    scores, predictions = _score_images(segmenter, dataset, metadata, clusters, kept, batch, pool, progress)
    resampling = cluster_bootstrap(scores.groups, seed=seed)
    estimates = {name: estimate(statistic, resampling) for name, statistic in scores.statistics(cost).items()}
    total = scores.confusions.sum(axis=0)
    for index, labels in predictions.items():
        with atomic_path(frames / f"{index:05d}.png") as path:
            Image.fromarray(labels).save(path)
    result = {
        "model": str(model),
        "data": data,
        "images": len(scores.names),
        "clusters": len(set(scores.groups)),
        "convention": CONVENTION,
        "taxonomy": taxonomy.name,
        "classes": list(taxonomy.classes),
        "objective": metadata.objective,
        "architecture": metadata.architecture,
        "revision": metadata.revision,
        "size": [metadata.height, metadata.width],
        "metrics": {name: value.to_dict() for name, value in estimates.items()},
        "per_class": {
            "iou": nullable(iou(total)),
            "bf": nullable(class_means(scores.bf)),
            "hausdorff_px": nullable(class_means(scores.hausdorff_px)),
            "accuracy": nullable(class_accuracies(total)),
            **{f"{name}_interval": ends for name, ends in class_intervals(scores.class_statistics(), resampling).items()},
        },
        "per_group": {
            str(group): {"classes": list(taxonomy.groups[group]), **estimate(statistic, resampling).to_dict()}
            for group, statistic in scores.group_statistics(group_members(taxonomy)).items()
        },
        "reliability": scores.reliability.sum(axis=0).tolist(),
        "confusion": total.tolist(),
        "severity_contributions": severity_contributions(total, cost).tolist(),
        "ground": {"name": matrix.name, "cost": cost.tolist()},
        "examples": [{"index": index, "name": scores.names[index]} for index in sorted(kept)],
        "per_image": scores.to_dict(),
    }
    write_text(output, json.dumps(result, allow_nan=False))
    return result


def shipped_ground(taxonomy: Taxonomy) -> GroundMatrix:
    """Return the severity matrix; for classes of a user's own, which have no severity, that of their importance groups."""
    return severity(taxonomy) if taxonomy.name in TAXONOMIES else importance(taxonomy)


def spread(count: int, images: int) -> set[int]:
    """Return the indices of `count` images at even distances over a data set, the first and the last among them."""
    return set(np.linspace(0, images - 1, count).round().astype(int).tolist()) if count else set()


def group_members(taxonomy: Taxonomy) -> dict[int, list[int]]:
    """Turn the names of each importance group into train ids."""
    return {group: [taxonomy.index(name) for name in names] for group, names in taxonomy.groups.items()}


def clusters_of(dataset: Dataset, *, drives: bool) -> list[str]:
    """Name for every image the cluster that the bootstrap draws it with: images that look alike say little more than one.

    The frames of a recording's drive are a cluster (`drives`): its drives are short and many. Elsewhere a drive or a city is
    the whole data set or a third of it (CamVid's val split is one clip), so that `BLOCK` successive images of it are one. An
    image of no drive is its own.
    """
    found = []
    seen: Counter[str] = Counter()
    for pair in dataset.pairs:
        block = "" if drives else f", block {seen[pair.group] // BLOCK}"
        found.append(f"{pair.group}{block}" if pair.group else pair.name)
        seen[pair.group] += 1
    return found


def _score_images(
    segmenter: Callable[[npt.NDArray[np.uint8]], Any],
    dataset: Dataset,
    metadata: ModelMetadata,
    clusters: Sequence[str],
    kept: set[int],
    batch: int,
    threads: int,
    progress: ProgressCallback | None,
) -> tuple[ImageScores, dict[int, npt.NDArray[np.uint8]]]:
    """Run every image through the model and measure it; returns the scores and the predictions of the `kept` images.

    Images are read and measured on `threads` threads (the contours' machine code lets the others run), as many at a time as
    keep them all at work; how many go through the model in one call is another matter.
    """
    found: list[_Measured] = []
    predictions = {}
    at_once = batch * math.ceil(threads / batch)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(dataset), at_once):
            samples = list(pool.map(dataset.__getitem__, range(start, min(start + at_once, len(dataset)))))
            labels, certainty = [], []
            for first in range(0, len(samples), batch):
                called = samples[first : first + batch]
                result = segmenter(np.stack([_resize(sample.image, metadata) for sample in called]))  # [B, H, W, 3]
                # Predictions are brought to the label's size, never the label to the prediction's.
                labels += [_fit(result.labels[i], sample.labels.shape) for i, sample in enumerate(called)]
                certainty += [_fit(result.confidence[i], sample.labels.shape) for i, sample in enumerate(called)]
            found += pool.map(partial(_measure, len(metadata.class_names)), samples, labels, certainty)
            for offset in {index - start for index in kept if start <= index < start + len(samples)}:
                predictions[start + offset] = labels[offset].astype(np.uint8)
            if progress is not None:
                progress(f"evaluating image {len(found)} of {len(dataset)}", len(found) / len(dataset))
    scores = ImageScores(
        tuple(one.name for one in found),
        tuple(clusters),
        np.stack([one.confusion for one in found]),
        np.stack([one.bf for one in found]),
        np.stack([one.hausdorff_px for one in found]),
        np.array([one.confidence for one in found], np.float64),
        np.array([one.confidence_squared for one in found], np.float64),
        np.stack([one.reliability for one in found]),
    )
    return scores, predictions


class _Measured(NamedTuple):
    """What was measured on one image, see `ImageScores`."""

    name: str
    confusion: npt.NDArray[np.int64]  # [N, N]
    bf: npt.NDArray[np.float64]  # [N]
    hausdorff_px: npt.NDArray[np.float64]  # [N]
    confidence: float
    confidence_squared: float
    reliability: npt.NDArray[np.float64]  # [BINS, 3]


def _measure(classes: int, sample: Sample, labels: npt.NDArray[Any], certainty: npt.NDArray[Any]) -> _Measured:
    """Measure one image: its predicted `labels` and their `certainty` `[H, W]` against the truth."""
    contours = contour_scores(labels, sample.labels, classes)
    valid = sample.labels != IGNORE
    sure = certainty[valid].astype(np.float64)  # [pixels]
    return _Measured(
        sample.name,
        confusion(labels, sample.labels, classes),
        contours.bf,
        contours.hausdorff_px,
        float(sure.mean()) if sure.size else math.nan,
        float(np.square(sure).mean()) if sure.size else math.nan,
        reliability(sure, labels[valid] == sample.labels[valid]),
    )


def _resize(image: npt.NDArray[np.uint8], metadata: ModelMetadata) -> npt.NDArray[np.uint8]:
    """Bring a frame to the size the model takes."""
    if image.shape[:2] == (metadata.height, metadata.width):
        return image
    return np.asarray(Image.fromarray(image).resize((metadata.width, metadata.height), Image.Resampling.BILINEAR))


def _fit(values: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Bring a map [h, w] to `shape` (H, W) by its nearest values."""
    if values.shape == tuple(shape):
        return values
    rows = (np.arange(shape[0]) + 0.5) * values.shape[0] / shape[0]
    columns = (np.arange(shape[1]) + 0.5) * values.shape[1] / shape[1]
    fitted: npt.NDArray[Any] = values[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None, :]]
    return fitted
