"""CamVid in the 11-class form of the SegNet authors: `train`, `trainannot`, `val`, `valannot` (and `test`, `testannot`)."""

from __future__ import annotations

from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.folders import existing_folder, pair_folders

SPLITS = ("train", "val", "test")


def open_camvid(root: Path, split: str | None) -> Dataset:
    """Open one split of CamVid (default "train"). Label ids 0-10 are classes and 11 is void."""
    split = split or "train"
    if split not in SPLITS:
        raise BadInput(f"camvid has no split {split!r}; known: {', '.join(SPLITS)}")
    existing_folder(root, "the CamVid folder with train, trainannot, val and valannot in it")
    images = existing_folder(root / split, f"the images of CamVid's split {split!r}")
    labels = existing_folder(root / f"{split}annot", f"the label ids of CamVid's split {split!r}")
    return Dataset(str(root), CAMVID, pair_folders(images, labels))
