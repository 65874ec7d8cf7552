"""Loss curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from roadworthy.runtime.errors import MissingExtra

EVERY = 10  # iterations between two points of a curve


class Curves:
    """Writes scalar curves into a folder that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, start: int) -> None:
        """Open `folder`; points after iteration `start` that an interrupted run left there are dropped."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "train", "Writing loss curves (or train with tensorboard=false)") from error
        self._writer = SummaryWriter(str(folder), purge_step=start)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve, now and then."""
        if iteration % EVERY == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"loss/{name}", value, iteration)

    def flush(self) -> None:
        """Write out what is buffered."""
        self._writer.flush()
