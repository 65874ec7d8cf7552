"""What computes a model: one file per backend and one line in `BACKENDS`. Each imports its package only when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from roadworthy.runtime.backends.backend import Backend, Opener, Placement

__all__ = ["BACKENDS", "Backend", "BackendEntry", "Placement", "open_backend"]


class BackendEntry(NamedTuple):
    """Where a backend is and what it reads."""

    module: str  # with `open_model`, an `Opener`
    package: str  # the Python package whose presence means that it can be tried
    suffixes: tuple[str, ...]  # of the model files that it opens


BACKENDS: Mapping[str, BackendEntry] = {
    "tensorrt": BackendEntry("roadworthy.runtime.backends.tensorrt", "tensorrt", (".engine", ".plan")),
    "onnxruntime": BackendEntry("roadworthy.runtime.backends.onnxruntime", "onnxruntime", (".onnx",)),
    "openvino": BackendEntry("roadworthy.runtime.backends.openvino", "openvino", (".onnx", ".xml")),
}


def open_backend(name: str, path: Path, placement: Placement) -> Backend:
    """Open `path` with the backend called `name`."""
    opener: Opener = import_module(BACKENDS[name].module).open_model
    return opener(path, placement)
