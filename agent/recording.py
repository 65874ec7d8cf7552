"""The folder of a recorded driving data set, and how it stays whole when the recorder is interrupted.

- `recording.json`: what was asked for, so that an interrupted recording goes on with the same;
- `rgb/NAME.png` (or `.jpg`) and `semantic/NAME.png`: the two cameras of one tick. The latter holds CARLA's raw tags, 8 bit,
  one channel;
- `meta.jsonl`: one JSON object per frame with `name`, `rgb` and `semantic` (file names in the folder), `episode`, `town`,
  `weather`, `weather_parameters`, `seed` (of the episode), `frame` (of the simulator), `time_s` (of the episode), `pose`
  (x, y, z in metres; pitch, yaw, roll in degrees; the car in CARLA's axes), `speed_mps`, `command` (CARLA's RoadOption number).

A frame counts only once its line is in `meta.jsonl`. Lines are added for whole episodes, after the episode's images.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import atomic_path, write_text

META = "meta.jsonl"
JPEG_QUALITY = 95
PNG_COMPRESSION = 1  # zlib level: five times faster than the default for a tenth more bytes


class Recording:
    """A recording that is being written."""

    def __init__(self, folder: Path) -> None:
        """Use an opened recording's `folder`; see `open`."""
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, asked_for: Mapping[str, Any]) -> Recording:
        """Start a recording in `folder`, or go on with an interrupted one that was asked for in the same words.

        Raises `BadInput` for a folder that holds something else or another recording.
        """
        recording = cls(folder)
        wanted = json.loads(json.dumps(asked_for))
        settings = folder / "recording.json"
        if settings.is_file():
            try:
                found = json.loads(settings.read_text(encoding="utf-8"))
            except ValueError as error:
                raise BadInput(f"{settings}: not JSON ({error}); delete the folder and record again") from error
            different = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            if different:
                raise BadInput(
                    f"{folder} holds another recording (different: {', '.join(different)}): "
                    "choose another folder, delete this one, or ask for the same again to go on with it"
                )
            recording._repair()
            return recording
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(f"{folder} exists and is not a recording: choose an empty or new folder")
        try:
            for part in ("rgb", "semantic"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            write_text(settings, json.dumps(wanted, indent=2) + "\n")
        except OSError as error:
            raise BadInput(f"{folder} cannot be written ({error.strerror}): choose a folder that you may write to") from error
        return recording

    def frames_by_episode(self) -> Counter[int]:
        """Return how many frames each finished episode has."""
        return Counter(int(line["episode"]) for line in self._lines())

    def save_images(
        self, name: str, rgb: npt.NDArray[np.uint8], tags: npt.NDArray[np.uint8], suffix: str = "png"
    ) -> dict[str, str]:
        """Write one frame's images, `uint8 [H, W, 3]` and raw tags `uint8 [H, W]`; return their names for its line."""
        files = {"rgb": f"rgb/{name}.{suffix}", "semantic": f"semantic/{name}.png"}
        with atomic_path(self.folder / files["rgb"]) as path:
            if suffix == "jpg":
                Image.fromarray(rgb).save(path, quality=JPEG_QUALITY)
            else:
                Image.fromarray(rgb).save(path, compress_level=PNG_COMPRESSION)
        with atomic_path(self.folder / files["semantic"]) as path:
            Image.fromarray(tags).save(path, compress_level=PNG_COMPRESSION)
        return files

    def add_episode(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append the lines of one whole episode, whose images are written."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with (self.folder / META).open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # several workers may record into one folder
                file.write(text.encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise RoadworthyError(
                f"{self.folder}: cannot be written ({error.strerror}); free space and run again to go on"
            ) from error

    def sort(self) -> None:
        """Put the lines in the order of their names, whichever worker was first. Nobody may be adding any more."""
        lines = sorted(self._lines(), key=lambda line: str(line["name"]))
        write_text(self.folder / META, "".join(json.dumps(line) + "\n" for line in lines))

    def discard_empty(self) -> None:
        """Remove the folder again if no episode was recorded."""
        if not (self.folder / META).exists():
            shutil.rmtree(self.folder)

    def _lines(self) -> list[dict[str, Any]]:
        path = self.folder / META
        if not path.is_file():
            return []
        lines = []
        for number, text in enumerate(
            path.read_text(encoding="utf-8").split("\n")[:-1], start=1
        ):  # a torn last line is no line
            try:
                lines.append(json.loads(text))
            except ValueError as error:
                raise BadInput(f"{path}, line {number}: not JSON ({error}); remove the line or record again") from error
        return lines

    def _repair(self) -> None:
        """Drop what an interruption left behind: a torn line, episodes cut short, and images without a line."""
        lines = self._lines()
        kept = {line[kind] for line in lines for kind in ("rgb", "semantic")}
        if lines:
            self.sort()
        for part in ("rgb", "semantic"):
            for path in (self.folder / part).iterdir():
                if f"{part}/{path.name}" not in kept:
                    path.unlink()
