"""A labelled data set on disk: pairs of files, and the check that names every bad one before training starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy

Progress = Callable[[str, float], None]  # what is being done, fraction done 0..1
ReadLabels = Callable[[Path], npt.NDArray[np.uint8]]  # a label file -> train ids `uint8 [H, W]`, 255 = ignored


class Sample(NamedTuple):
    """One labelled frame: `image uint8 [H, W, 3]` RGB, `labels uint8 [H, W]` train ids (255 = ignored), its file stem."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class Pair:
    """The files of one sample, `labels` None without one. Samples of one `group` (a drive, a city) look alike."""

    name: str
    image: Path
    labels: Path | None
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Samples that are read from disk when asked for; `source` is the folder they came from, for messages."""

    source: str
    taxonomy: Taxonomy
    pairs: Sequence[Pair]
    read_labels: ReadLabels | None = None  # None: one channel of the taxonomy's raw ids
    problems: tuple[str, ...] = ()  # samples that cannot be used because a file of theirs is missing

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`. Raises `BadInput` naming the file that is missing, unreadable or of unknown ids."""
        pair = self.pairs[index]
        image = read_rgb(pair.image)
        nothing = np.full(image.shape[:2], IGNORE, np.uint8)  # [H, W]
        labels = nothing if pair.labels is None else self.labels_of(pair.labels)
        if labels.shape != image.shape[:2]:
            raise BadInput(
                f"{pair.labels}: {labels.shape[1]}x{labels.shape[0]} pixels, but its image {pair.image.name} "
                f"has {image.shape[1]}x{image.shape[0]}"
            )
        return Sample(image, labels, pair.name)

    def labels_of(self, path: Path) -> npt.NDArray[np.uint8]:
        """Read one label file as train ids, `uint8 [H, W]`. Raises `BadInput` for unknown ids or an unreadable file."""
        return self.taxonomy.fold(read_ids(path), str(path)) if self.read_labels is None else self.read_labels(path)

    def part(self, pairs: Sequence[Pair]) -> Dataset:
        """Return this data set with these samples of it alone."""
        return replace(self, pairs=pairs)


def hold_out(pairs: Sequence[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """Split samples into (the rest, a `fraction` of them) so that the two look as little alike as the data allows.

    Where there are groups enough, whole groups spread over the data are held out; otherwise the last frames of each group.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    names = list(groups)
    held: set[str] = set()
    if len(names) * fraction >= 1:
        count = round(len(names) * fraction)
        chosen = {names[(place + 1) * len(names) // count - 1] for place in range(count)}
        held = {pair.name for name in chosen for pair in groups[name]}
    else:
        for members in groups.values():
            held |= {pair.name for pair in members[len(members) - math.ceil(fraction * len(members)) :]}
    return [pair for pair in pairs if pair.name not in held], [pair for pair in pairs if pair.name in held]


def read_all(
    dataset: Dataset, keep: Callable[[int, Sample], None], progress: Progress | None = None, threads: int = 4
) -> list[str]:
    """Read every sample once, from several threads, and hand the good ones to `keep(index, sample)`.

    Returns what is wrong with each of the others.
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
    return problems


def raise_problems(source: str, problems: Sequence[str], total: int) -> None:
    """Raise one `BadInput` that names all `problems` of a data set of `total` samples; does nothing when there are none."""
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems)
    fix = "repair or remove them, or train with --skip-bad"
    raise BadInput(f"{source}: {len(problems)} of {total} samples cannot be used; {fix}:\n{shown}")
