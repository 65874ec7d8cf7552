"""What the camera saw around each infraction, and on quiet stretches: frames with the true tags, beside the episodes."""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.files import atomic_path, read_ids, read_rgb

BEFORE_STEPS = (20, 10, 5, 0)  # of 0.1 s, kept of the time before an infraction
AFTER_STEPS = 5  # of 0.1 s, one frame after it
MOST = 20  # infractions of one episode that are kept; a car that scrapes along a wall needs no more
QUIET_EVERY = 50  # steps between kept frames without an infraction
QUIET_STEPS = 20  # of 0.1 s, before and after such a frame in which nothing may happen
FACTS_FILE = "sights.jsonl"
JPEG_QUALITY = 88

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sight:
    """One saved frame."""

    infraction: int | None  # index in the episode's list; None on a quiet stretch
    offset_s: float  # [s] before (negative) or after the infraction
    frame: Path  # JPEG, RGB
    tags: Path | None  # PNG of raw CARLA tags: the truth; None when the drive had no semantic camera
    command: int  # RoadOption in force
    speed_mps: float

    def read(self) -> tuple[Frame, Frame | None]:
        """Return the frame `uint8 [H, W, 3]` and its tags `uint8 [H, W]`."""
        return read_rgb(self.frame), None if self.tags is None else read_ids(self.tags)


def sights_folder(episodes: Path, episode_id: str) -> Path:
    """Return where the frames of one episode of the file `episodes` lie."""
    return episodes.with_suffix(".frames") / re.sub(r"[^A-Za-z0-9_+.=-]+", "-", episode_id)


def sights(folder: Path) -> Iterator[Sight]:
    """List what was saved in `folder`: infractions in order of their time, then the quiet stretches."""
    path = folder / FACTS_FILE
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        facts = json.loads(line)
        frame = folder / f"{facts['name']}.jpg"
        tags = frame.with_suffix(".png")
        found.append(
            Sight(
                facts["infraction"],
                facts["offset_s"],
                frame,
                tags if tags.exists() else None,
                facts["command"],
                facts["speed_mps"],
            )
        )
    yield from sorted(
        found, key=lambda sight: (sight.infraction is None, sight.infraction or 0, sight.offset_s, sight.frame.name)
    )


class Look(NamedTuple):
    """What a witness takes in at one step."""

    frame: Frame
    tags: Frame | None
    command: int
    speed_mps: float


class Witness:
    """Remembers the last two seconds of a drive and saves the frames around each infraction, and some of quiet stretches."""

    def __init__(self, folder: Path) -> None:
        """Watch a new drive; what an earlier, spoilt drive of the same episode left in `folder` goes away."""
        if folder.exists():
            shutil.rmtree(folder)
        self._folder = folder
        self._recent: deque[Look] = deque(maxlen=max(BEFORE_STEPS) + 1)
        self._pending: list[tuple[int, int]] = []  # infraction, step at which its last frame is due
        self._count = 0
        self._last_event, self._last_quiet = 0, 0  # steps

    def see(self, step: int, look: Look, infractions: int, *, ongoing: bool = False) -> None:
        """Take in the frame after `step`, at which the episode has had `infractions` of them.

        `ongoing` says that the last one is not over (the car is still outside, or still touches something): no quiet stretch.
        """
        self._recent.append(look)
        for index in range(self._count, min(infractions, MOST)):
            for offset in BEFORE_STEPS:
                if offset < len(self._recent):
                    self._save(f"{index:03d}_{-offset:+03d}", index, -offset / 10, self._recent[-1 - offset])
            self._pending.append((index, step + AFTER_STEPS))
        if infractions > self._count or ongoing:
            self._last_event = step
        self._count = max(self._count, infractions)
        for index, due in self._pending:
            if due == step:
                self._save(f"{index:03d}_{AFTER_STEPS:+03d}", index, AFTER_STEPS / 10, look)
        self._pending = [(index, due) for index, due in self._pending if due > step]
        if step - max(self._last_event, self._last_quiet) >= 2 * QUIET_STEPS and step - self._last_quiet >= QUIET_EVERY:
            self._last_quiet = step
            self._save(f"quiet_{step - QUIET_STEPS:05d}", None, 0.0, self._recent[-1 - QUIET_STEPS])

    def _save(self, name: str, infraction: int | None, offset_s: float, look: Look) -> None:
        path = self._folder / f"{name}.jpg"
        if look.tags is not None:
            with atomic_path(path.with_suffix(".png")) as temporary:
                Image.fromarray(look.tags).save(temporary)
        with atomic_path(path) as temporary:
            Image.fromarray(look.frame).save(temporary, quality=JPEG_QUALITY)
        facts = {
            "name": name,
            "infraction": infraction,
            "offset_s": offset_s,
            "command": look.command,
            "speed_mps": look.speed_mps,
        }
        with (self._folder / FACTS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
