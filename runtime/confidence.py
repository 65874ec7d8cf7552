"""Is this frame like those the model was checked on? Its mean confidence, held against a range stored with the model.

A network that meets what it never saw (night, snow on the lens, another country) is unsure over much of the frame. The
mean over a frame of the largest softmax probability is the plainest such signal (Hendrycks and Gimpel 2017, the maximum
softmax probability baseline), costs one number per frame, and is what a vehicle can act on: slow down, hand over. It is no
proof: networks can be sure and wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

MIN_FRAMES = 20  # fewer say nothing about the percent at each end


@dataclass(frozen=True)
class ConfidenceReference:
    """Percentiles of the mean confidence per frame over known frames: 98 of 100 such frames lie in p01..p99."""

    p01: float
    p50: float
    p99: float

    @classmethod
    def measure(cls, mean_confidences: Iterable[float]) -> ConfidenceReference:
        """Compute it from the mean confidence of each known frame; raises `BadInput` for too few or impossible values."""
        values = np.asarray(list(mean_confidences), np.float64)
        if len(values) < MIN_FRAMES:
            raise BadInput(f"{len(values)} frames are too few for a confidence reference, expected at least {MIN_FRAMES}")
        if not ((values >= 0) & (values <= 1)).all():
            raise BadInput("a mean confidence lies outside 0..1; these are not probabilities")
        low, middle, high = (float(value) for value in np.percentile(values, [1, 50, 99]))
        return cls(low, middle, high)

    @classmethod
    def parse(cls, text: str, source: str) -> ConfidenceReference:
        """Read it from JSON; raises `BadInput` naming `source` when that is broken."""
        try:
            content = json.loads(text)
            reference = cls(*(float(content[key]) for key in ("p01", "p50", "p99")))
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(
                f"{source}: 'confidence_reference' is {text[:80]!r}, expected the numbers p01, p50 and p99; measure it again "
                "with 'roadworthy predict --calibrate-confidence'"
            ) from error
        if not 0 <= reference.p01 <= reference.p50 <= reference.p99 <= 1:
            raise BadInput(f"{source}: 'confidence_reference' {text[:80]} is not ascending within 0..1; measure it again")
        return reference

    def judge(self, mean_confidence: float) -> str | None:
        """Return None for a frame within p01..p99, else what is unusual about it, in words."""
        if self.p01 <= mean_confidence <= self.p99:
            return None
        side, bound = ("below", self.p01) if mean_confidence < self.p01 else ("above", self.p99)
        return f"mean confidence {mean_confidence:.3f} is {side} the {bound:.3f} of 99 % of the known frames"


def reference_path(model: Path) -> Path:
    """Return where a reference that was measured after the export is kept: beside the model."""
    return model.with_name(f"{model.name}.confidence.json")


def write_reference(model: Path, reference: ConfidenceReference) -> Path:
    """Store `reference` beside `model`, where `load` finds it; returns the file's path."""
    path = reference_path(model)
    write_text(path, json.dumps(asdict(reference)) + "\n")
    return path


def read_reference(model: Path) -> ConfidenceReference | None:
    """Return the reference kept beside `model`, or None when there is none."""
    path = reference_path(model)
    return ConfidenceReference.parse(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None
