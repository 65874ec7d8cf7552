"""The contract that every backend fulfils."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput


class Backend(Protocol):
    """A compiled graph. `run` may be called from one thread at a time."""

    name: str
    device: str  # where it computes, in words: "cpu, 2 threads", "cuda:0"
    input_dtype: str  # numpy name
    input_shape: tuple[int | None, ...]  # None: any
    outputs: tuple[str, ...]  # in the order that `run` returns them

    def run(self, frames: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[Any]]:
        """Compute all outputs for C-contiguous frames of the right shape; the arrays belong to the caller."""
        ...


def parse_device(device: str) -> tuple[str, int]:
    """Split `auto`, `cpu`, `cuda` or `cuda:N` into kind and index; raises `BadInput` for anything else."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdecimal())):
        raise BadInput(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N")
    return kind, int(index or 0)


def cpu_with(threads: int) -> str:
    """Describe a CPU device in words."""
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


def first_line(error: Exception) -> str:
    """Return the part of a many-line error that a person reads."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
