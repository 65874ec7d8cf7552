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
MAX_CONFIDENCE_ERROR = 0.01  # probability
MAX_LATENT_ERROR = 1e-3  # of the latent's largest magnitude


@dataclass(frozen=True)
class Parity:
    """How far a model file is from its network, over all frames compared. None where the model lacks that output."""

    frames: int
    agreement: float | None  # fraction of pixels with the same label
    worst_confidence_error: float | None  # probability
    worst_latent_error: float | None  # of the latent's largest magnitude in that batch
    mean_confidence: float | None  # of the exported model, for reference

    def check(self, min_agreement: float) -> None:
        """Raise `RoadworthyError` saying what differs when the file is not a faithful copy of the network."""
        wrong = []
        if self.agreement is not None and not self.agreement >= min_agreement:
            wrong.append(f"{self.agreement:.5f} of the labels agree, expected at least {min_agreement}")
        if self.worst_confidence_error is not None and not self.worst_confidence_error <= MAX_CONFIDENCE_ERROR:
            wrong.append(
                f"confidence is off by up to {self.worst_confidence_error:.3g}, expected at most {MAX_CONFIDENCE_ERROR}"
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
    confidence_errors: list[float] = []
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
            confidence_errors.append(_worst(actual.confidence, expected["confidence"]))
            confidences.append(float(actual.confidence.mean()))
        if actual.latent is not None:
            scale = float(np.abs(expected["latent"]).max()) or 1.0
            latent_errors.append(_worst(actual.latent, expected["latent"]) / scale)
    return Parity(
        frames=len(frames),
        agreement=equal / pixels if pixels else None,
        worst_confidence_error=max(confidence_errors, default=None),
        worst_latent_error=max(latent_errors, default=None),
        mean_confidence=float(np.mean(confidences)) if confidences else None,
    )


def _worst(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Return the largest absolute difference; nan anywhere gives nan, which no check passes."""
    return float(np.abs(actual - expected).max())
