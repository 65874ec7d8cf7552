"""Writing label images that can be looked at (ids in the pixels, the classes' colours as the palette), and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.taxonomy import Taxonomy


def save_labels(path: Path, labels: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> None:
    """Write train ids `uint8 [H, W]` (255 = ignored, black) as a palette PNG, atomically."""
    image = Image.fromarray(labels).convert("P")
    colours = [value for colour in taxonomy.palette for value in colour]
    image.putpalette(colours + [0] * (768 - len(colours)))
    _save(path, image)


def save_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write RGB `uint8 [H, W, 3]` as a PNG, atomically."""
    _save(path, Image.fromarray(picture))


def _save(path: Path, image: Image.Image) -> None:
    try:
        with atomic_path(path) as temporary:
            image.save(temporary)
    except OSError as error:
        raise RoadworthyError(f"{path}: cannot be written ({error}); free some space or choose another --output") from error
