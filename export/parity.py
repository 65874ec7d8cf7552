"""Does the exported file compute what the trained network computes? Asked of every export, on real frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from roadworthy.export.graph import FrameToLabels
from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.segmenter import load

# Batch sizes that the check cycles through: a graph traced with one batch size can be wrong at another.
BATCHES = (1, 3, 2)
# Probability, on all but one pixel in a thousand. A network that unpools puts a value where its window's maximum was; where
# two values of a window differ by less than the rounding of another backend's kernels, that place moves, and a few pixels
# around it get another confidence. (A trained ENet on 8 frames: 12 of 262,144 pixels off by more than 0.01, at worst by
# 0.039, all labels equal.)
MAX_CONFIDENCE_ERROR = 0.01
CONFIDENCE_QUANTILE = 0.999
MAX_LATENT_ERROR = 1e-3  # of the latent's largest magnitude


@dataclass(frozen=True)
class Parity:
    """How far a model file is from its network, over all frames compared. None where the model lacks that output."""

    frames: int
    agreement: float | None  # fraction of pixels with the same label
    confidence_error: float | None  # probability, the CONFIDENCE_QUANTILE of the pixels
    worst_confidence_error: float | None  # probability, of any pixel
    worst_latent_error: float | None  # of the latent's largest magnitude in that batch
    mean_confidence: float | None  # of the exported model, for reference

    def check(self, min_agreement: float) -> None:
        """Raise `RoadworthyError` saying what differs when the file is not a faithful copy of the network."""
        wrong = []
        if self.agreement is not None and not self.agreement >= min_agreement:
            wrong.append(f"{self.agreement:.5f} of the labels agree, expected at least {min_agreement}")
        if self.confidence_error is not None and not self.confidence_error <= MAX_CONFIDENCE_ERROR:
            wrong.append(
                f"confidence is off by {self.confidence_error:.3g} or more on {1 - CONFIDENCE_QUANTILE:.1%} of the pixels, "
                f"expected at most {MAX_CONFIDENCE_ERROR}"
            )
        if self.worst_latent_error is not None and not self.worst_latent_error <= MAX_LATENT_ERROR:
            wrong.append(
                f"the latent is off by up to {self.worst_latent_error:.3g} of its range, at most {MAX_LATENT_ERROR} is allowed"
            )
        if wrong:
            raise RoadworthyError(
                f"the exported model does not compute what the network computes on {self.frames} frames: {'; '.join(wrong)}. "
                "Nothing was written. Try another opset, or report the network that does this"
            )


def compare(path: Path, module: FrameToLabels, frames: npt.NDArray[np.uint8], threads: int | None = None) -> Parity:
    """Run `frames` `uint8 [K, H, W, 3]` through the file at `path` and through `module`, and measure the difference."""
    segmenter = load(path, device="cpu", threads=threads)
    pixels = equal = 0
    confidence_errors: list[npt.NDArray[np.float32]] = []
    latent_errors: list[float] = []
    confidences: list[float] = []
    start = turn = 0
    while start < len(frames):
        batch = frames[start : start + BATCHES[turn % len(BATCHES)]]
        start, turn = start + len(batch), turn + 1
        with torch.inference_mode():
            expected = dict(zip(module.outputs, (t.numpy() for t in module(torch.from_numpy(batch))), strict=True))
        actual = segmenter(batch)
        if actual.labels is not None:
            pixels += actual.labels.size
            equal += int(np.count_nonzero(actual.labels == expected["labels"]))
        if actual.confidence is not None:
            confidence_errors.append(np.abs(actual.confidence - expected["confidence"]).ravel())
            confidences.append(float(actual.confidence.mean()))
        if actual.latent is not None:
            scale = float(np.abs(expected["latent"]).max()) or 1.0
            latent_errors.append(_worst(actual.latent, expected["latent"]) / scale)
    off = np.concatenate(confidence_errors) if confidence_errors else None
    return Parity(
        frames=len(frames),
        agreement=equal / pixels if pixels else None,
        confidence_error=None if off is None else float(np.quantile(off, CONFIDENCE_QUANTILE)),
        worst_confidence_error=None if off is None else float(off.max()),
        worst_latent_error=max(latent_errors, default=None),
        mean_confidence=float(np.mean(confidences)) if confidences else None,
    )


def _worst(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Return the largest absolute difference; nan anywhere gives nan, which no check passes."""
    return float(np.abs(actual - expected).max())
