"""Dreamt pairs (`roadworthy dream`): frames painted onto generated layouts, laid out as any labelled folder.

They are there to be learnt from. Nobody looked at them, so they have no validation split: scoring on them would say nothing.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.folders import existing_folder
from roadworthy.train.data.labelled_folder import CLASSES_FILE, open_folder


def open_dream(root: Path, split: str | None) -> Dataset:
    """Open a folder of dreamt pairs, all of it as "train". Raises `BadInput` for any other split, and as `open_folder`."""
    if split not in (None, "train"):
        raise BadInput(
            f"dream:{root} has no split {split!r}: dreamt frames are to learn from, not to score by; score on real ones with "
            "--validation, or mix them into real ones with --data recording:PATH --data dream:PATH --mix 0.2"
        )
    existing_folder(root, "the folder that `roadworthy dream paint` wrote")
    return open_folder(root, None)


def write_classes(root: Path, taxonomy: Taxonomy) -> None:
    """Write the `classes.yaml` of label images that hold the train ids of a taxonomy."""
    group_of = {name: group for group, names in taxonomy.groups.items() for name in names}
    classes = [
        {"name": name, "colour": list(colour), "group": group_of.get(name, 1)}
        for name, colour in zip(taxonomy.classes, taxonomy.palette, strict=True)
    ]
    values = {"name": taxonomy.name, "ignore": [IGNORE], "classes": classes}
    write_text(root / CLASSES_FILE, yaml.safe_dump(values, sort_keys=False, default_flow_style=None))
