"""Reading label images: raw ids, colours that stand for classes, and ids in 16-bit channels, all to train ids."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import MAX_IMAGE_PIXELS, read_ids, read_rgb
from roadworthy.train.data.dataset import ReadLabels

Colour = tuple[int, int, int]  # RGB

_UNKNOWN = -1


def by_id(kind: str, train_ids: Mapping[int, int], *, deep: bool = False) -> ReadLabels:
    """Return a reader of one-channel (or palette) label images with raw ids; with `deep`, of the first of 16-bit channels.

    `train_ids` gives the train id of every raw id that the data set `kind` has.
    """
    table = np.full(1 << 16, _UNKNOWN, np.int16)  # of every 8- or 16-bit id
    table[list(train_ids)] = list(train_ids.values())

    def read(path: Path) -> npt.NDArray[np.uint8]:
        raw = read_first_channel(path) if deep else read_ids(path)  # [H, W]
        labels = table[raw]  # [H, W]
        if labels.size and labels.min() == _UNKNOWN:
            unknown = ", ".join(str(value) for value in np.unique(raw[labels == _UNKNOWN])[:8])
            raise BadInput(
                f"{path}: id {unknown} is not among the label ids of {kind} (0-{max(train_ids)}); "
                "are these labels of another data set?"
            )
        return labels.astype(np.uint8)

    return read


def by_colour(kind: str, train_ids: Mapping[Colour, int]) -> ReadLabels:
    """Return a reader of colour label images. `train_ids` gives the train id of every colour that the data set `kind` has."""
    packed = {(r << 16) | (g << 8) | b: train_id for (r, g, b), train_id in train_ids.items()}
    keys = np.array(sorted(packed), np.int32)
    values = np.array([packed[int(key)] for key in keys], np.uint8)

    def read(path: Path) -> npt.NDArray[np.uint8]:
        colours = read_rgb(path).astype(np.int32)  # [H, W, 3]
        codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]  # [H, W]
        places = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        strange = keys[places] != codes
        if strange.any():
            row, column = np.argwhere(strange)[0]
            raise BadInput(
                f"{path}: colour {tuple(int(v) for v in colours[row, column])} at x={column}, y={row} is not among the "
                f"{len(keys)} label colours of {kind}; was the image scaled or saved as JPEG?"
            )
        labels: npt.NDArray[np.uint8] = values[places]
        return labels

    return read


def read_first_channel(path: Path) -> npt.NDArray[np.uint16]:
    """Read the first channel of a PNG of 16 (or 8) bits per channel, `uint16 [H, W]`. Raises `BadInput` for anything else.

    Pillow knows no mode of 3x16 bits and keeps the upper byte of each sample alone; the lower one, where the ids are, is
    read by a second pass that takes the bytes in the other order.
    """
    upper, deep = _decode(path, swapped=False)
    if not deep:
        return upper
    lower, _ = _decode(path, swapped=True)
    return ((upper << 8) | lower).astype(np.uint16)


def _decode(path: Path, *, swapped: bool) -> tuple[npt.NDArray[np.uint16], bool]:
    """Return the first channel and whether it is but the upper (`swapped`: lower) bytes of 16-bit samples."""
    if not path.is_file():
        raise BadInput(f"{path}: no such image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise BadInput(
                    f"{path}: {image.width}x{image.height} pixels, expected at most {MAX_IMAGE_PIXELS}; scale it down first"
                )
            order = str(image.tile[0].args) if len(image.tile) == 1 else ""
            deep = order in ("RGB;16B", "RGBA;16B")
            if deep and swapped:
                image.tile = [image.tile[0]._replace(args=order.replace("16B", "16L"))]
            values = np.asarray(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: not a readable image ({error}); it may be truncated: copy it again") from error
    return (values if values.ndim == 2 else values[..., 0]).astype(np.uint16), deep
