"""A study's example frames in one picture, for a README: `python -m roadworthy.scripts.show_study studies/quick frames.png`.

Columns: camera, truth, and one per segmenter (its first seed); rows: test images spread evenly, not chosen by result.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.pictures import CAMERA_SUFFIX, TRUTH_SUFFIX
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, read_ids, read_rgb

HEADER_PX = 16  # [pixels] for the names above the columns
GAP_PX = 2  # [pixels] between pictures


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(study: Path, output: Path) -> None:
    """Paint the example frames of the finished STUDY into OUTPUT (PNG)."""
    results_path = study / "results.json"
    if not results_path.is_file():
        raise BadInput(f"{results_path}: no such file; finish the study first: roadworthy compare")
    results = json.loads(results_path.read_text(encoding="utf-8"))
    folder = StudyFolder(study)
    segmenters = [(segmenter["seeds"][0]["file"], segmenter["label"]) for segmenter in results["segmenters"]]
    palette = np.zeros((256, 3), np.uint8)  # ignored pixels are black
    palette[: len(results["palette"])] = results["palette"]
    rows = []
    for example in results["examples"]:
        stem = f"{example['index']:05d}"
        truth = read_ids(folder.examples / f"{stem}{TRUTH_SUFFIX}")
        predictions = [read_ids(folder.frames(name) / f"{stem}.png") for name, _ in segmenters]
        pictures = [
            read_rgb(folder.examples / f"{stem}{CAMERA_SUFFIX}"),
            *(palette[labels] for labels in (truth, *predictions)),
        ]
        padded = [np.pad(picture, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for picture in pictures]
        rows.append(np.hstack(padded))
    sheet = np.pad(np.vstack(rows), ((HEADER_PX, 0), (0, 0), (0, 0)), constant_values=255)
    image = Image.fromarray(sheet)
    width = sheet.shape[1] // (2 + len(segmenters))
    for column, title in enumerate(["camera", "truth", *(label for _, label in segmenters)]):
        ImageDraw.Draw(image).text((column * width + 4, 2), title, fill=(0, 0, 0))
    with atomic_path(output) as temporary:
        image.save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
