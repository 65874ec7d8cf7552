"""Finding the files of a data set: images and labels of the same stem in two folders, and lists of the samples of a split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.dataset import Pair, hold_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def existing_folder(path: Path, expected: str) -> Path:
    """Return `path` if it is a folder; raises `BadInput` saying what was `expected` there."""
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder; expected {expected}")
    return path


def images_by_stem(folder: Path, ending: str = "") -> dict[str, Path]:
    """Return the image files of `folder` whose stem ends in `ending` (left out of the key) by stem, sorted.

    Raises `BadInput` for two files of one stem, or none at all.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.stem.endswith(ending):
            continue
        stem = path.stem.removesuffix(ending)
        if stem in files:
            raise BadInput(f"{folder}: both {files[stem].name} and {path.name} are there; remove one")
        files[stem] = path
    if not files:
        raise BadInput(
            f"{folder}: no images there; expected files ending in {', '.join(ending + end for end in IMAGE_SUFFIXES)}"
        )
    return files


def pair_folders(
    images: Path, labels: Path, ending: str = "", group: Callable[[str], str] = lambda name: ""
) -> tuple[list[Pair], list[str]]:
    """Pair images and labels (NAME + `ending`) of the same name; returns the pairs, and what lacks the other."""
    image_files, label_files = images_by_stem(images), images_by_stem(labels, ending)
    problems = [
        f"{path}: no label, expected {labels / f'{stem}{ending}.png'}"
        for stem, path in image_files.items()
        if stem not in label_files
    ]
    problems += [
        f"{path}: no image, expected {images / stem} with {' or '.join(IMAGE_SUFFIXES)}"
        for stem, path in label_files.items()
        if stem not in image_files
    ]
    pairs = [Pair(stem, path, label_files[stem], group(stem)) for stem, path in image_files.items() if stem in label_files]
    return pairs, problems


def check_split(kind: str, split: str | None, known: Collection[str]) -> None:
    """Raise `BadInput` if a data set of this `kind` has no such split."""
    if split is not None and split not in known:
        raise BadInput(f"{kind} has no split {split!r}; known: {', '.join(known)}")


def choose_split(root: Path, pairs: Sequence[Pair], split: str | None, val_fraction: float) -> tuple[list[Pair], list[str]]:
    """Return the samples of a split that `root/SPLIT.txt` lists, one name a line, and what the list names in vain.

    Without such lists "val" is a share of the samples that `hold_out` chooses and "train" is the rest. None is all of them.
    """
    if split is None:
        return list(pairs), []
    listing = root / f"{split}.txt"
    if listing.is_file():
        return _listed(listing, pairs)
    if (root / "train.txt").is_file() or (root / "val.txt").is_file():
        raise BadInput(f"{listing}: no such file; expected the names of the split {split!r}, since the other split has a list")
    train, val = hold_out(pairs, val_fraction)
    return (val if split == "val" else train), []


def _listed(listing: Path, pairs: Sequence[Pair]) -> tuple[list[Pair], list[str]]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise BadInput(f"{listing}: not a text file of sample names ({error})") from error
    by_name = {pair.name: pair for pair in pairs}
    wanted = list(dict.fromkeys(line for line in lines if line))
    if not wanted:
        raise BadInput(f"{listing}: names no samples; expected one name a line")
    problems = [f"{listing}: no sample is called {name!r}" for name in wanted if name not in by_name]
    return [by_name[name] for name in wanted if name in by_name], problems
