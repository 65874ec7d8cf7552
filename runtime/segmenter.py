"""Load a model file and run it: uint8 frames in, label ids, confidence and the agent's latent out. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends import BACKENDS, Backend, open_backend
from roadworthy.runtime.choice import REACHES_GPU, Choice, choose
from roadworthy.runtime.confidence import read_reference
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.onnx_file import check_external_data, read_props
from roadworthy.runtime.sidecar import read_sidecar, sidecar_path

OUTPUTS = ("labels", "confidence", "latent")  # what an export has unless told otherwise
ALL_OUTPUTS = (*OUTPUTS, "logits")


class Segmentation(NamedTuple):
    """What a segmenter returns; a field is None when the model has no such output, or it was not asked for."""

    labels: npt.NDArray[np.uint8] | None  # [B, H, W] train ids
    confidence: npt.NDArray[np.float32] | None  # [B, H, W] the largest softmax probability
    latent: npt.NDArray[np.float32] | None  # [B, C, h, w] the encoder map that the agent sees
    logits: npt.NDArray[np.float32] | None = None  # [B, N, H, W] before the argmax; only of models exported with them


_NOTHING: dict[str, None] = dict.fromkeys(ALL_OUTPUTS)


class Segmenter:
    """A loaded model: call it with frames `uint8 [B, H, W, 3]` (RGB), from one thread at a time. Make one with `load`."""

    def __init__(self, backend: Backend, metadata: ModelMetadata, path: Path, reason: str = "given") -> None:
        """Wrap an opened `backend`; raises `BadInput` when the graph does not take frames of the size in its metadata."""
        self.metadata = metadata
        self.path = path
        self.reason = reason  # why this backend
        self._backend = backend
        self._size = (metadata.height, metadata.width, 3)
        position = {name: index for index, name in enumerate(backend.outputs)}
        takes_frames = backend.input_dtype == "uint8" and tuple(backend.input_shape[1:]) == self._size
        self.outputs: tuple[str, ...] = tuple(name for name in ALL_OUTPUTS if name in position)  # that this model has
        if not takes_frames or not self.outputs:
            raise BadInput(
                f"{path}: the graph takes {backend.input_dtype} {list(backend.input_shape)} and gives "
                f"{', '.join(backend.outputs)}; expected uint8 [batch, {metadata.height}, {metadata.width}, 3] and some of "
                f"{', '.join(ALL_OUTPUTS)}. Export it again"
            )
        self._position = position
        self._every = tuple(position[name] for name in self.outputs)
        self.batch = backend.input_shape[0]  # frames per call; None: any
        # The first call allocates and tunes; do it here rather than on the first frame of a drive.
        warm = self.run_blank()
        self.latent_shape: tuple[int, int, int] | None = None if warm.latent is None else _chw(warm.latent)

    def run_blank(self) -> Segmentation:
        """Run a black frame: what warms up, and what takes as long as any other frame."""
        return self(np.zeros((self.batch or 1, *self._size), np.uint8))

    @property
    def backend(self) -> str:
        """Name of the backend and where it computes, e.g. `onnxruntime (cpu, 2 threads)`."""
        return f"{self._backend.name} ({self._backend.device})"

    @property
    def signature(self) -> str:
        """What the model takes, in words."""
        return f"uint8 [{self.batch or 'batch'}, {self._size[0]}, {self._size[1]}, 3] (RGB frames)"

    def __call__(self, frames: npt.NDArray[np.uint8], outputs: Sequence[str] | None = None) -> Segmentation:
        """Run `frames` `uint8 [B, H, W, 3]` and return the `outputs` named, by default all that the model has.

        What is not asked for is not copied from a GPU. Raises `BadInput` with the model's signature for any other type or
        shape of frames, and for an output that the model does not have.
        """
        self.check(frames)
        if not frames.flags.c_contiguous:
            frames = np.ascontiguousarray(frames)
        names = self.outputs if outputs is None else outputs
        backend = self._backend
        backend.put(frames, self._every if outputs is None else self.positions(outputs))
        backend.compute()
        return _pack(names, backend.fetch())

    def time_stages(self, frames: npt.NDArray[np.uint8]) -> dict[str, float]:
        """Run `frames` once and return how long [ms] each part took: copy in, compute, copy out, and our own Python (post)."""
        marks = [time.perf_counter_ns()]
        self.check(frames)
        marks.append(time.perf_counter_ns())
        self._backend.put(frames, self._every)
        marks.append(time.perf_counter_ns())
        self._backend.compute()
        marks.append(time.perf_counter_ns())
        arrays = self._backend.fetch()
        marks.append(time.perf_counter_ns())
        _pack(self.outputs, arrays)
        marks.append(time.perf_counter_ns())
        before, copy_in, compute, copy_out, after = ((late - early) / 1e6 for early, late in pairwise(marks))
        return {"copy_in": copy_in, "compute": compute, "copy_out": copy_out, "post": before + after}

    def positions(self, outputs: Sequence[str]) -> tuple[int, ...]:
        """Return the backend's indices of the outputs named; raises `BadInput` for one that the model does not have."""
        try:
            return tuple(self._position[name] for name in outputs)
        except KeyError as error:
            raise BadInput(
                f"{self.path}: has the outputs {', '.join(self.outputs)}, not {error.args[0]}; export it again with "
                f"--outputs {','.join(dict.fromkeys((*self.outputs, *outputs)))}"
            ) from error

    def check(self, frames: npt.NDArray[np.uint8]) -> None:
        """Raise `BadInput` with the model's signature unless it takes `frames`."""
        if (
            not isinstance(frames, np.ndarray)
            or frames.dtype != np.uint8
            or frames.ndim != 4
            or frames.shape[1:] != self._size
            or not frames.shape[0]
            or self.batch not in (None, frames.shape[0])
        ):
            raise BadInput(f"{self.path.name} takes {self.signature}, got {_describe(frames)}{self._hint(frames)}")

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
    """Load the model file at `path`: `.onnx`, OpenVINO's `.xml`, or a TensorRT `.engine` with its sidecar.

    `device` is `auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:N`. `threads` limits the CPU threads and
    makes the choice of the backend a fixed one; None takes the physical cores this process may use and times the backends
    once, see `runtime.choice`.
    `backend` is `auto` or a name in `BACKENDS`. `Segmenter.backend` and `Segmenter.reason` say what was chosen and why.
    Raises `BadInput` for a file that is missing, is not a model, or lacks our metadata, and for an unknown device or backend;
    `RoadworthyError` for an engine that is not the one its sidecar speaks of.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise BadInput(f"threads is {threads}, expected at least 1 (or leave it out for all the cores)")
    if backend != "auto" and backend not in BACKENDS:
        raise BadInput(f"unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")
    metadata = _read_metadata(path)
    opened: dict[Choice, Segmenter] = {}

    def open_candidate(candidate: Choice) -> Callable[[], object]:
        segmenter = Segmenter(open_backend(candidate.backend, path, candidate.placement), metadata, path, candidate.reason)
        opened[candidate] = segmenter
        return segmenter.run_blank

    choice = choose(path, metadata, device, threads, backend, open_candidate)
    for candidate, segmenter in opened.items():
        if (candidate.backend, candidate.placement) == (choice.backend, choice.placement):
            segmenter.reason = choice.reason
            return segmenter
    opened_backend = open_backend(choice.backend, path, choice.placement)
    failed = choice.reason == REACHES_GPU and opened_backend.device.startswith("cpu")
    reason = "its CUDA provider did not start, see 'roadworthy doctor'" if failed else choice.reason
    return Segmenter(opened_backend, metadata, path, reason)


def _read_metadata(path: Path) -> ModelMetadata:
    """Read what the model says about itself, from the file or its sidecar; a reference measured later wins."""
    if path.suffix == ".onnx" or not sidecar_path(path).is_file():
        metadata = ModelMetadata.from_props(read_props(path), str(path))
        check_external_data(path)
    else:
        metadata = read_sidecar(path).metadata
    measured = read_reference(path)
    return metadata if measured is None else replace(metadata, confidence_reference=measured)


def _pack(names: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> Segmentation:
    """Put arrays into their named places."""
    return Segmentation(**{**_NOTHING, **dict(zip(names, arrays, strict=True))})


def _chw(latent: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """Return (C, h, w) of a latent [B, C, h, w]."""
    _, channels, height, width = latent.shape
    return channels, height, width


def _describe(value: object) -> str:
    """Write what was given: dtype and shape of an array, else its type."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
