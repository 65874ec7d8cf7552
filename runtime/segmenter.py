"""Load a model file and run it: uint8 frames in, label ids, confidence and the agent's latent out. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends import BACKENDS, Backend, open_backend
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.onnx_file import read_props

OUTPUTS = ("labels", "confidence", "latent")


class Segmentation(NamedTuple):
    """What a segmenter returns; a field is None when the model was exported without that output."""

    labels: npt.NDArray[np.uint8] | None  # [B, H, W] train ids
    confidence: npt.NDArray[np.float32] | None  # [B, H, W] the largest softmax probability
    latent: npt.NDArray[np.float32] | None  # [B, C, h, w] the encoder map that the agent sees


class Segmenter:
    """A loaded model: call it with frames `uint8 [B, H, W, 3]` (RGB). Make one with `load`."""

    def __init__(self, backend: Backend, metadata: ModelMetadata, path: Path) -> None:
        """Wrap an opened `backend`; raises `BadInput` when the graph does not take frames of the size in its metadata."""
        self.metadata = metadata
        self.path = path
        self._backend = backend
        self._size = (metadata.height, metadata.width, 3)
        position = {name: index for index, name in enumerate(backend.outputs)}
        self._places = tuple(position.get(name) for name in OUTPUTS)
        takes_frames = backend.input_dtype == "uint8" and tuple(backend.input_shape[1:]) == self._size
        if not takes_frames or not any(name in position for name in OUTPUTS):
            raise BadInput(
                f"{path}: the graph takes {backend.input_dtype} {list(backend.input_shape)} and gives "
                f"{', '.join(backend.outputs)}; expected uint8 [batch, {metadata.height}, {metadata.width}, 3] and some of "
                f"{', '.join(OUTPUTS)}. Export it again"
            )
        self._batch = backend.input_shape[0]  # None: any
        # The first call allocates and tunes; do it here rather than on the first frame of a drive.
        warm = self(np.zeros((self._batch or 1, *self._size), np.uint8))
        self.latent_shape: tuple[int, int, int] | None = None if warm.latent is None else _chw(warm.latent)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs this model has, of labels, confidence, latent."""
        return tuple(name for name, place in zip(OUTPUTS, self._places, strict=True) if place is not None)

    @property
    def backend(self) -> str:
        """Name of the backend and where it computes, e.g. `onnxruntime (cpu, 2 threads)`."""
        return f"{self._backend.name} ({self._backend.device})"

    @property
    def signature(self) -> str:
        """What the model takes, in words."""
        return f"uint8 [{self._batch or 'batch'}, {self._size[0]}, {self._size[1]}, 3] (RGB frames)"

    def __call__(self, frames: npt.NDArray[np.uint8]) -> Segmentation:
        """Run `frames` `uint8 [B, H, W, 3]`; raises `BadInput` with the model's signature for any other type or shape."""
        if (
            not isinstance(frames, np.ndarray)
            or frames.dtype != np.uint8
            or frames.ndim != 4
            or frames.shape[1:] != self._size
            or not frames.shape[0]
            or self._batch not in (None, frames.shape[0])
        ):
            raise BadInput(f"{self.path.name} takes {self.signature}, got {_describe(frames)}{self._hint(frames)}")
        if not frames.flags.c_contiguous:
            frames = np.ascontiguousarray(frames)
        results = self._backend.run(frames)
        labels, confidence, latent = (None if place is None else results[place] for place in self._places)
        return Segmentation(labels, confidence, latent)

    def _hint(self, frames: object) -> str:
        """Say what to do about a wrong array, for the mistakes people make."""
        if not isinstance(frames, np.ndarray):
            return "; convert it with numpy.asarray"
        if frames.dtype != np.uint8:
            return "; give the bytes of the image: scaling and normalising are inside the model"
        if frames.ndim == 3:
            return "; add the batch axis: frame[None]"
        if frames.ndim == 4 and frames.shape[1] == 3:
            return "; channels go last: frames.transpose(0, 2, 3, 1)"
        return "; resize the frames, or export the model at this size"


def load(path: str | Path, device: str = "auto", threads: int | None = None, *, backend: str = "auto") -> Segmenter:
    """Load the model file at `path`.

    `device` is `auto` (CUDA where the backend has it, else CPU), `cpu`, `cuda` or `cuda:N`. `threads` limits the CPU threads
    (None: the physical cores this process may use). `backend` is `auto` (onnxruntime) or a name in `BACKENDS`.
    Raises `BadInput` for a file that is missing, is not ONNX, or lacks our metadata, and for an unknown device or backend.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise BadInput(f"threads is {threads}, expected at least 1 (or leave it out for all the cores)")
    if backend != "auto" and backend not in BACKENDS:
        raise BadInput(f"unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")
    metadata = ModelMetadata.from_props(read_props(path), str(path))
    return Segmenter(open_backend(backend, path, device, threads), metadata, path)


def _chw(latent: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """Return (C, h, w) of a latent [B, C, h, w]."""
    _, channels, height, width = latent.shape
    return channels, height, width


def _describe(value: object) -> str:
    """Write what was given: dtype and shape of an array, else its type."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
