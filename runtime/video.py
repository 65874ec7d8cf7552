"""Video files and cameras as frame sources, and video files as output, through the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.stream import Captured

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"})
DEFAULT_FPS = 20.0  # [1/s] of a written video whose source tells none
# How ffmpeg names cameras, by operating system.
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


def _ffmpeg() -> ModuleType:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtra("imageio-ffmpeg", "video", "reading or writing video") from error
    module: ModuleType = imageio_ffmpeg
    return module


def read_video(path: str | Path, format: str | None = None) -> tuple[float, Iterator[Captured]]:
    """Open a video: its frames per second, and an iterator over its frames, named by their number.

    `format` is ffmpeg's name of an input device (`v4l2` for a Linux camera, then `path` is `/dev/video0`); None for a file.
    Raises `BadInput` for a file that is missing or not a video.
    """
    if format is None and not Path(path).is_file():
        raise BadInput(f"{path}: no such video file")
    reader = _ffmpeg().read_frames(str(path), input_params=[] if format is None else ["-f", format])
    try:
        facts: dict[str, Any] = next(reader)
    except (OSError, RuntimeError, StopIteration) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "it holds no frames"
        raise BadInput(f"{path}: ffmpeg cannot read this as a video ({reason}); convert it, or copy it again") from error
    width, height = facts["size"]

    def frames() -> Iterator[Captured]:
        try:
            for number, content in enumerate(reader):
                # [H, W, 3]: ffmpeg hands out a new buffer for every frame
                yield Captured(np.frombuffer(content, np.uint8).reshape(height, width, 3), f"{number:06d}")
        finally:
            reader.close()

    return float(facts.get("fps") or DEFAULT_FPS), frames()


def read_camera(device: str) -> tuple[float, Iterator[Captured]]:
    """Open a camera by number (`0`) or name (`/dev/video0`) and read it until the caller stops."""
    format = CAMERA_FORMATS.get(sys.platform)
    if format is None:
        raise BadInput(f"cameras are not supported on {sys.platform}; give Stream an iterator over its frames instead")
    name = f"/dev/video{device}" if format == "v4l2" and device.isdecimal() else device
    if format == "v4l2" and not Path(name).exists():
        raise BadInput(f"{name}: no such camera; 'v4l2-ctl --list-devices' lists them")
    return read_video(name, format)


class VideoWriter:
    """Writes `uint8 [H, W, 3]` frames of one size to an H.264 file; the file appears under its name when it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        """Prepare to write `path`, which must end in a suffix of `VIDEO_SUFFIXES`; nothing is written before a frame."""
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise BadInput(f"{path}: expected a video name ending in one of {', '.join(sorted(VIDEO_SUFFIXES))}")
        self._module = _ffmpeg()
        self._path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._fps = fps
        self._shape: tuple[int, ...] | None = None
        self._writer: Any = None

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append a frame; raises `BadInput` when its size differs from the first one's."""
        if self._shape is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._shape = frame.shape
            size = (frame.shape[1], frame.shape[0])
            # Sizes that are not multiples of 2 are padded by a pixel: H.264's colour planes have half the size.
            pad = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
            self._writer = self._module.write_frames(
                str(self._part), size, fps=self._fps, macro_block_size=1, output_params=pad, ffmpeg_log_level="error"
            )
            self._writer.send(None)
        if frame.shape != self._shape:
            raise BadInput(f"a frame of {list(frame.shape)} does not fit a video of {list(self._shape)}; write them apart")
        try:
            self._writer.send(np.ascontiguousarray(frame))
        except OSError as error:
            raise RoadworthyError(f"{self._path}: ffmpeg stopped writing ({error}); is the disk full?") from error

    def close(self, *, keep: bool = True) -> None:
        """Finish the file, or with `keep` false remove what there is."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        if keep:
            self._part.replace(self._path)
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the file; after an error or Ctrl-C too, because half a video is still a video."""
        self.close()
