"""Real frames to check an export on: by default those of the data a run was trained with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_rgb
from roadworthy.train.config import TrainConfig
from roadworthy.train.data import Dataset, open_dataset


def run_frames(config: TrainConfig, height: int, width: int, count: int) -> tuple[npt.NDArray[np.uint8], str]:
    """Return frames of the run's validation data as `data_frames`, and where they are from.

    Raises `BadInput` when the data is no longer there.
    """
    spec, split = (config.validation, None) if config.validation else (config.data, "val")
    try:
        dataset = open_dataset(spec, split)
    except BadInput as error:
        raise BadInput(f"no frames to check the export on: {error}; name other data for the check, as KIND:PATH") from error
    return _spread(dataset, height, width, count), f"{spec} ({split or 'default split'})"


def data_frames(spec: str, height: int, width: int, count: int) -> npt.NDArray[np.uint8]:
    """Return up to `count` frames `uint8 [K, height, width, 3]` spread evenly over the data set `spec` (KIND:PATH)."""
    return _spread(open_dataset(spec), height, width, count)


def _spread(dataset: Dataset, height: int, width: int, count: int) -> npt.NDArray[np.uint8]:
    """Read only the images that are needed; labels may even be broken."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    return np.stack([resize(read_rgb(dataset.pairs[int(index)].image), height, width) for index in chosen])


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image `uint8 [H, W, 3]` bilinearly to height x width [pixels]."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)
