"""Real frames to check an export on: those of the data a run was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput

if TYPE_CHECKING:
    from roadworthy.train.fit import TrainConfig


def run_frames(config: TrainConfig, height: int, width: int, count: int) -> tuple[npt.NDArray[np.uint8], str]:
    """Return `count` frames `uint8 [count, height, width, 3]` spread over the run's validation data, and where they are from.

    Raises `BadInput` when the data is no longer there.
    """
    from roadworthy.train.data import open_dataset

    spec = config.validation or config.data
    try:
        dataset = open_dataset(spec)
    except BadInput as error:
        raise BadInput(f"no frames to check the export on: {error}; give some with --frames DATA") from error
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    frames = [resize(dataset[int(index)].image, height, width) for index in chosen]
    return np.stack(frames), spec


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image `uint8 [H, W, 3]` bilinearly to height x width [pixels]."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)
