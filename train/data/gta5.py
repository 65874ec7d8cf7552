"""GTA5 ("Playing for Data"): `images/NAME.png` and palette PNGs `labels/NAME.png`, whose indices are Cityscapes' labelIds."""

from __future__ import annotations

from pathlib import Path

from roadworthy.runtime.taxonomy import CITYSCAPES
from roadworthy.train.data.cityscapes import TRAIN_ID_OF
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.folders import check_split, choose_split, existing_folder, pair_folders
from roadworthy.train.data.label_images import by_id

SPLITS = ("train", "val", "test")
VAL_FRACTION = 0.05  # without lists: the last frames by number


def open_gta5(root: Path, split: str | None) -> Dataset:
    """Open GTA5 with Cityscapes' 19 classes, whole or one split of it.

    `train.txt`, `val.txt` and `test.txt` in the folder, one name a line (00001), are the splits; without them "val" is the
    last twentieth of the frames and "train" the rest. A few frames of the published set have labels of another size.
    """
    check_split("gta5", split, SPLITS)
    existing_folder(root, "the GTA5 folder with images and labels in it")
    images = existing_folder(root / "images", "the frames of GTA5")
    labels = existing_folder(root / "labels", "the palette PNGs of GTA5")
    pairs, problems = pair_folders(images, labels)
    chosen, missing = choose_split(root, pairs, split, VAL_FRACTION)
    return Dataset(str(root), CITYSCAPES, chosen, by_id("GTA5", TRAIN_ID_OF), (*problems, *missing))
