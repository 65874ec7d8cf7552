"""Choosing the best checkpoint, and stopping early, by frames that are neither trained on nor reported."""

from __future__ import annotations

from dataclasses import dataclass

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.dataset import Dataset, hold_out


@dataclass(frozen=True)
class Selected:
    """The best scoring so far; `mean_iou` is that of the selection frames, and optimistic because it was chosen by."""

    frames: int
    iteration: int = -1  # -1: none yet
    mean_iou: float = -1.0
    worse_since: int = 0  # scorings since then

    def update(self, iteration: int, mean_iou: float) -> Selected:
        """Return the choice after one more scoring; the earlier one of two equal scores stays."""
        if mean_iou > self.mean_iou:
            return Selected(self.frames, iteration, mean_iou)
        return Selected(self.frames, self.iteration, self.mean_iou, self.worse_since + 1)


def split_selection(training: Dataset, fraction: float) -> tuple[Dataset, Dataset | None]:
    """Hold a `fraction` of the training samples out for the selection; without one there is none. Raises `BadInput`."""
    if fraction == 0:
        return training, None
    rest, held = hold_out(training.pairs, fraction)
    if not rest or not held:
        raise BadInput(
            f"{training.source}: {len(training)} samples cannot give up a share of {fraction:g} for the selection of the best "
            "checkpoint and leave some to learn from; use selection=0"
        )
    return training.part(rest), training.part(held)
