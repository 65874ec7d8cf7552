"""The contract that every backend fulfils, and what opening one needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput


class Backend(Protocol):
    """A compiled graph. One call is `put`, `compute`, `fetch`, in this order and from one thread at a time.

    They are three so that a benchmark can say where the time goes; a backend does in each what costs the whole the least.
    """

    name: str
    device: str  # where it computes, in words: "cpu, 2 threads", "cuda:0"
    input_dtype: str  # numpy name
    input_shape: tuple[int | None, ...]  # None: any
    outputs: tuple[str, ...]

    def put(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> None:
        """Take C-contiguous frames of the right shape, and which outputs will be fetched (indices into `outputs`)."""
        ...

    def compute(self) -> None:
        """Compute the graph and wait until the result is there."""
        ...

    def fetch(self) -> Sequence[npt.NDArray[Any]]:
        """Return the wanted outputs, in the order in which they were asked for; the arrays belong to the caller."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where and how a model should run."""

    device: str = "auto"  # auto, cpu, cuda or cuda:N
    threads: int = 1  # CPU threads
    spinning: bool = False  # CPU threads wait for work by spinning: quicker, and takes the cores from everyone else


class Opener(Protocol):
    """What a backend's module offers as `open_model`."""

    def __call__(self, path: Path, placement: Placement) -> Backend:
        """Open the model file at `path`; raises `BadInput` for a file or device that this backend cannot do."""
        ...


def parse_device(device: str) -> tuple[str, int]:
    """Split `auto`, `cpu`, `cuda` or `cuda:N` into kind and index; raises `BadInput` for anything else."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdecimal())):
        raise BadInput(f"unknown device {device!r}; expected auto, cpu, cuda or cuda:N")
    return kind, int(index or 0)


def cpu_with(threads: int, *, spinning: bool = False) -> str:
    """Describe a CPU device in words."""
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}{' spinning' if spinning else ''}"


def first_line(error: Exception) -> str:
    """Return the part of a many-line error that a person reads."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
