"""Finding the files of a data set: images and labels of the same stem in two folders."""

from __future__ import annotations

from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.dataset import Pair, raise_problems

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def existing_folder(path: Path, expected: str) -> Path:
    """Return `path` if it is a folder; raises `BadInput` saying what was `expected` there."""
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder; expected {expected}")
    return path


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files of `folder` by stem, sorted. Raises `BadInput` for two files of one stem, or none at all."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise BadInput(f"{folder}: both {files[path.stem].name} and {path.name} are there; remove one")
        files[path.stem] = path
    if not files:
        raise BadInput(f"{folder}: no images there; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return files


def pair_folders(images: Path, labels: Path) -> list[Pair]:
    """Pair images and labels of the same stem. Raises one `BadInput` naming all that lack the other."""
    image_files, label_files = images_by_stem(images), images_by_stem(labels)
    problems = [
        f"{path}: no label, expected {labels / f'{stem}.png'}" for stem, path in image_files.items() if stem not in label_files
    ]
    problems += [
        f"{path}: no image, expected {images / stem} with {' or '.join(IMAGE_SUFFIXES)}"
        for stem, path in label_files.items()
        if stem not in image_files
    ]
    raise_problems(str(images), problems, len(image_files.keys() | label_files.keys()))
    return [Pair(stem, path, label_files[stem]) for stem, path in image_files.items()]
