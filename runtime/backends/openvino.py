"""OpenVINO on the CPU, computing in float32: it defaults to bfloat16 where the processor has it, which changes labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends.backend import Backend, Placement, cpu_with, first_line, parse_device
from roadworthy.runtime.backends.openvino_prelu import merge_prelu
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.sidecar import read_sidecar, read_verified


class OpenVinoBackend:
    """One model, compiled for each batch size that comes: with every shape known, ENet takes an eighth less time."""

    name = "openvino"

    def __init__(self, core: Any, model: Any, options: dict[str, Any], device: str) -> None:
        """Wrap an `openvino.Model` whose first input takes the frames."""
        frames = model.input(0)
        self.device = device
        self.input_dtype = str(np.dtype(frames.get_element_type().to_dtype()))
        self.input_shape: tuple[int | None, ...] = tuple(
            None if size.is_dynamic else size.get_length() for size in frames.get_partial_shape()
        )
        self.outputs: tuple[str, ...] = tuple(output.get_any_name() for output in model.outputs)
        self._core, self._model, self._options = core, model, options
        self._requests: dict[int, Any] = {}  # by batch size
        self._request: Any = None
        self._frames: npt.NDArray[np.uint8] | None = None
        self._wanted: Sequence[int] = ()

    def put(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> None:
        """Remember the frames; they are read where they lie."""
        self._request = self._requests.get(len(frames)) or self._compile(len(frames))
        self._frames, self._wanted = frames, wanted

    def compute(self) -> None:
        """Run the request of this batch size."""
        self._request.infer([self._frames], share_inputs=True, share_outputs=True)

    def fetch(self) -> Sequence[npt.NDArray[Any]]:
        """Copy the wanted outputs out of the request's buffers, which the next call writes again."""
        self._frames = None
        return [self._request.get_output_tensor(index).data.copy() for index in self._wanted]

    def _compile(self, batch: int) -> Any:
        """Compile the model for one batch size."""
        model = self._model.clone()
        model.reshape({0: [batch, *self.input_shape[1:]]})
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        self._requests[batch] = request
        return request


def open_model(path: Path, placement: Placement) -> Backend:
    """Open an ONNX file, or an OpenVINO `.xml` with its `.bin`.

    Raises `BadInput` for a graph that OpenVINO refuses or a device other than the CPU, and `RoadworthyError` when an `.xml` or
    `.bin` is not the one its sidecar speaks of.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "cpu", f"running {path.name} with OpenVINO") from error
    if parse_device(placement.device)[0] == "cuda":
        raise BadInput("device cuda: the openvino backend computes on the CPU; use backend onnxruntime, or device cpu")
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(placement.threads),
        "ENABLE_CPU_PINNING": "NO",  # two processes pinned to the same cores wait for each other
    }
    core = openvino.Core()
    try:
        backend = OpenVinoBackend(core, _read(core, path), options, cpu_with(placement.threads))
        backend._compile(backend.input_shape[0] or 1)  # what OpenVINO cannot compile is said here, not at the first frame
    except RuntimeError as error:
        raise BadInput(f"{path}: OpenVINO cannot open this model ({first_line(error)}); use backend onnxruntime") from error
    return backend


def _read(core: Any, path: Path) -> Any:
    """Read the model; of an `.xml`, only the very bytes whose sha256 was checked."""
    if path.suffix != ".xml":
        model = core.read_model(str(path))
        merge_prelu(model)
        return model
    sidecar = read_sidecar(path)
    weights = path.with_suffix(".bin")
    if sidecar.weights_sha256 is None or not weights.is_file():
        raise BadInput(f"{path}: its weights {weights.name} or their sha256 in the sidecar are missing; copy all three files")
    return core.read_model(read_verified(path, sidecar.engine_sha256), read_verified(weights, sidecar.weights_sha256))
