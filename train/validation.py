"""How well a segmenter does on labelled frames: data-set-level IoU with void pixels ignored, and its mean confidence."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from roadworthy.runtime.scores import Confusion
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data.frames import Frames
from roadworthy.train.models.normalisation import normalise


@dataclass(frozen=True)
class ValidationScores:
    """Scores on `frames` frames; `iou` has None for a class that occurs in neither truth nor prediction."""

    frames: int
    mean_iou: float
    iou: dict[str, float | None]
    accuracy: float  # share of labelled pixels that are right
    mean_max_probability: float  # over labelled pixels


@torch.no_grad()
def validate(
    model: nn.Module, frames: Frames, device: torch.device, batch_size: int = 8, fabric: Fabric | None = None
) -> ValidationScores:
    """Run `model` over all `frames` in evaluation mode (its mode is put back afterwards).

    With a `fabric` in its precision, and each of its processes takes its part of the frames.
    """
    was_training = model.training
    model.eval()
    taxonomy = frames.dataset.taxonomy
    counts = Confusion(len(taxonomy))
    confidence, labelled = 0.0, 0
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    mine = range(rank, len(frames), world)
    for start in range(0, len(mine), batch_size):
        samples = [frames[index] for index in mine[start : start + batch_size]]
        images = torch.from_numpy(np.stack([sample.image for sample in samples])).to(device)  # [B, H, W, 3]
        labels = np.stack([sample.labels for sample in samples])  # [B, H, W]
        with contextlib.nullcontext() if fabric is None else fabric.autocast():
            logits = model(normalise(images)).logits.float()  # [B, N, H, W]
        best, predicted = torch.softmax(logits, 1).max(1)  # [B, H, W] each
        valid = labels != IGNORE
        confidence += float(best.cpu().numpy()[valid].sum(dtype=np.float64))
        labelled += int(valid.sum())
        counts.update(predicted.cpu().numpy().astype(np.uint8), labels)
    model.train(was_training)
    if world > 1 and fabric is not None:
        sums = np.concatenate([counts.matrix.ravel(), [labelled]])
        summed = fabric.all_reduce(torch.from_numpy(sums), reduce_op="sum")
        confidence = float(fabric.all_reduce(torch.tensor(confidence, dtype=torch.float64), reduce_op="sum"))  # type: ignore[arg-type]
        assert isinstance(summed, torch.Tensor)
        counts.matrix[:] = summed.cpu().numpy()[:-1].reshape(counts.matrix.shape)
        labelled = int(summed[-1])
    per_class = [None if np.isnan(value) else float(value) for value in counts.iou()]
    return ValidationScores(
        frames=len(frames),
        mean_iou=float(counts.mean_iou()),
        iou=dict(zip(taxonomy.classes, per_class, strict=True)),
        accuracy=float(np.trace(counts.matrix) / max(1, counts.matrix.sum())),
        mean_max_probability=confidence / max(1, labelled),
    )
