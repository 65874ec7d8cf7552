"""Labelled data sets, by name. A new one is one file and one line of `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.camvid import open_camvid
from roadworthy.train.data.cityscapes import open_cityscapes
from roadworthy.train.data.dataset import Dataset, Sample, raise_problems
from roadworthy.train.data.dream import open_dream
from roadworthy.train.data.gta5 import open_gta5
from roadworthy.train.data.labelled_folder import open_folder
from roadworthy.train.data.recording import open_recording
from roadworthy.train.data.synthia import open_synthia

__all__ = ["DATASETS", "Dataset", "Sample", "list_dataset", "open_dataset"]

DATASETS: Mapping[str, Callable[[Path, str | None], Dataset]] = {
    "camvid": open_camvid,
    "cityscapes": open_cityscapes,
    "gta5": open_gta5,
    "synthia": open_synthia,
    "recording": open_recording,
    "folder": open_folder,
    "dream": open_dream,
}


def open_dataset(spec: str, split: str | None = None) -> Dataset:
    """Open the data set that `spec` names, as KIND:PATH, for instance "camvid:data/camvid" or "recording:runs/frames".

    `split` is "train" or "val" (None: the data set's default). Raises `BadInput` naming missing folders and unpaired files.
    """
    dataset = list_dataset(spec, split)
    raise_problems(dataset.source, dataset.problems, len(dataset) + len(dataset.problems))
    return dataset


def list_dataset(spec: str, split: str | None = None) -> Dataset:
    """Open a data set as `open_dataset` does, but leave it to the caller what its `problems` (unpaired files) mean."""
    kind, colon, path = spec.partition(":")
    if not colon or not path or kind not in DATASETS:
        raise BadInput(
            f"data {spec!r} is not KIND:PATH with KIND one of {', '.join(DATASETS)}, for instance camvid:data/camvid"
        )
    return DATASETS[kind](Path(path).expanduser(), split)
