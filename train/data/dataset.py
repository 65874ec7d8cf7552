"""A labelled data set on disk: pairs of files, and the check that names every bad one before training starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb
from roadworthy.runtime.taxonomy import Taxonomy

Progress = Callable[[str, float], None]  # what is being done, fraction done 0..1

MAX_NAMED_PROBLEMS = 10  # bad files spelled out in one message


class Sample(NamedTuple):
    """One labelled frame: `image uint8 [H, W, 3]` RGB, `labels uint8 [H, W]` train ids (255 = ignored), its file stem."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class Pair:
    """The files of one sample."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class Dataset:
    """Samples that are read from disk when asked for; `source` is the folder they came from, for messages."""

    source: str
    taxonomy: Taxonomy
    pairs: Sequence[Pair]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`. Raises `BadInput` naming the file that is missing, unreadable or of unknown ids."""
        pair = self.pairs[index]
        image = read_rgb(pair.image)
        labels = self.taxonomy.fold(read_ids(pair.labels), str(pair.labels))
        if labels.shape != image.shape[:2]:
            raise BadInput(
                f"{pair.labels}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image {pair.image.name} "
                f"has {image.shape[1]}x{image.shape[0]}"
            )
        return Sample(image, labels, pair.name)


def read_all(dataset: Dataset, keep: Callable[[int, Sample], None], progress: Progress | None = None, threads: int = 4) -> None:
    """Read every sample once and hand it to `keep(index, sample)`, from several threads.

    Raises one `BadInput` that names all bad files (the first ten spelled out, and the count) after looking at every one.
    """

    def read(index: int) -> str | None:
        try:
            keep(index, dataset[index])
        except BadInput as error:
            return str(error)
        return None

    problems: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for done, problem in enumerate(pool.map(read, range(len(dataset))), 1):
            if problem is not None:
                problems.append(problem)
            if progress is not None and (done % 16 == 0 or done == len(dataset)):
                progress(f"reading {dataset.source}: {done} of {len(dataset)} frames", done / len(dataset))
    raise_problems(dataset.source, problems, len(dataset))


def raise_problems(source: str, problems: Sequence[str], total: int) -> None:
    """Raise one `BadInput` for all `problems` of a data set of `total` samples; does nothing when there are none."""
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:MAX_NAMED_PROBLEMS])
    more = len(problems) - MAX_NAMED_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    raise BadInput(f"{source}: {len(problems)} of {total} samples cannot be used; repair or remove them:\n{shown}{rest}")
