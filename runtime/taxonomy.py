"""Class taxonomies: names, colours, importance groups, and the folding from a data set's raw ids to train ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput

IGNORE = 255  # the label that losses and metrics skip


@dataclass(frozen=True)
class Taxonomy:
    """A fixed list of classes that a model predicts and a data set is labelled in.

    `groups` are importance groups, 4 (most important) to 1, as in importance-aware segmentation
    (arXiv 2008.04751, section II). `folding` maps every raw id of the data set to a train id or `IGNORE`.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]  # RGB per class
    groups: Mapping[int, tuple[str, ...]]
    folding: Mapping[int, int]
    _table: npt.NDArray[np.int16] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the look-up table of the folding; -1 marks raw ids that the data set does not have."""
        table = np.full(256, -1, np.int16)
        for raw, train_id in self.folding.items():
            table[raw] = train_id
        object.__setattr__(self, "_table", table)

    def __len__(self) -> int:
        """Return the number of classes, the ignored label not counted."""
        return len(self.classes)

    def index(self, name: str) -> int:
        """Return the train id of class `name`; raises `BadInput` when the taxonomy lacks it."""
        if name not in self.classes:
            raise BadInput(f"class {name!r} is not in taxonomy {self.name!r}; it has: {', '.join(self.classes)}")
        return self.classes.index(name)

    def fold(self, raw: npt.NDArray[np.uint8], source: str = "labels") -> npt.NDArray[np.uint8]:
        """Turn raw ids `uint8 [H, W]` into train ids (`IGNORE` for void). Raises `BadInput` naming unknown ids and `source`."""
        folded = self._table[raw]
        if folded.size and int(folded.min()) < 0:
            unknown = sorted(int(value) for value in np.unique(raw[folded < 0]))
            raise BadInput(
                f"{source}: id {', '.join(map(str, unknown[:8]))} is not in taxonomy {self.name!r} "
                f"(it knows the raw ids {_ranges(self.folding)}); are these labels of another data set?"
            )
        return folded.astype(np.uint8)

    def colourise(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Paint train ids `[..., H, W]` with the palette: `uint8 [..., H, W, 3]` RGB, ignored pixels black."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        painted: npt.NDArray[np.uint8] = colours[labels]
        return painted


def _ranges(ids: Mapping[int, int]) -> str:
    """Write a set of ids the way a person would: 0-18, 255."""
    parts: list[list[int]] = []
    for value in sorted(ids):
        if parts and parts[-1][1] == value - 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


CITYSCAPES = Taxonomy(
    name="cityscapes",
    classes=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
        "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
        (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    groups={
        4: ("person", "rider", "car", "truck", "bus", "motorcycle", "bicycle"),
        3: ("road", "sidewalk", "train", "traffic light", "traffic sign"),
        2: ("building", "wall", "fence", "vegetation", "terrain", "pole"),
        1: ("sky",),
    },
    folding={**{i: i for i in range(19)}, IGNORE: IGNORE},
)  # fmt: skip

CAMVID = Taxonomy(
    name="camvid",
    classes=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    groups={
        4: ("car", "pedestrian", "bicyclist"),
        3: ("road", "pavement", "sign"),
        2: ("building", "pole", "tree", "fence"),
        1: ("sky",),
    },
    folding={**{i: i for i in range(11)}, 11: IGNORE, IGNORE: IGNORE},  # 11 is void in the SegNet layout
)  # fmt: skip

# CARLA >= 0.9.14 semantic tags folded to the Cityscapes classes + "road line". Tags 1-19 are trainId + 1. Tags that
# Cityscapes calls void stay void (None, Static, Dynamic, Other, Water, Ground, Bridge, RailTrack); a guard rail stops a
# car as a fence does, so it is folded there rather than lost.
TOWN = Taxonomy(
    name="town",
    classes=(*CITYSCAPES.classes, "road line"),
    palette=(*CITYSCAPES.palette, (255, 255, 255)),
    groups={**CITYSCAPES.groups, 3: (*CITYSCAPES.groups[3], "road line")},
    folding={
        **{tag: tag - 1 for tag in range(1, 20)},
        **dict.fromkeys((0, 20, 21, 22, 23, 25, 26, 27, IGNORE), IGNORE),
        24: 19,
        28: CITYSCAPES.classes.index("fence"),
    },
)

# The same tags folded to the 13 classes that CARLA had before 0.9: those of the scene-adaptation data (Di Mauro et al., AVSS
# 2018, section 4). Then the sky and whatever had no tag were "none", lights counted as signs, a rider as part of the vehicle.
CARLA13 = Taxonomy(
    name="carla13",
    classes=(
        "none", "buildings", "fences", "other", "pedestrians", "poles", "road lines", "roads", "sidewalks", "vegetation",
        "vehicles", "walls", "traffic signs",
    ),
    palette=(
        (0, 0, 0), (70, 70, 70), (190, 153, 153), (72, 0, 90), (220, 20, 60), (153, 153, 153), (157, 234, 50), (128, 64, 128),
        (244, 35, 232), (107, 142, 35), (0, 0, 255), (102, 102, 156), (220, 220, 0),
    ),
    groups={
        4: ("pedestrians", "vehicles"),
        3: ("roads", "road lines", "sidewalks", "traffic signs"),
        2: ("buildings", "fences", "poles", "walls", "vegetation"),
        1: ("none", "other"),
    },
    folding={
        **{0: 0, 11: 0, 3: 1, 5: 2, 28: 2, 12: 4, 6: 5, 24: 6, 1: 7, 2: 8, 9: 9, 10: 9, 4: 11, 7: 12, 8: 12},
        **dict.fromkeys((20, 21, 22, 23, 25, 26, 27), 3),
        **dict.fromkeys((13, 14, 15, 16, 17, 18, 19), 10),
        IGNORE: IGNORE,
    },
)  # fmt: skip

TAXONOMIES: Mapping[str, Taxonomy] = {taxonomy.name: taxonomy for taxonomy in (CITYSCAPES, CAMVID, TOWN, CARLA13)}


def get_taxonomy(name: str) -> Taxonomy:
    """Return the taxonomy called `name`; raises `BadInput` listing the known ones."""
    if name not in TAXONOMIES:
        raise BadInput(f"unknown taxonomy {name!r}; known: {', '.join(TAXONOMIES)}")
    return TAXONOMIES[name]
