"""SYNTHIA-RAND-CITYSCAPES: `RGB/NAME.png` and 16-bit `GT/LABELS/NAME.png` with the class in the first channel."""

from __future__ import annotations

from pathlib import Path

from roadworthy.runtime.taxonomy import CITYSCAPES, IGNORE
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.folders import check_split, choose_split, existing_folder, pair_folders
from roadworthy.train.data.label_images import by_id

SPLITS = ("train", "val", "test")
VAL_FRACTION = 0.05  # without lists: the last frames by number

# SYNTHIA's class of each of the 16 classes that it shares with Cityscapes (the protocol of arXiv 1811.12833).
CLASS_OF = {
    "road": 3, "sidewalk": 4, "building": 2, "wall": 21, "fence": 5, "pole": 7, "traffic light": 15, "traffic sign": 9,
    "vegetation": 6, "sky": 1, "person": 10, "rider": 17, "car": 8, "bus": 19, "motorcycle": 12, "bicycle": 11,
}  # fmt: skip
# Void, parking slot, road works, terrain, truck, train and lane marking are not scored.
TRAIN_ID_OF = dict.fromkeys(range(23), IGNORE) | {raw: CITYSCAPES.index(name) for name, raw in CLASS_OF.items()}


def open_synthia(root: Path, split: str | None) -> Dataset:
    """Open SYNTHIA-RAND-CITYSCAPES with the train ids of Cityscapes, whole or one split of it.

    `train.txt`, `val.txt` and `test.txt` in the folder, one name a line, are the splits; without them "val" is the last
    twentieth of the frames and "train" the rest.
    """
    check_split("synthia", split, SPLITS)
    existing_folder(root, "the SYNTHIA-RAND-CITYSCAPES folder with RGB and GT/LABELS in it")
    images = existing_folder(root / "RGB", "the frames of SYNTHIA")
    labels = existing_folder(root / "GT" / "LABELS", "the 16-bit label images of SYNTHIA")
    pairs, problems = pair_folders(images, labels)
    chosen, missing = choose_split(root, pairs, split, VAL_FRACTION)
    return Dataset(str(root), CITYSCAPES, chosen, by_id("SYNTHIA", TRAIN_ID_OF, deep=True), (*problems, *missing))
