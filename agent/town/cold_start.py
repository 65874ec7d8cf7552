"""The first start after an installation or an update, when no kernel is compiled yet: a second process takes half of them.

numba compiles one function at a time, however many threads there are. So a helper compiles shading and motion into the
shared cache (`compiling.py`) while the town loads its map and compiles the rest. Whatever the helper does not manage, the
town compiles itself: it is needed for nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Any

import numba
import numpy as np

from roadworthy.agent.town import shading, visible
from roadworthy.agent.town.attachments import mount, to_local
from roadworthy.agent.town.bodies import INERTIA, MASS, Bodies
from roadworthy.agent.town.boxes import StaticBoxes, overlap
from roadworthy.agent.town.collisions import advance
from roadworthy.agent.town.compiling import FOLDER
from roadworthy.agent.town.orphan import end_with
from roadworthy.agent.town.physics import DRY

_COMPLETE = "complete"  # a file in the cache: a town has started with it
HELPER_LIMIT_S = 60.0


def compile_motion() -> None:
    """Compile or load what moves bodies, by moving two of them in an empty world."""
    bodies = Bodies(2)
    active = np.array([bodies.take(), bodies.take()], np.int64)
    bodies.model[active, MASS] = bodies.model[active, INERTIA] = 1.0
    advance(bodies, active, 0.1, DRY, StaticBoxes.build(np.zeros((0, 6))))


def compile_geometry() -> None:
    """Compile or load what poses and boxes need; motion needs it too."""
    overlap(0.0, 0.0, 0.0, 1.0, 1.0, 9.0, 0.0, 0.0, 1.0, 1.0)
    pose = np.zeros(6)
    mount(pose, pose, np.zeros(6))
    to_local(pose, 0.0, 0.0, 0.0)


def compile_shading() -> None:
    """Compile or load `shading.shade` for the types that the renderer hands to it."""
    f1, f2 = np.zeros(1, np.float32), np.zeros((1, 1), np.float32)
    i1, i2 = np.zeros(1, np.int32), np.zeros((1, 1), np.int32)
    real = np.float32(0.0)
    records, facts = np.zeros((1, visible.RECORD), np.float32), np.zeros((1, visible.FACTS), np.int32)
    shadow, texels = np.zeros((1, 1), np.int16), np.zeros(1, np.uint64)
    bgra, tags = np.zeros((1, 1), np.uint32), np.zeros((1, 1), np.uint8)
    arguments = (
        *shading.strip_arrays(), i2, f2, 0, records, facts, i1, 0, f1, f2, real, real, f1, texels, shadow, real, real, real,
        real, real, f2, real, f2, f2, f1, 0, bgra, tags, i2, f2,
    )  # fmt: skip
    types: Any = numba.typeof  # numba has no annotations
    shading.shade.compile(tuple(types(argument) for argument in arguments))


def note_complete() -> None:
    """Let later starts know that everything they need is compiled."""
    if FOLDER is not None:
        try:
            (FOLDER / _COMPLETE).touch()
        except OSError:  # a full disk: the next start asks for help again
            return


class Helper:
    """The second process, if this start needs one. A context: leaving it ends the helper."""

    def __init__(self) -> None:
        """Start it unless a town has started with this cache before, or there is no processor for it."""
        self._process: subprocess.Popen[bytes] | None = None
        if FOLDER is None or (FOLDER / _COMPLETE).exists() or (os.cpu_count() or 1) < 2:
            return
        command = [sys.executable, "-m", __name__, str(os.getpid())]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)

    def wait(self) -> None:
        """Let it finish what it compiles."""
        if self._process:
            try:
                self._process.wait(HELPER_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def __enter__(self) -> Helper:
        """Return the helper."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    compile_shading()
    compile_motion()
