"""What the camera saw around each infraction: frames before, at and after it, with the true tags, beside the episodes."""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.files import atomic_path, read_ids, read_rgb

BEFORE_STEPS = (20, 10, 5, 0)  # of 0.1 s, kept of the time before an infraction
AFTER_STEPS = 5  # of 0.1 s, one frame after it
MOST = 20  # infractions of one episode that are kept; a car that scrapes along a wall needs no more
JPEG_QUALITY = 88

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sight:
    """One saved frame."""

    infraction: int  # index in the episode's list
    offset_s: float  # [s] before (negative) or after the infraction
    frame: Path  # JPEG, RGB
    tags: Path | None  # PNG of raw CARLA tags: the truth; None when the drive had no semantic camera

    def read(self) -> tuple[Frame, Frame | None]:
        """Return the frame `uint8 [H, W, 3]` and its tags `uint8 [H, W]`."""
        return read_rgb(self.frame), None if self.tags is None else read_ids(self.tags)


def sights_folder(episodes: Path, episode_id: str) -> Path:
    """Return where the frames of one episode of the file `episodes` lie."""
    return episodes.with_suffix(".frames") / re.sub(r"[^A-Za-z0-9_+.=-]+", "-", episode_id)


def sights(folder: Path) -> Iterator[Sight]:
    """List what was saved in `folder`, in order of infraction and time."""
    found = []
    for path in folder.glob("*.jpg"):
        if match := re.fullmatch(r"(\d+)_([+-]\d+)", path.stem):
            tags = path.with_suffix(".png")
            found.append(Sight(int(match[1]), int(match[2]) / 10, path, tags if tags.exists() else None))
    yield from sorted(found, key=lambda sight: (sight.infraction, sight.offset_s))


class Witness:
    """Remembers the last two seconds of a drive and saves the frames around each infraction."""

    def __init__(self, folder: Path) -> None:
        """Watch a new drive; what an earlier, spoilt drive of the same episode left in `folder` goes away."""
        if folder.exists():
            shutil.rmtree(folder)
        self._folder = folder
        self._recent: deque[tuple[int, Frame, Frame | None]] = deque(maxlen=max(BEFORE_STEPS) + 1)
        self._pending: list[tuple[int, int]] = []  # infraction, step at which its last frame is due
        self._count = 0

    def see(self, step: int, frame: Frame, tags: Frame | None, infractions: int) -> None:
        """Take in the frame after `step`, at which the episode has had `infractions` of them."""
        self._recent.append((step, frame, tags))
        for index in range(self._count, min(infractions, MOST)):
            for offset in BEFORE_STEPS:
                if offset < len(self._recent):
                    self._save(index, -offset, *self._recent[-1 - offset][1:])
            self._pending.append((index, step + AFTER_STEPS))
        self._count = max(self._count, infractions)
        for index, due in self._pending:
            if due == step:
                self._save(index, AFTER_STEPS, frame, tags)
        self._pending = [(index, due) for index, due in self._pending if due > step]

    def _save(self, infraction: int, offset: int, frame: Frame, tags: Frame | None) -> None:
        path = self._folder / f"{infraction:03d}_{offset:+03d}.jpg"
        if tags is not None:
            with atomic_path(path.with_suffix(".png")) as temporary:
                Image.fromarray(tags).save(temporary)
        with atomic_path(path) as temporary:
            Image.fromarray(frame).save(temporary, quality=JPEG_QUALITY)
