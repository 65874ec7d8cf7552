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
from roadworthy.runtime.files import atomic_path, read_ids, read_rgb
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data.dataset import Sample

JPEG_QUALITY = 85


@dataclass(frozen=True)
class Example:
    """One test image through every segmenter; the pictures are data URIs."""

    name: str
    rgb: str
    truth: str
    predictions: Mapping[str, str]  # by segmenter name; "" when there is none
    right: Mapping[str, float]  # fraction of valid pixels labelled right, by segmenter name


def save_example(folder: Path, index: int, sample: Sample) -> None:
    """Write a test image and its train ids to a study's folder of examples."""
    for kind, picture in (("camera", sample.image), ("truth", sample.labels)):
        with atomic_path(folder / f"{index:05d}.{kind}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")


def load_examples(folder: StudyFolder, results: Mapping[str, Any]) -> list[Example]:
    """Read the example images of a study and what each segmenter (the first seed of each row) made of them."""
    palette = results["palette"]
    shown = {segmenter["name"]: segmenter["seeds"][0]["file"] for segmenter in results["segmenters"]}
    found = []
    for example in results["examples"]:
        stem = f"{example['index']:05d}"
        camera, truth = read_rgb(folder.examples / f"{stem}.camera.png"), read_ids(folder.examples / f"{stem}.truth.png")
        predictions, right = {}, {}
        for name, file in shown.items():
            path = folder.frames(file) / f"{stem}.png"
            labels = read_ids(path) if path.exists() else None
            predictions[name] = label_uri(labels, palette) if labels is not None else ""
            valid = truth != IGNORE
            right[name] = float((labels == truth)[valid].mean()) if labels is not None and valid.any() else 0.0
        found.append(Example(example["name"], photo_uri(camera), label_uri(truth, palette), predictions, right))
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
