"""Reading images safely and writing files atomically: a reader never sees half a file."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from roadworthy.runtime.errors import BadInput

MAX_IMAGE_PIXELS = 64_000_000  # [pixels]; larger images are refused as decompression bombs


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it onto `path` only if the block succeeds.

    Raises `BadInput` for a path that cannot be written to, see `check_output`.
    """
    check_output(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error}); choose another place") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path, *, folder: bool = False) -> None:
    """Raise `BadInput` for a `path` that no file (or `folder`) can be written to; asked before work whose result goes there."""
    if path.exists():
        if path.is_dir() != folder:
            found, wanted = ("a folder", "a file to write") if path.is_dir() else ("a file", "a folder")
            raise BadInput(f"{path}: is {found}, expected {wanted}; choose another name")
        return
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise BadInput(f"{path}: {nearest} is a file, expected a folder; choose another place")
    if not os.access(nearest, os.W_OK):
        raise BadInput(f"{path}: no permission to write in {nearest}; choose another place")


def cache_folder() -> Path:
    """Return where things are kept that can be worked out again: `$XDG_CACHE_HOME/roadworthy`, by default in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roadworthy"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _open_image(path: Path) -> Image.Image:
    if not path.is_file():
        raise BadInput(f"{path}: no such image file")
    return _decode(path, str(path), None)


def _decode(source: Path | io.BytesIO, name: str, formats: tuple[str, ...] | None) -> Image.Image:
    """Decode an image of one of `formats` (None: any), or raise `BadInput` that calls it `name`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=formats)
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise BadInput(
                    f"{name}: {image.width}x{image.height} pixels, expected at most {MAX_IMAGE_PIXELS}; scale it down first"
                )
            image.load()
            return image
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise BadInput(f"{name}: not a readable image ({error}); it may be truncated: copy or record it again") from error


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as `uint8 [H, W, 3]` RGB. Raises `BadInput` for a missing, corrupt or oversized file."""
    return np.asarray(_open_image(path).convert("RGB"), dtype=np.uint8)


def decode_rgb(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode a stranger's JPEG or PNG as `uint8 [H, W, 3]` RGB. Raises `BadInput` that calls it `name`, as `read_rgb`."""
    return np.asarray(_decode(io.BytesIO(content), name, ("JPEG", "PNG")).convert("RGB"), dtype=np.uint8)


def read_ids(path: Path) -> npt.NDArray[np.uint8]:
    """Read a single-channel label image as raw ids, `uint8 [H, W]`. Raises `BadInput` for anything else."""
    image = _open_image(path)
    ids = np.asarray(image)  # palette images give their indices, which are the ids
    if ids.ndim != 2:
        raise BadInput(f"{path}: label image has mode {image.mode}, expected one channel of class ids (mode L or P)")
    if ids.size and int(ids.max()) > 255:
        raise BadInput(f"{path}: label id {int(ids.max())} is above 255, expected 8-bit class ids")
    return ids.astype(np.uint8)
