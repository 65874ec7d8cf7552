"""Labelled data sets, by name. A new one is one file and one line of `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.camvid import open_camvid
from roadworthy.train.data.dataset import Dataset, Sample
from roadworthy.train.data.recording import open_recording

__all__ = ["DATASETS", "Dataset", "Sample", "open_dataset"]

DATASETS: Mapping[str, Callable[[Path, str | None], Dataset]] = {"camvid": open_camvid, "recording": open_recording}


def open_dataset(spec: str, split: str | None = None) -> Dataset:
    """Open the data set that `spec` names, as KIND:PATH, for instance "camvid:data/camvid" or "recording:runs/frames".

    `split` is "train" or "val" (None: the data set's default). Raises `BadInput` naming missing folders and unpaired files.
    """
    kind, colon, path = spec.partition(":")
    if not colon or not path or kind not in DATASETS:
        raise BadInput(
            f"data {spec!r} is not KIND:PATH with KIND one of {', '.join(DATASETS)}, for instance camvid:data/camvid"
        )
    return DATASETS[kind](Path(path).expanduser(), split)
