"""Does the exported file compute what it was made from? Asked of every export, on real frames. No torch.

The reference is any callable from frames to a `Segmentation`: the torch network for a run, the fp32 file for what is derived
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.export.frames import Frames
from roadworthy.runtime.confidence import MIN_FRAMES, ConfidenceReference
from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.scores import Confusion
from roadworthy.runtime.segmenter import Segmentation

Run = Callable[[npt.NDArray[np.uint8]], Segmentation]  # frames uint8 [B, H, W, 3]

# Batch sizes that the check cycles through: a graph traced with one batch size can be wrong at another.
BATCHES = (1, 3, 2)
CONFIDENCE_QUANTILE = 0.999


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from its reference. None: measured and reported, but not judged."""

    agreement: float  # least fraction of pixels with the same label
    # Probability, on all but one pixel in a thousand. A network that unpools puts a value where its window's maximum was;
    # where two values of a window differ by less than the rounding of another backend's kernels, that place moves, and a few
    # pixels around it get another confidence. (A trained ENet on 8 frames: 12 of 262,144 pixels off by more than 0.01, at
    # worst by 0.039, all labels equal.)
    confidence: float | None
    latent: float | None  # of the latent's largest magnitude
    miou_drop: float  # most points of mIoU lost, on labelled frames


# By precision. Fewer bits change confidence and latent everywhere a little: they are judged by labels and mIoU.
TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(agreement=0.999, confidence=0.01, latent=1e-3, miou_drop=0.1),
    "fp16": Tolerance(agreement=0.99, confidence=None, latent=0.05, miou_drop=0.2),
    "int8": Tolerance(agreement=0.96, confidence=None, latent=None, miou_drop=0.5),
}


@dataclass(frozen=True)
class Parity:
    """How far a model file is from its reference, over all frames compared. None where the model lacks that output."""

    frames: int
    agreement: float | None  # fraction of pixels with the same label
    confidence_error: float | None  # probability, the CONFIDENCE_QUANTILE of the pixels
    worst_confidence_error: float | None  # probability, of any pixel
    worst_latent_error: float | None  # of the latent's largest magnitude in that batch
    mean_confidence: float | None  # of the exported model, for reference
    miou: float | None = None  # of the exported model on the frames' labels, 0..1
    reference_miou: float | None = None  # of the reference on the same
    confidence_range: ConfidenceReference | None = None  # mean confidence per frame; None for too few frames

    @property
    def miou_drop(self) -> float | None:
        """Points of mIoU that the export lost (negative: gained); None without labels."""
        return None if self.miou is None or self.reference_miou is None else 100 * (self.reference_miou - self.miou)

    def check(self, tolerance: Tolerance, what: str = "the exported model") -> None:
        """Raise `RoadworthyError` saying what differs when the file is not a faithful copy."""
        wrong = []
        if self.agreement is not None and not self.agreement >= tolerance.agreement:
            wrong.append(f"{self.agreement:.5f} of the labels agree, expected at least {tolerance.agreement}")
        if _above(self.confidence_error, tolerance.confidence):
            wrong.append(
                f"confidence is off by {self.confidence_error:.3g} or more on {1 - CONFIDENCE_QUANTILE:.1%} of the pixels, "
                f"expected at most {tolerance.confidence}"
            )
        if _above(self.worst_latent_error, tolerance.latent):
            wrong.append(
                f"the latent is off by up to {self.worst_latent_error:.3g} of its range, at most {tolerance.latent} is allowed"
            )
        if _above(self.miou_drop, tolerance.miou_drop):
            wrong.append(f"mIoU falls by {self.miou_drop:.2f} points, at most {tolerance.miou_drop} are allowed")
        if wrong:
            raise RoadworthyError(
                f"{what} does not compute what it was made from, on {self.frames} frames: {'; '.join(wrong)}. "
                "Nothing was written. Try another opset or a higher precision, more calibration frames for int8, or accept "
                "it with a lower --min-agreement"
            )


def _above(value: float | None, limit: float | None) -> bool:
    """Tell whether a measured value misses its limit; not a number always does."""
    return value is not None and ((limit is not None and not value <= limit) or value != value)


def compare(candidate: Run, reference: Run, frames: Frames, classes: int, batch: int | None = None) -> Parity:
    """Run all frames through both, and measure the difference; `batch` is the size a candidate of fixed batch takes."""
    images, labels = frames.images, frames.labels
    pixels = equal = 0
    confidence_errors: list[npt.NDArray[np.float32]] = []
    latent_errors: list[float] = []
    confidences: list[float] = []
    scores = (Confusion(classes), Confusion(classes)) if labels is not None else None
    start = turn = 0
    while start < len(images):
        size = BATCHES[turn % len(BATCHES)] if batch is None else batch
        chunk = images[start : start + size]
        expected, actual = reference(chunk), _cut(candidate(_padded(chunk, batch)), len(chunk))
        if actual.labels is not None and expected.labels is not None:
            pixels += actual.labels.size
            equal += int(np.count_nonzero(actual.labels == expected.labels))
            if scores is not None and labels is not None:
                for score, result in zip(scores, (actual, expected), strict=True):
                    assert result.labels is not None
                    score.update(result.labels, labels[start : start + size])
        if actual.confidence is not None and expected.confidence is not None:
            confidence_errors.append(np.abs(actual.confidence - expected.confidence).ravel())
            confidences += [float(frame.mean()) for frame in actual.confidence]
        if actual.latent is not None and expected.latent is not None:
            scale = float(np.abs(expected.latent).max()) or 1.0
            latent_errors.append(_worst(actual.latent, expected.latent) / scale)
        start, turn = start + size, turn + 1
    off = np.concatenate(confidence_errors) if confidence_errors else None
    scored = scores if pixels else None
    return Parity(
        frames=len(images),
        agreement=equal / pixels if pixels else None,
        confidence_error=None if off is None else float(np.quantile(off, CONFIDENCE_QUANTILE)),
        worst_confidence_error=None if off is None else float(off.max()),
        worst_latent_error=float(np.max(latent_errors)) if latent_errors else None,
        mean_confidence=float(np.mean(confidences)) if confidences else None,
        miou=scored[0].mean_iou() if scored else None,
        reference_miou=scored[1].mean_iou() if scored else None,
        confidence_range=ConfidenceReference.measure(confidences) if len(confidences) >= MIN_FRAMES else None,
    )


def _padded(images: npt.NDArray[np.uint8], batch: int | None) -> npt.NDArray[np.uint8]:
    """Repeat the last frame up to the fixed batch size."""
    missing = 0 if batch is None else batch - len(images)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images


def _cut(result: Segmentation, count: int) -> Segmentation:
    """Leave out what `_padded` added."""
    labels, confidence, latent, logits = result
    return Segmentation(
        labels=None if labels is None else labels[:count],
        confidence=None if confidence is None else confidence[:count],
        latent=None if latent is None else latent[:count],
        logits=None if logits is None else logits[:count],
    )


def _worst(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Return the largest absolute difference; nan anywhere gives nan, which no check passes."""
    return float(np.abs(actual - expected).max())
