"""Cityscapes: `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids
from roadworthy.runtime.taxonomy import CITYSCAPES, IGNORE
from roadworthy.train.data.dataset import Dataset, Pair
from roadworthy.train.data.folders import check_split, existing_folder
from roadworthy.train.data.label_images import by_id

SPLITS = ("train", "val", "test")
IMAGE_ENDING, IDS_ENDING, TRAIN_IDS_ENDING = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"

# The labelIds of the 19 evaluated classes, in the order of their train ids (cityscapesScripts, labels.py).
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# 34 is the licence plate, -1 in the table of labels; GTA5 has it. 255 is what stands for it in 8 bits.
TRAIN_ID_OF = dict.fromkeys((*range(35), 255), IGNORE) | {raw: train_id for train_id, raw in enumerate(LABEL_IDS)}

_read_label_ids = by_id("Cityscapes", TRAIN_ID_OF)


def open_cityscapes(root: Path, split: str | None) -> Dataset:
    """Open one split of Cityscapes (default "train") with its 19 classes. The labels of "test" are all void.

    A `labelTrainIds` file that the Cityscapes scripts made is preferred over the `labelIds` file beside it.
    """
    split = split or "train"
    check_split("cityscapes", split, SPLITS)
    existing_folder(root, "the Cityscapes folder with leftImg8bit and gtFine in it")
    images = existing_folder(root / "leftImg8bit" / split, f"the cities of Cityscapes' split {split!r}")
    labels = existing_folder(root / "gtFine" / split, f"the labels of Cityscapes' split {split!r}")
    pairs, problems = [], []
    names = {(path.parent.name, path.name.removesuffix(IMAGE_ENDING)) for path in images.glob(f"*/*{IMAGE_ENDING}")}
    labelled = {(path.parent.name, path.name.removesuffix(IDS_ENDING)) for path in labels.glob(f"*/*{IDS_ENDING}")}
    labelled |= {(path.parent.name, path.name.removesuffix(TRAIN_IDS_ENDING)) for path in labels.glob(f"*/*{TRAIN_IDS_ENDING}")}
    for city, name in sorted(names | labelled):
        image = images / city / f"{name}{IMAGE_ENDING}"
        ids, train_ids = (labels / city / f"{name}{ending}" for ending in (IDS_ENDING, TRAIN_IDS_ENDING))
        if (city, name) not in names:
            problems.append(f"{ids}: no image, expected {image}")
        elif (city, name) not in labelled:
            problems.append(f"{image}: no label, expected {ids}")
        else:
            pairs.append(Pair(name, image, train_ids if train_ids.is_file() else ids, city))
    if not pairs and not problems:
        raise BadInput(f"{images}: no images there; expected CITY/NAME{IMAGE_ENDING}")
    return Dataset(str(images), CITYSCAPES, pairs, read_cityscapes_labels, tuple(problems))


def read_cityscapes_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Read a label file of Cityscapes to train ids `uint8 [H, W]`; its name tells whether it holds labelIds or train ids."""
    if path.name.endswith(TRAIN_IDS_ENDING):
        return CITYSCAPES.fold(read_ids(path), str(path))
    return _read_label_ids(path)
