"""The samples of a data set at the training size: checked once, then kept in memory where they fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roadworthy.train.data.augment import resize
from roadworthy.train.data.dataset import Dataset, Progress, Sample, read_all

MEMORY_LIMIT_BYTES = 2 << 30  # a data set above this at the training size is read from disk again for every batch


class Frames:
    """Random access to samples of one size; `class_pixels int64 [N]` counts the labelled pixels of each class."""

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        progress: Progress | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        """Read and check all of `dataset`, resized to `size` = (height, width) [pixels].

        Raises one `BadInput` naming every bad file.
        """
        self.dataset = dataset
        self.size = size
        height, width = size
        classes = len(dataset.taxonomy)
        kept = len(dataset) * height * width * 4 <= memory_limit_bytes
        counts = np.zeros((len(dataset), classes), np.int64)
        images = np.empty((len(dataset) if kept else 0, height, width, 3), np.uint8)
        labels = np.empty((len(dataset) if kept else 0, height, width), np.uint8)

        def keep(index: int, sample: Sample) -> None:
            sized = resize(sample, height, width)
            counts[index] = np.bincount(sized.labels.ravel(), minlength=256)[:classes]
            if kept:
                images[index], labels[index] = sized.image, sized.labels

        read_all(dataset, keep, progress)
        self.class_pixels: npt.NDArray[np.int64] = counts.sum(0)
        self._kept = (images, labels) if kept else None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` at the training size."""
        if self._kept is None:
            return resize(self.dataset[index], *self.size)
        images, labels = self._kept
        return Sample(images[index], labels[index], self.dataset.pairs[index].name)
