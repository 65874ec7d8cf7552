"""The frames of a target domain: images whose labels, if there are any, are never opened.

A target is images:FOLDER, a data set as KIND:PATH (its training split), or pseudo:FOLDER, frames that a network labelled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.data import DATASETS, list_dataset
from roadworthy.train.data.dataset import Dataset, Pair
from roadworthy.train.data.folders import existing_folder, images_by_stem

IMAGES = "images"  # the kind of a plain folder of images


def open_target(spec: str, taxonomy: Taxonomy) -> Dataset:
    """Open the target domain that `spec` names: images:FOLDER, or the training split of a data set as KIND:PATH.

    All its pixels are unlabelled. Raises `BadInput` for an unknown kind, a missing folder, or one without images.
    """
    kind, _, path = spec.partition(":")
    if kind == IMAGES and path:
        folder = existing_folder(Path(path).expanduser(), "the images of the target domain")
        files = images_by_stem(folder)
        return Dataset(str(folder), taxonomy, [Pair(name, file, None) for name, file in files.items()])
    if kind not in DATASETS:
        raise BadInput(f"target {spec!r} is not KIND:PATH with KIND one of {', '.join((IMAGES, *DATASETS))}")
    listed = list_dataset(spec, "train")
    bare = [replace(pair, labels=None) for pair in listed.pairs]
    return Dataset(listed.source, taxonomy, bare, problems=listed.problems)
