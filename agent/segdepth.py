"""The state of the independent driver: label map, depth and vehicle state (`roadworthy/DriveSegDepth-v0`).

The paper (arXiv 2008.04751, Table V) judges segmenters a second time by a driver that was not trained on their latents: its
state is the segmentation of the front view, the depth camera and the vehicle state. It names neither resolution nor encoding;
here both maps keep every n-th pixel, so that at most 64 x 128 are left, and labels are those of the taxonomy `town`, whatever
the segmenter's own is called. With the source `truth` the label map is the simulator's own: a driver learns on it once, is
frozen, and then each segmenter is put in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.camera import DEPTH, SEMANTIC
from roadworthy.agent.ego import Moment
from roadworthy.agent.observation import Measurements, Observation, measurement_space
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmenter
from roadworthy.runtime.taxonomy import IGNORE, TOWN

SEGDEPTH_PART = "segmentation"  # the part of the observation that tells this driver from others
TRUTH = "truth"  # in place of a model file: the labels of the semantic camera
MAX_CELLS = (64, 128)  # rows, columns that are kept of both maps
MAX_DEPTH_M = 100.0  # [m] farther is as far
VOID = len(TOWN)  # what the town calls none of the classes; a segmenter never predicts it
# What other taxonomies call a class of the town. Classes that a segmenter does not know at all its driver never sees.
SYNONYMS: Mapping[str, str] = {
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign": "traffic sign",
    "pedestrian": "person",
    "bicyclist": "rider",
}

Labels = npt.NDArray[np.uint8]


class LabelSource(Protocol):
    """Where the label map comes from."""

    cameras: tuple[str, ...]  # that it needs beside the colour camera

    def __call__(self, moment: Moment) -> Labels:
        """Return the labels `uint8 [H, W]` of the taxonomy `town`; `VOID` where there is none."""
        ...


class TrueLabels:
    """The simulator's own labels."""

    cameras: tuple[str, ...] = (SEMANTIC,)

    def __call__(self, moment: Moment) -> Labels:
        """Fold the semantic camera's tags."""
        assert moment.tags is not None, "the ego carries a semantic camera"
        return true_labels(moment.tags)


class PredictedLabels:
    """A segmenter's labels, in the taxonomy `town`."""

    cameras: tuple[str, ...] = ()

    def __init__(self, segmenter: Segmenter) -> None:
        """Use `segmenter`; raises `BadInput` if it gives no labels, or labels that have no counterpart in the town."""
        if "labels" not in segmenter.outputs:
            raise BadInput(
                f"{segmenter.path}: gives {', '.join(segmenter.outputs)} but no labels, which the driver on segmentation and "
                "depth sees; export it again with --outputs labels"
            )
        self._segmenter = segmenter
        self._table = town_ids(segmenter.metadata.class_names, str(segmenter.path))

    def __call__(self, moment: Moment) -> Labels:
        """Segment the colour frame."""
        labels = self._segmenter(moment.frame[None], outputs=("labels",)).labels  # [1, H, W]
        assert labels is not None
        found: Labels = self._table[labels[0]]
        return found


class SegDepthObserver:
    """Shows label map, depth and measurements."""

    def __init__(self, source: LabelSource, height_px: int, width_px: int) -> None:
        """Show the labels of `source`, for cameras of `height_px` x `width_px`."""
        self.cameras: tuple[str, ...] = (DEPTH, *source.cameras)
        self.space = segdepth_space(height_px, width_px)
        self._source = source

    def forget(self) -> None:
        """Nothing to forget: one picture of each camera is the state."""

    def observe(self, moment: Moment, measurements: Measurements) -> Observation:
        """Return an element of `segdepth_space`."""
        assert moment.depth_m is not None, "the ego carries a depth camera"
        return {
            "segmentation": thinned(self._source(moment)),
            "depth": thinned_depth(moment.depth_m),
            "measurements": measurements,
        }

    def paint(self, moment: Moment) -> npt.NDArray[np.uint8] | None:
        """Return the label map in the town's palette, void black."""
        return TOWN.colourise(self._source(moment))


def open_labels(segmenter: str | Path | Segmenter, threads: int | None = None) -> LabelSource:
    """Return the labels of a model file, of a loaded model, or of the simulator (`truth`)."""
    from roadworthy.runtime.segmenter import load

    if str(segmenter) == TRUTH:
        return TrueLabels()
    return PredictedLabels(load(segmenter, device="cpu", threads=threads) if isinstance(segmenter, str | Path) else segmenter)


def segdepth_space(height_px: int, width_px: int) -> spaces.Dict:
    """Return the observation space for cameras of `height_px` x `width_px`, thinned to `[h, w]`, at most 64 x 128.

    - `segmentation` uint8 `[h, w]`: ids 0..19 of the taxonomy `town`, 20 for void;
    - `depth` float16 `[h, w]`: distance to the image plane, 0..100 m, what is farther counts as 100 m;
    - `measurements` float32 `[9]`: those of `roadworthy/Drive-v0`.
    """
    rows, columns = thinned_shape(height_px, width_px)
    return spaces.Dict(
        {
            "segmentation": spaces.Box(0, VOID, (rows, columns), np.uint8),
            "depth": spaces.Box(0.0, MAX_DEPTH_M, (rows, columns), np.float16),
            "measurements": measurement_space(),
        }
    )


def thinned_shape(height_px: int, width_px: int) -> tuple[int, int]:
    """Return rows and columns that are left of a picture."""
    row_step, column_step = _steps(height_px, width_px)
    return -(-height_px // row_step), -(-width_px // column_step)


def thinned(labels: Labels) -> Labels:
    """Keep every n-th pixel of labels `[..., H, W]`: a class that is averaged is none."""
    row_step, column_step = _steps(*labels.shape[-2:])
    return np.ascontiguousarray(labels[..., ::row_step, ::column_step])


def thinned_depth(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Keep every n-th pixel of depths `[..., H, W]` [m], clipped to 100 m."""
    row_step, column_step = _steps(*depth_m.shape[-2:])
    return np.minimum(depth_m[..., ::row_step, ::column_step], MAX_DEPTH_M).astype(np.float16)


def _steps(height_px: int, width_px: int) -> tuple[int, int]:
    return -(-height_px // MAX_CELLS[0]), -(-width_px // MAX_CELLS[1])


def true_labels(tags: npt.NDArray[np.uint8]) -> Labels:
    """Fold CARLA's tags `[..., H, W]` to ids of the taxonomy `town`, `VOID` where it has none."""
    folded = TOWN.fold(tags, "semantic camera")
    folded[folded == IGNORE] = VOID
    return folded


def town_ids(class_names: Sequence[str], source: str) -> npt.NDArray[np.uint8]:
    """Return the table `uint8 [256]` from label ids of `class_names` to ids of the taxonomy `town`.

    Raises `BadInput` naming `source` for a class without a counterpart.
    """
    names = [SYNONYMS.get(name, name) for name in class_names]
    unknown = [name for name in names if name not in TOWN.classes]
    if unknown:
        raise BadInput(
            f"{source}: classes {', '.join(unknown)} are none of the town's ({', '.join(TOWN.classes)}); the driver on "
            "segmentation and depth needs a segmenter that was trained on those or on some of them"
        )
    table = np.full(256, VOID, np.uint8)
    table[: len(names)] = [TOWN.index(name) for name in names]
    return table
