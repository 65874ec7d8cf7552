"""The samples of a data set at the training size: checked once, then kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.augment import resize
from roadworthy.train.data.dataset import Dataset, Progress, Sample, raise_problems, read_all

MEMORY_LIMIT_BYTES = 2 << 30  # a data set above this at the training size is read from disk again for every batch


class Frames:
    """Random access to the usable samples of a data set, all of one size.

    `class_pixels int64 [N]` counts the labelled pixels of each class; `problems` says what is wrong with the other samples.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        progress: Progress | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        *,
        tolerate: bool = False,
    ) -> None:
        """Read and check all of `dataset`, resized to `size` = (height, width) [pixels].

        Raises one `BadInput` naming every bad file, unless told to `tolerate` them.
        """
        self.dataset = dataset
        self.size = size
        height, width = size
        classes = len(dataset.taxonomy)
        kept = len(dataset) * height * width * 4 <= memory_limit_bytes
        counts = np.zeros((len(dataset), classes), np.int64)
        usable = np.zeros(len(dataset), bool)
        images = np.empty((len(dataset) if kept else 0, height, width, 3), np.uint8)
        labels = np.empty((len(dataset) if kept else 0, height, width), np.uint8)

        def keep(index: int, sample: Sample) -> None:
            sized = resize(sample, height, width)
            counts[index] = np.bincount(sized.labels.ravel(), minlength=256)[:classes]
            usable[index] = True
            if kept:
                images[index], labels[index] = sized.image, sized.labels

        self.problems: tuple[str, ...] = (*dataset.problems, *read_all(dataset, keep, progress))
        if not tolerate:
            raise_problems(dataset.source, self.problems, len(dataset) + len(dataset.problems))
        self.class_pixels: npt.NDArray[np.int64] = counts.sum(0)
        self._kept = (images, labels) if kept else None
        self._usable = np.flatnonzero(usable)  # sample -> its place in the data set

    def __len__(self) -> int:
        """Return the number of usable samples."""
        return len(self._usable)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` at the training size."""
        place = int(self._usable[index])
        if self._kept is None:
            return resize(self.dataset[place], *self.size)
        images, labels = self._kept
        return Sample(images[place], labels[place], self.dataset.pairs[place].name)


def read_checked(
    datasets: Sequence[Dataset], size: tuple[int, int], progress: Progress | None = None, *, skip_bad: bool = False
) -> list[Frames]:
    """Read several data sets, and name the bad files of all of them in one `BadInput`; `skip_bad` goes on without those.

    Raises `BadInput` also for a data set of which nothing is left.
    """
    total = max(1, sum(len(dataset) for dataset in datasets))
    frames, done = [], 0

    def report(text: str, fraction: float) -> None:
        if progress is not None:
            progress(text, (done + fraction * len(dataset)) / total)

    for dataset in datasets:
        frames.append(Frames(dataset, size, report, tolerate=True))
        done += len(dataset)
    problems = list(dict.fromkeys(problem for part in frames for problem in part.problems))
    sources = " and ".join(dict.fromkeys(dataset.source for dataset in datasets))
    if not skip_bad:
        raise_problems(sources, problems, total + len({problem for part in datasets for problem in part.problems}))
    for part in frames:
        if not len(part):
            found = f"none of its {len(part.problems)} samples can be used" if part.problems else "it has no samples"
            raise BadInput(f"{part.dataset.source}: {found}, expected at least one image with its label")
    return frames
