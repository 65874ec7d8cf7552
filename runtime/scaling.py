"""Between the size of a camera's frames and the size a model takes: frames bilinearly, labels by the nearest pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmenter


def scale_frame(frame: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Scale a frame `[H, W, 3]` to height x width [pixels]; one that has this size is returned as it is."""
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


def scale_labels(labels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Scale label ids `[H, W]` to height x width [pixels]; ids are never mixed."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST), dtype=np.uint8)


def segment_image(segmenter: Segmenter, frame: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float | None]:
    """Segment one image `uint8 [H, W, 3]` of any size: labels `uint8 [H, W]` at its own size, and the mean confidence."""
    wanted = [name for name in ("labels", "confidence") if name in segmenter.outputs]
    scaled = scale_frame(frame, segmenter.metadata.height, segmenter.metadata.width)
    result = segmenter(scaled[None], wanted)  # [H, W, 3] -> [1, H, W, 3]
    if result.labels is None:
        raise BadInput(f"{segmenter.path}: has no labels output; export it with --outputs labels,confidence,latent")
    labels = scale_labels(result.labels[0], *frame.shape[:2])  # [1, h, w] -> [H, W]
    return labels, None if result.confidence is None else float(result.confidence.mean())
