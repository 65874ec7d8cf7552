"""Segmenting image files and streams: read, run, and write colour overlays (and raw ids) to a folder, or a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, read_rgb
from roadworthy.runtime.overlay import overlay
from roadworthy.runtime.segmenter import Segmenter
from roadworthy.runtime.stream import Captured, Policy, Stream, StreamStats
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.runtime.video import DEFAULT_FPS, VideoWriter

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class FilePrediction:
    """What became of one image file."""

    source: Path
    overlay: Path
    ids: Path | None  # PNG of train ids at the image's size, if asked for
    mean_confidence: float | None  # None for a model without the confidence output
    unusual: str | None  # why the mean confidence is not like that of known frames; None: it is, or nobody measured them
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
    picture_outputs(segmenter)
    images = expand_images(files)
    targets = _targets(images, output, raw_ids)
    return _predict(segmenter, targets, raw_ids, alpha)


class ImageFiles:
    """Image files as a frame source; those that cannot be read are skipped and listed in `unreadable`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Prepare to read `paths` in this order; each frame is named by its path."""
        self.paths = paths
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[Captured]:
        """Read one file after the other."""
        for path in self.paths:
            try:
                frame = read_rgb(path)
            except BadInput as error:
                self.unreadable.append(str(error))
                continue
            yield Captured(frame, str(path))

    def check(self) -> None:
        """Raise one `BadInput` that names every file that could not be read."""
        if self.unreadable:
            done = len(self.paths) - len(self.unreadable)
            raise BadInput(
                f"{len(self.unreadable)} of {len(self.paths)} images could not be read ({done} were segmented):\n"
                + "\n".join(self.unreadable)
            )


def _predict(
    segmenter: Segmenter, targets: Sequence[tuple[Path, Path, Path]], raw_ids: bool, alpha: float
) -> Iterator[FilePrediction]:
    """Do the work of `predict_files`, whose checks have passed: reading, network and writing at once."""
    taxonomy = segmenter.metadata.lookup_taxonomy()
    written = {str(source): (overlay_path, ids_path) for source, overlay_path, ids_path in targets}
    files = ImageFiles([source for source, _, _ in targets])
    for segmented in Stream(segmenter, files, policy="lossless", outputs=picture_outputs(segmenter)):
        overlay_path, ids_path = written[segmented.name]
        labels = segmented.labels()
        _write_png(overlay_path, overlay(segmented.pixels, labels, taxonomy, alpha))
        if raw_ids:
            _write_png(ids_path, labels)
        yield FilePrediction(
            source=Path(segmented.name),
            overlay=overlay_path,
            ids=ids_path if raw_ids else None,
            mean_confidence=segmented.mean_confidence,
            unusual=segmented.unusual,
            shares=class_shares(labels, taxonomy),
        )
    files.check()


def class_shares(labels: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> dict[str, float]:
    """Return the fraction of the pixels per class that occurs, largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(taxonomy))
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    return {taxonomy.classes[index]: float(counts[index] / labels.size) for index in order}


def picture_outputs(segmenter: Segmenter) -> tuple[str, ...]:
    """Return the outputs that a picture needs: labels, and confidence where the model has it."""
    if "labels" not in segmenter.outputs:
        raise BadInput(
            f"{segmenter.path}: has the outputs {', '.join(segmenter.outputs)}, expected labels; export it with them"
        )
    return tuple(name for name in ("labels", "confidence") if name in segmenter.outputs)


def expand_images(files: Sequence[Path]) -> list[Path]:
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


def predict_stream(
    segmenter: Segmenter,
    source: Iterable[Captured],
    output: Path,
    *,
    video: Path | None = None,
    fps: float | None = None,
    raw_ids: bool = False,
    alpha: float = 0.5,
    policy: Policy = "lossless",
    deadline_ms: float | None = None,
    limit: int | None = None,
) -> StreamStats:
    """Segment the frames of `source` until it ends, `limit` results are there, or Ctrl-C; returns what happened.

    Writes `<name>.overlay.png` (and `<name>.ids.png`) into `output`, or with `video` one video file of `fps` frames per second.
    Frames are named by their file, or by their number. `policy` and `deadline_ms` as `Stream` takes them.
    """
    taxonomy = segmenter.metadata.lookup_taxonomy()
    stream = Stream(segmenter, source, policy=policy, deadline_ms=deadline_ms, outputs=picture_outputs(segmenter))
    with ExitStack() as stack:
        writer = None if video is None else stack.enter_context(VideoWriter(video, fps or DEFAULT_FPS))
        results = stack.enter_context(closing(iter(stream)))
        try:
            for segmented in islice(results, limit):
                labels = segmented.labels()
                name = Path(segmented.name).stem or f"{segmented.number:06d}"
                picture = overlay(segmented.pixels, labels, taxonomy, alpha)
                if writer is not None:
                    writer.write(picture)
                else:
                    _write_png(output / f"{name}.overlay.png", picture)
                if raw_ids:
                    _write_png(output / f"{name}.ids.png", labels)
        except KeyboardInterrupt:
            pass  # the way to end a camera: what was written stays, and the figures are told
    if isinstance(source, ImageFiles):
        source.check()
    return stream.stats
