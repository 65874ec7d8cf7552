"""The replay buffer of an off-policy learner: how much memory it takes, and one that outlives a killed process.

SB3 saves a replay buffer by pickling it. Here its arrays are memory-mapped files instead: what was driven is on the disk the
moment it is stored, costs nothing to checkpoint, and a resumed learning opens the same files again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer

from roadworthy.agent.observation import observation_spaces
from roadworthy.runtime.errors import BadInput

MEMORY_SHARE = 0.7  # of what is free that a buffer may take: towns, networks and batches need the rest
OTHER_BYTES = 24  # of a stored step: action, reward, whether it ended, and whether by time


def step_bytes(space: spaces.Space[Any]) -> int:
    """Return the bytes that one stored step takes: the observation, the one after it, and what lies between."""
    parts = observation_spaces(space).values()
    return 2 * sum(int(np.prod(part.shape)) * np.dtype(part.dtype).itemsize for part in parts) + OTHER_BYTES


def describe_memory(space: spaces.Space[Any], steps: int) -> str:
    """Say in words what a buffer of `steps` takes."""
    each = step_bytes(space)
    return f"a replay buffer of {steps} steps x {each / 1e3:.0f} kB = {steps * each / 1e9:.2f} GB"


def check_memory(space: spaces.Space[Any], steps: int, folder: Path | None) -> None:
    """Raise `BadInput` when a buffer of `steps` does not fit into the free memory, or into the disk that holds `folder`."""
    each = step_bytes(space)
    rooms = {"memory": psutil.virtual_memory().available}
    if folder is not None:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        kept = sum(path.stat().st_blocks * 512 for path in folder.rglob("*.npy"))  # of this buffer itself, before a resumption
        rooms["disk"] = shutil.disk_usage(there).free + kept
    for name, free in rooms.items():
        if steps * each > MEMORY_SHARE * free:
            fitting = int(MEMORY_SHARE * free / each)
            raise BadInput(
                f"{describe_memory(space, steps)} is more than {MEMORY_SHARE:.0%} of the {free / 1e9:.2f} GB of free {name}; "
                f"at most {fitting} steps fit: --replay {fitting}"
            )


class KeptReplayBuffer(DictReplayBuffer):
    """SB3's replay buffer with its arrays in files of `folder`; the place to go on writing is the caller's to keep."""

    def __init__(self, *arguments: Any, folder: Path, **options: Any) -> None:
        """Open the files that are there, or make them. Raises `BadInput` when they are of another learning."""
        super().__init__(*arguments, **options)
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("observations", "next_observations"):
            arrays = getattr(self, part)
            setattr(self, part, {name: _mapped(folder / f"{part}-{name}.npy", array) for name, array in arrays.items()})
        for name in ("actions", "rewards", "dones", "timeouts"):
            setattr(self, name, _mapped(folder / f"{name}.npy", getattr(self, name)))


def _mapped(path: Path, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Open `path` as an array of the shape and type of `like`; zeros when it is new."""
    if not path.exists():
        made: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="w+", dtype=like.dtype, shape=like.shape)
        return made
    try:
        found: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r+")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: damaged ({error}); delete the folder {path.parent} to begin with an empty buffer") from error
    if found.shape != like.shape or found.dtype != like.dtype:
        raise BadInput(
            f"{path}: holds {found.dtype} {found.shape}, expected {like.dtype} {like.shape}; it is of another learning"
        )
    return found
