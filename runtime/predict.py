"""Segmenting image files: read, run, and write colour overlays (and raw ids) to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, read_rgb
from roadworthy.runtime.overlay import overlay
from roadworthy.runtime.segmenter import Segmenter

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class FilePrediction:
    """What became of one image file."""

    source: Path
    overlay: Path
    ids: Path | None  # PNG of train ids at the image's size, if asked for
    mean_confidence: float | None  # None for a model without the confidence output
    shares: dict[str, float]  # fraction of the image per class that occurs, largest first


def predict_files(
    segmenter: Segmenter, files: Sequence[Path], output: Path, *, raw_ids: bool = False, alpha: float = 0.5
) -> Iterator[FilePrediction]:
    """Segment `files` (images, or folders of images) into `output`; yields one result per image as it is written.

    Writes `<stem>.overlay.png`, and `<stem>.ids.png` with `raw_ids`, each whole or not at all. Frames are resized to the
    model's size (bilinear), labels back to the image's (nearest). Raises `BadInput` before writing anything when a file is
    missing, two files would share an output, or an output would replace an input; files that turn out to be unreadable are
    skipped and named in one `BadInput` at the end.
    """
    if "labels" not in segmenter.outputs:
        raise BadInput(
            f"{segmenter.path}: has the outputs {', '.join(segmenter.outputs)}, expected labels; export it with them"
        )
    images = _expand(files)
    targets = _targets(images, output, raw_ids)
    return _predict(segmenter, targets, raw_ids, alpha)


def _predict(
    segmenter: Segmenter, targets: Sequence[tuple[Path, Path, Path]], raw_ids: bool, alpha: float
) -> Iterator[FilePrediction]:
    """Do the work of `predict_files`, whose checks have passed."""
    taxonomy = segmenter.metadata.lookup_taxonomy()
    unreadable: list[str] = []
    for source, overlay_path, ids_path in targets:
        try:
            frame = read_rgb(source)
        except BadInput as error:
            unreadable.append(str(error))
            continue
        labels, mean_confidence = segment_image(segmenter, frame)
        _write_png(overlay_path, overlay(frame, labels, taxonomy, alpha))
        if raw_ids:
            _write_png(ids_path, labels)
        counts = np.bincount(labels.ravel(), minlength=len(taxonomy))
        order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
        yield FilePrediction(
            source=source,
            overlay=overlay_path,
            ids=ids_path if raw_ids else None,
            mean_confidence=mean_confidence,
            shares={taxonomy.classes[index]: float(counts[index] / labels.size) for index in order},
        )
    if unreadable:
        done = len(targets) - len(unreadable)
        raise BadInput(
            f"{len(unreadable)} of {len(targets)} images could not be read ({done} were segmented):\n" + "\n".join(unreadable)
        )


def segment_image(segmenter: Segmenter, frame: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float | None]:
    """Segment one image `uint8 [H, W, 3]` of any size: labels `uint8 [H, W]` at its own size, and the mean confidence."""
    height, width = frame.shape[:2]
    size = (segmenter.metadata.width, segmenter.metadata.height)
    resized = frame if (width, height) == size else np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    result = segmenter(resized[None])  # [H, W, 3] -> [1, H, W, 3]
    if result.labels is None:
        raise BadInput(f"{segmenter.path}: has no labels output; export it with --outputs labels,confidence,latent")
    labels = result.labels[0]  # [1, H, W] -> [H, W]
    if (width, height) != size:
        labels = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST), dtype=np.uint8)
    return labels, None if result.confidence is None else float(result.confidence.mean())


def _expand(files: Sequence[Path]) -> list[Path]:
    """Replace folders by the images in them, sorted; raises `BadInput` for what is not there."""
    images: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise BadInput(
                    f"{path}: no images in this folder; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
                )
            images += inside
        elif path.is_file():
            images.append(path)
        else:
            raise BadInput(f"{path}: no such image file")
    if not images:
        raise BadInput("no image files given; name at least one image or folder")
    return images


def _targets(images: Sequence[Path], output: Path, raw_ids: bool) -> list[tuple[Path, Path, Path]]:
    """Pair each image with its overlay and ids files; raises `BadInput` when they would collide."""
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output}: is a file, expected a folder to write overlays to")
    sources = {path.resolve() for path in images}
    by_stem: dict[str, Path] = {}
    targets = []
    for image in images:
        other = by_stem.setdefault(image.stem, image)
        if other is not image:
            raise BadInput(f"{other} and {image} would both become {image.stem}.overlay.png; segment them into two folders")
        overlay_path, ids_path = output / f"{image.stem}.overlay.png", output / f"{image.stem}.ids.png"
        for target in (overlay_path, ids_path) if raw_ids else (overlay_path,):
            if target.resolve() in sources:
                raise BadInput(f"{target}: is one of the images to segment and would be replaced; choose another --output")
        targets.append((image, overlay_path, ids_path))
    return targets


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an image `[H, W, 3]` or `[H, W]` atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
