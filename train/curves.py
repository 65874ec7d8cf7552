"""Loss curves and pictures for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from roadworthy.runtime.errors import MissingExtra
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.data.batches import RawBatch, Samples
from roadworthy.train.data.frames import Frames
from roadworthy.train.losses import logit_entropy
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Objective

EVERY = 10  # iterations between two points of a curve
PICTURES = 2  # validation frames shown


class Curves:
    """Writes scalar curves and pictures into a folder that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, start: int) -> None:
        """Open `folder`; points after iteration `start` that an interrupted run left there are dropped."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "train", "Writing loss curves (or train with tensorboard=false)") from error
        self._writer = SummaryWriter(str(folder), purge_step=start)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a point to each named loss curve, now and then."""
        if iteration % EVERY == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"loss/{name}", value, iteration)

    def add_selection(self, iteration: int, mean_iou: float) -> None:
        """Add a point to the curve of the selection frames' mean IoU."""
        self._writer.add_scalar("selection/mean_iou", mean_iou, iteration)

    def add_pictures(self, iteration: int, objective: Objective, frames: Frames, device: torch.device) -> None:
        """Show a few frames side by side with their truth, the prediction and what the objective has to show (its bets)."""
        samples = [frames[index] for index in range(min(PICTURES, len(frames)))]
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
        labels = np.stack([sample.labels for sample in samples])  # [B, H, W]
        batch = Batch(normalise(images.to(device)), torch.from_numpy(labels).to(device).long())
        with objective.watching():
            predicted = objective.segmenter(batch.frames).logits.argmax(1).cpu().numpy()  # [B, N, H, W] -> [B, H, W]
        colourise = frames.dataset.taxonomy.colourise
        columns = [images.numpy(), colourise(labels), colourise(predicted)]
        columns += [_grey(maps, labels.shape[1:]) for maps in objective.pictures(batch).values()]
        rows = np.concatenate(columns, axis=2)  # [B, H, W * columns, 3]
        for sample, row in zip(samples, rows, strict=True):
            self._writer.add_image(f"frame, truth, prediction/{sample.name}", row, iteration, dataformats="HWC")
        self._writer.flush()

    def add_target(
        self, iteration: int, objective: Objective, target: Samples, taxonomy: Taxonomy, device: torch.device
    ) -> None:
        """Show a few unlabelled frames with prediction and entropy, and their pseudo-labels and these' probability if any."""
        samples = [target[index] for index in range(min(PICTURES, len(target)))]
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
        with objective.watching():
            logits = objective.segmenter(normalise(images.to(device))).logits.float()  # [B, N, H, W]
        predicted = logits.argmax(1).cpu().numpy()  # [B, N, H, W] -> [B, H, W]
        size = predicted.shape[1:]
        columns = [images.numpy(), taxonomy.colourise(predicted), _grey(logit_entropy(logits), size)]
        soft = RawBatch(images, torch.from_numpy(np.stack([sample.labels for sample in samples]))).soft(torch.device("cpu"))
        if soft is not None:
            best, labels = soft.max(1)  # [B, H, W] each
            columns += [taxonomy.colourise(torch.where(best > 0, labels, IGNORE).numpy()), _grey(best, size)]
        for sample, row in zip(samples, np.concatenate(columns, axis=2), strict=True):
            tag = "target: frame, prediction, entropy, pseudo-label, its probability"
            self._writer.add_image(f"{tag}/{sample.name}", row, iteration, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write out what is buffered, and end the writer's thread."""
        self._writer.close()


def _grey(maps: Tensor, size: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Paint maps `[B, h, w]` of 0..1 as grey pictures `uint8 [B, H, W, 3]`."""
    scaled = torch.nn.functional.interpolate(maps[:, None].float().cpu(), size, mode="bilinear", align_corners=False)
    grey = (scaled.clamp(0, 1) * 255).round().to(torch.uint8)  # [B, 1, H, W]
    return grey.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()  # [B, 1, H, W] -> [B, H, W, 3]
