"""Real frames: those an export is checked on (with labels, where there are any), and those int8 ranges come from. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_rgb
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.data import open_dataset
from roadworthy.train.data.folders import images_by_stem

BLOCK = 16  # [pixels] side of the blocks of made-up frames
Item = TypeVar("Item")


@dataclass(frozen=True)
class Frames:
    """Frames of one size, spread evenly over a data set."""

    images: npt.NDArray[np.uint8]  # [K, H, W, 3]
    labels: npt.NDArray[np.uint8] | None  # [K, H, W] train ids; None when there are none, or of another taxonomy
    source: str  # where they are from, for the report


def read_frames(spec: str, split: str, height: int, width: int, count: int, taxonomy: Taxonomy | None = None) -> Frames:
    """Read up to `count` frames of the data `spec`, resized to height x width [pixels].

    `spec` is KIND:PATH as `train.data.open_dataset` takes it (of which `split` is read), or a folder of images. Labels are
    read when `taxonomy` is given and the data is labelled in it; otherwise labels may even be broken. Raises `BadInput` for
    data that is not there.
    """
    folder = Path(spec).expanduser()
    if folder.is_dir():
        images = list(images_by_stem(folder).values())
        return Frames(_read_images(_spread(images, count), height, width), None, f"{spec} ({len(images)} images)")
    dataset = open_dataset(spec, split)
    chosen = _spread(range(len(dataset)), count)
    source = f"{spec} ({split})"
    if taxonomy is None or dataset.taxonomy.classes != taxonomy.classes:
        return Frames(_read_images([dataset.pairs[index].image for index in chosen], height, width), None, source)
    samples = [dataset[index] for index in chosen]
    labels = np.stack([resize_labels(sample.labels, height, width) for sample in samples])
    return Frames(np.stack([resize(sample.image, height, width) for sample in samples]), labels, source)


def made_up_frames(height: int, width: int) -> Frames:
    """Return four frames of coloured blocks, for checks where the same arithmetic is expected and no data is at hand."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (4, -(-height // BLOCK), -(-width // BLOCK), 3), dtype=np.uint8)  # [4, h, w, 3]
    images = coarse.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :height, :width]  # [4, H, W, 3]
    return Frames(np.ascontiguousarray(images), None, "made-up frames of coloured blocks")


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return up to `count` items at even distances, the first and the last among them."""
    return [items[int(index)] for index in np.unique(np.linspace(0, len(items) - 1, count).round().astype(int))]


def _read_images(paths: Sequence[Path], height: int, width: int) -> npt.NDArray[np.uint8]:
    if not paths:
        raise BadInput("the data has no images")
    return np.stack([resize(read_rgb(path), height, width) for path in paths])


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image `uint8 [H, W, 3]` bilinearly to height x width [pixels]."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


def resize_labels(labels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize train ids `uint8 [H, W]` to height x width [pixels], each pixel taking the id nearest to it."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST), dtype=np.uint8)
