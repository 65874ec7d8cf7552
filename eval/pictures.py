"""Pictures of a study as data URIs: frames, truth and predictions, so that the report needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.eval.folder import StudyFolder
from roadworthy.runtime.files import read_ids
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data import open_dataset

JPEG_QUALITY = 85


@dataclass(frozen=True)
class Example:
    """One test image through every segmenter; the pictures are data URIs."""

    name: str
    rgb: str
    truth: str
    predictions: Mapping[str, str]  # by segmenter name; "" when there is none
    right: Mapping[str, float]  # fraction of valid pixels labelled right, by segmenter name


def load_examples(folder: StudyFolder, results: Mapping[str, Any]) -> list[Example]:
    """Read the example images of a study and what each segmenter made of them."""
    dataset = open_dataset(f"recording:{folder.recording('test')}")
    palette = results["palette"]
    names = [segmenter["name"] for segmenter in results["segmenters"]]
    found = []
    for example in results["examples"]:
        sample = dataset[example["index"]]
        predictions, right = {}, {}
        for name in names:
            path = folder.frames(name) / f"{example['index']:05d}.png"
            labels = read_ids(path) if path.exists() else None
            predictions[name] = label_uri(labels, palette) if labels is not None else ""
            valid = sample.labels != IGNORE
            right[name] = float((labels == sample.labels)[valid].mean()) if labels is not None and valid.any() else 0.0
        found.append(Example(sample.name, photo_uri(sample.image), label_uri(sample.labels, palette), predictions, right))
    return found


def photo_uri(image: npt.NDArray[np.uint8]) -> str:
    """Encode `uint8 [H, W, 3]` as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _uri("jpeg", buffer.getvalue())


def label_uri(labels: npt.NDArray[np.uint8], palette: Sequence[Sequence[int]]) -> str:
    """Encode train ids `uint8 [H, W]` as a PNG data URI in the classes' colours; void is black."""
    colours = [value for colour in palette for value in colour]
    image = Image.fromarray(labels).convert("P")
    image.putpalette(colours + [0] * (768 - len(colours)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def file_uri(path: Path) -> str:
    """Encode a PNG file as it is."""
    return _uri("png", path.read_bytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
