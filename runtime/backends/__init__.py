"""What computes a model: one file per backend and one line in `BACKENDS`. Each imports its package only when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from roadworthy.runtime.backends.backend import Backend

__all__ = ["BACKENDS", "Backend", "open_backend"]

# Name -> module with `open_model(path, device, threads) -> Backend`. The first is what "auto" takes.
BACKENDS: Mapping[str, str] = {
    "onnxruntime": "roadworthy.runtime.backends.onnxruntime",
    "openvino": "roadworthy.runtime.backends.openvino",
}


def open_backend(name: str, path: Path, device: str, threads: int | None) -> Backend:
    """Open `path` with the backend called `name`, or with the first for `auto`."""
    module = import_module(BACKENDS[next(iter(BACKENDS)) if name == "auto" else name])
    backend: Backend = module.open_model(path, device, threads)
    return backend
