"""CamVid's 11 classes, from the SegNet authors' 480x360 files or from the original 960x720 ones with their 32 colours.

SegNet's: `train`, `trainannot`, `val`, `valannot` (and `test`, `testannot`) with label ids 0-10 and 11 for void.
The original: `701_StillsRaw_full/NAME.png` and `LabeledApproved_full/NAME_L.png`.
"""

from __future__ import annotations

from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, IGNORE
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.folders import check_split, choose_split, existing_folder, pair_folders
from roadworthy.train.data.label_images import Colour, by_colour

SPLITS = ("train", "val", "test")
ORIGINAL_IMAGES, ORIGINAL_LABELS = "701_StillsRaw_full", "LabeledApproved_full"
TEST_SEQUENCE = "Seq05VD"  # its 171 frames are the test split of those who train on the original 701 (arXiv 1908.02711)
VAL_FRACTION = 101 / 530  # of the other frames

# The 32 labels of the original, by the class of the 11 that the SegNet authors folded them to.
COLOURS: dict[str, tuple[Colour, ...]] = {
    "sky": ((128, 128, 128),),
    # Building, Wall, Tunnel, Bridge, Archway
    "building": ((128, 0, 0), (64, 192, 0), (64, 0, 64), (0, 128, 64), (192, 0, 128)),
    "pole": ((192, 192, 128), (0, 0, 64)),  # Column_Pole, TrafficCone
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # Road, LaneMkgsDriv, LaneMkgsNonDriv
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # Sidewalk, ParkingBlock, RoadShoulder
    "tree": ((128, 128, 0), (192, 192, 0)),  # Tree, VegetationMisc
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # SignSymbol, Misc_Text, TrafficLight
    "fence": ((64, 64, 128),),
    # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    # Pedestrian, Child, CartLuggagePram, Animal
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # Bicyclist, MotorcycleScooter
}
VOID: Colour = (0, 0, 0)
TRAIN_IDS = {colour: CAMVID.index(name) for name, colours in COLOURS.items() for colour in colours} | {VOID: IGNORE}


def open_camvid(root: Path, split: str | None) -> Dataset:
    """Open one split of CamVid (default "train").

    The original has no split of its own: "test" is the sequence Seq05VD, "val" the last 101 of 530 frames of each other
    sequence, "train" the rest; `train.txt`, `val.txt` and `test.txt` in the folder, one name a line, say otherwise.
    """
    split = split or "train"
    check_split("camvid", split, SPLITS)
    existing_folder(root, "the CamVid folder with train, trainannot, val and valannot in it")
    if (root / ORIGINAL_IMAGES).is_dir():
        return _open_original(root, split)
    images = existing_folder(root / split, f"the images of CamVid's split {split!r}")
    labels = existing_folder(root / f"{split}annot", f"the label ids of CamVid's split {split!r}")
    pairs, problems = pair_folders(images, labels, group=_sequence)
    return Dataset(str(images), CAMVID, pairs, problems=tuple(problems))


def _open_original(root: Path, split: str) -> Dataset:
    labels = existing_folder(root / ORIGINAL_LABELS, "CamVid's colour labels, NAME_L.png")
    pairs, problems = pair_folders(root / ORIGINAL_IMAGES, labels, "_L", _sequence)
    if any((root / f"{name}.txt").is_file() for name in SPLITS):
        chosen, missing = choose_split(root, pairs, split, VAL_FRACTION)
        problems += missing
    else:
        test = [pair for pair in pairs if pair.group == TEST_SEQUENCE]
        rest = [pair for pair in pairs if pair.group != TEST_SEQUENCE]
        chosen = test if split == "test" else choose_split(root, rest, split, VAL_FRACTION)[0]
    if not chosen:
        raise BadInput(f"{root}: its {len(pairs)} frames leave none for the split {split!r}")
    return Dataset(str(root), CAMVID, chosen, by_colour("CamVid", TRAIN_IDS), tuple(problems))


def _sequence(name: str) -> str:
    """Return the drive that a frame is from: NAME is SEQUENCE_NUMBER."""
    return name.partition("_")[0]
