"""The one implementation of confusion matrix and intersection over union; training, export and evaluation all use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE


def confusion(
    pred: npt.NDArray[np.integer], label: npt.NDArray[np.integer], classes: int, ignore_index: int = IGNORE
) -> npt.NDArray[np.int64]:
    """Count pixels by (truth, prediction): `int64 [N, N]`, truth in the rows, ignored labels left out.

    `pred` and `label` are train ids of one shape (any number of axes). Raises `BadInput` when the shapes differ, or when an
    id that is not ignored lies outside 0..classes-1.
    """
    if pred.shape != label.shape:
        raise BadInput(f"prediction has shape {pred.shape}, label has {label.shape}; expected the same (resize labels nearest)")
    valid = label != ignore_index
    truth, guess = label[valid].astype(np.int64), pred[valid].astype(np.int64)  # [valid pixels]
    for what, ids in (("label", truth), ("prediction", guess)):
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= classes):
            wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise BadInput(
                f"{what} has id {wrong}, expected 0..{classes - 1} or {ignore_index} (ignored); is it another taxonomy?"
            )
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)


def iou(confusion: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Intersection over union per class, `float64 [N]`; nan for a class absent from both truth and prediction."""
    matrix = confusion.astype(np.float64)
    hits = np.diagonal(matrix)
    union = matrix.sum(axis=1) + matrix.sum(axis=0) - hits
    scores: npt.NDArray[np.float64] = np.divide(hits, union, out=np.full(len(matrix), np.nan), where=union > 0)
    return scores


def mean_iou(confusion: npt.NDArray[np.integer]) -> float:
    """Data-set-level mean IoU over the classes that occur in truth or prediction; nan when none does."""
    per_class = iou(confusion)
    present = per_class[~np.isnan(per_class)]
    return float(present.mean()) if present.size else float("nan")


class Confusion:
    """A confusion matrix that grows image by image, so that a data set never has to fit into memory."""

    def __init__(self, classes: int, ignore_index: int = IGNORE) -> None:
        """Start at zero for `classes` classes."""
        self.classes = classes
        self.ignore_index = ignore_index
        self.matrix: npt.NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def update(self, pred: npt.NDArray[np.integer], label: npt.NDArray[np.integer]) -> None:
        """Add one image or batch of train ids, shapes as in `confusion`."""
        self.matrix += confusion(pred, label, self.classes, self.ignore_index)

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union per class so far, as `iou`."""
        return iou(self.matrix)

    def mean_iou(self) -> float:
        """Mean IoU so far, as `mean_iou`."""
        return mean_iou(self.matrix)
