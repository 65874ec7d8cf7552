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
CAMERA_SUFFIX, TRUTH_SUFFIX = ".camera.png", ".truth.png"  # of the two files of an example, behind its index


@dataclass(frozen=True)
class Example:
    """One test image through every segmenter; the pictures are data URIs."""

    name: str
    rgb: str
    truth: str
    predictions: Mapping[str, str]  # by segmenter name; "" when there is none
    right: Mapping[str, float]  # fraction of valid pixels labelled right, by segmenter name
    bets: Mapping[str, str]  # where its gambler bets, of those segmenters that have one


def save_example(folder: Path, index: int, sample: Sample) -> None:
    """Write a test image and its train ids to a study's folder of examples."""
    save_map(folder / f"{index:05d}{CAMERA_SUFFIX}", sample.image)
    save_map(folder / f"{index:05d}{TRUTH_SUFFIX}", sample.labels)


def save_map(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write `uint8 [H, W]` or `[H, W, 3]` as PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def load_examples(folder: StudyFolder, results: Mapping[str, Any]) -> list[Example]:
    """Read the example images of a study and what each segmenter (the first seed of each row) made of them."""
    palette = results["palette"]
    shown = {segmenter["name"]: segmenter["seeds"][0]["file"] for segmenter in results["segmenters"]}
    gamblers = {segmenter["name"]: segmenter["seeds"][0]["name"] for segmenter in results["segmenters"]}
    found = []
    for example in results["examples"]:
        stem = f"{example['index']:05d}"
        camera = read_rgb(folder.examples / f"{stem}{CAMERA_SUFFIX}")
        truth = read_ids(folder.examples / f"{stem}{TRUTH_SUFFIX}")
        predictions, right = {}, {}
        for name, file in shown.items():
            path = folder.frames(file) / f"{stem}.png"
            labels = read_ids(path) if path.exists() else None
            predictions[name] = label_uri(labels, palette) if labels is not None else ""
            valid = truth != IGNORE
            right[name] = float((labels == truth)[valid].mean()) if labels is not None and valid.any() else 0.0
        maps = {name: folder.bets(first) / f"{stem}.png" for name, first in gamblers.items()}
        bets = {name: file_uri(path) for name, path in maps.items() if path.exists()}
        found.append(Example(example["name"], photo_uri(camera), label_uri(truth, palette), predictions, right, bets))
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
