"""Evaluate one exported model on one labelled data set: every metric with its interval, and the values of every image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.eval.calibration import reliability
from roadworthy.eval.image_scores import ImageScores, class_intervals, class_means, nullable
from roadworthy.eval.segmentation import BF_TOLERANCE, contour_scores, severity_contributions
from roadworthy.eval.statistics import cluster_bootstrap, estimate
from roadworthy.runtime import load, machine
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, write_text
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.scores import confusion, iou
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.data import open_dataset
from roadworthy.train.data.dataset import Dataset, Sample
from roadworthy.train.ground import GroundMatrix, severity

ProgressCallback = Callable[[str, float], None]

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
    groups: Mapping[str, str] | None = None,
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
        ground: the evaluation's ground matrix; the taxonomy's `severity` by default.
        groups: cluster of each image by name, for the bootstrap. By default the frames of one drive of a recording are a
            cluster (they look alike), and any other image is its own.
        examples: how many images, evenly spread over the data set, to keep with their predictions.
        device: to run on, see `runtime.load`.
        threads: CPU threads of the runtime and of the measuring; None = all physical cores.
        batch: images per call.
        seed: of the bootstrap.
        progress: called with a text and the fraction done.

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
    matrix = ground if ground is not None else severity(taxonomy)
    cost = np.asarray(matrix.cost, np.float64)
    kept = spread(examples, len(dataset))
    frames = output.with_suffix(".frames")

    if groups is None:
        kind, _, root = data.partition(":")
        groups = episode_of_frame(Path(root).expanduser()) if kind == "recording" else {}
    pool = threads or machine.usable_cores()
    scores, predictions = _score_images(segmenter, dataset, metadata, groups, kept, batch, pool, progress)
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


def spread(count: int, images: int) -> set[int]:
    """Return the indices of `count` images at even distances over a data set, the first and the last among them."""
    return set(np.linspace(0, images - 1, count).round().astype(int).tolist()) if count else set()


def group_members(taxonomy: Taxonomy) -> dict[int, list[int]]:
    """Turn the names of each importance group into train ids."""
    return {group: [taxonomy.index(name) for name in names] for group, names in taxonomy.groups.items()}


def episode_of_frame(recording: Path) -> dict[str, str]:
    """Map the names of a recording's frames to their drives. Raises `BadInput` when `meta.jsonl` does not tell."""
    path = recording / "meta.jsonl"
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                entry = json.loads(line)
                found[str(entry["name"])] = f"episode {entry['episode']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not the list of a recording's frames ({error!r}); record again") from error
    return found


def _score_images(
    segmenter: Callable[[npt.NDArray[np.uint8]], Any],
    dataset: Dataset,
    metadata: ModelMetadata,
    groups: Mapping[str, str],
    kept: set[int],
    batch: int,
    threads: int,
    progress: ProgressCallback | None,
) -> tuple[ImageScores, dict[int, npt.NDArray[np.uint8]]]:
    """Run every image through the model and measure it; returns the scores and the predictions of the `kept` images.

    The images of a batch are read and measured on `threads` threads (the contours' machine code lets the others run).
    """
    found: list[_Measured] = []
    predictions = {}
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(dataset), batch):
            samples = list(pool.map(dataset.__getitem__, range(start, min(start + batch, len(dataset)))))
            images = np.stack([_resize(sample.image, metadata) for sample in samples])  # [B, H, W, 3]
            result = segmenter(images)
            # Predictions are brought to the label's size, never the label to the prediction's.
            labels = [_fit(result.labels[i], sample.labels.shape) for i, sample in enumerate(samples)]
            certainty = [_fit(result.confidence[i], sample.labels.shape) for i, sample in enumerate(samples)]
            found += pool.map(partial(_measure, len(metadata.class_names)), samples, labels, certainty)
            for offset in {index - start for index in kept if start <= index < start + len(samples)}:
                predictions[start + offset] = labels[offset].astype(np.uint8)
            if progress is not None:
                progress(f"evaluating image {len(found)} of {len(dataset)}", len(found) / len(dataset))
    scores = ImageScores(
        tuple(one.name for one in found),
        tuple(groups.get(one.name, one.name) for one in found),
        np.stack([one.confusion for one in found]),
        np.stack([one.bf for one in found]),
        np.stack([one.hausdorff_px for one in found]),
        np.array([one.confidence for one in found], np.float64),
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
    reliability: npt.NDArray[np.float64]  # [BINS, 3]


def _measure(classes: int, sample: Sample, labels: npt.NDArray[Any], certainty: npt.NDArray[Any]) -> _Measured:
    """Measure one image: its predicted `labels` and their `certainty` `[H, W]` against the truth."""
    contours = contour_scores(labels, sample.labels, classes)
    valid = sample.labels != IGNORE
    return _Measured(
        sample.name,
        confusion(labels, sample.labels, classes),
        contours.bf,
        contours.hausdorff_px,
        float(certainty[valid].mean(dtype=np.float64)) if valid.any() else math.nan,
        reliability(certainty[valid], labels[valid] == sample.labels[valid]),
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
