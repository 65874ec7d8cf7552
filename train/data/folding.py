"""Learning in the classes of one taxonomy from data that are labelled in another, by tables that say what becomes what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, CARLA13, CITYSCAPES, IGNORE, TOWN, get_taxonomy
from roadworthy.train.data.dataset import Dataset

# As the SegNet authors folded CamVid's 32 labels to 11: walls to buildings, traffic lights to signs, trucks and buses to
# cars, motorcycles to bicyclists, what grows to trees, markings to the road.
CITYSCAPES_TO_CAMVID: Mapping[str, str] = {
    "road": "road",
    "sidewalk": "pavement",
    "building": "building",
    "wall": "building",
    "fence": "fence",
    "pole": "pole",
    "traffic light": "sign",
    "traffic sign": "sign",
    "vegetation": "tree",
    "terrain": "tree",
    "sky": "sky",
    "person": "pedestrian",
    "rider": "bicyclist",
    "car": "car",
    "truck": "car",
    "bus": "car",
    "train": "car",
    "motorcycle": "bicyclist",
    "bicycle": "bicyclist",
}
TOWN_TO_CAMVID: Mapping[str, str] = {**CITYSCAPES_TO_CAMVID, "road line": "road"}

# (from, to) -> class names; every class of the first has a place in the second.
FOLDINGS: Mapping[tuple[str, str], Mapping[str, str]] = {
    (CITYSCAPES.name, CAMVID.name): CITYSCAPES_TO_CAMVID,
    (TOWN.name, CAMVID.name): TOWN_TO_CAMVID,
    (TOWN.name, CITYSCAPES.name): {**{name: name for name in CITYSCAPES.classes}, "road line": "road"},
}
RAW_TAGS = (TOWN.name, CARLA13.name)  # taxonomies that fold CARLA's raw tags themselves


def fold_classes(dataset: Dataset, name: str | None) -> Dataset:
    """Return `dataset` labelled in the taxonomy called `name` (None: as it is). Raises `BadInput` without a table for it."""
    if name is None or name == dataset.taxonomy.name:
        return dataset
    wanted, had = get_taxonomy(name), dataset.taxonomy
    if had.name in RAW_TAGS and wanted.name in RAW_TAGS and dataset.read_labels is None:
        return replace(dataset, taxonomy=wanted)
    table = FOLDINGS.get((had.name, wanted.name))
    if table is None:
        known = ", ".join(f"{before} to {after}" for before, after in FOLDINGS)
        raise BadInput(f"{dataset.source}: labelled in {had.name!r}, which has no table to {name!r}; known: {known}")
    places = np.full(256, IGNORE, np.uint8)
    places[: len(had)] = [wanted.index(table[each]) for each in had.classes]
    read = dataset.labels_of

    def folded(path: Path) -> npt.NDArray[np.uint8]:
        labels: npt.NDArray[np.uint8] = places[read(path)]  # [H, W]
        return labels

    return replace(dataset, taxonomy=wanted, read_labels=folded)
