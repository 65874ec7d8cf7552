"""OpenVINO on the CPU, computing in float32: it defaults to bfloat16 where the processor has it, which changes labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends.backend import Backend, cpu_with, first_line, parse_device
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.machine import usable_cores


class OpenVinoBackend:
    """One compiled model with one inference request: `run` from one thread at a time."""

    name = "openvino"

    def __init__(self, compiled: Any, device: str) -> None:
        """Wrap an `openvino.CompiledModel` whose first input takes the frames."""
        frames = compiled.input(0)
        self.device = device
        self.input_dtype = str(np.dtype(frames.get_element_type().to_dtype()))
        self.input_shape: tuple[int | None, ...] = tuple(
            None if size.is_dynamic else size.get_length() for size in frames.get_partial_shape()
        )
        self.outputs: tuple[str, ...] = tuple(output.get_any_name() for output in compiled.outputs)
        self._request = compiled.create_infer_request()
        self._count = len(compiled.outputs)

    def run(self, frames: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[Any]]:
        """Compute all outputs; the input buffer is read in place, the outputs are copied out of the request's buffers."""
        self._request.infer([frames], share_inputs=True, share_outputs=True)
        return [self._request.get_output_tensor(index).data.copy() for index in range(self._count)]


def open_model(path: Path, device: str, threads: int | None) -> Backend:
    """Open an ONNX file. Raises `BadInput` for a graph that OpenVINO refuses or a device other than the CPU."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "cpu", f"running {path.name} with OpenVINO") from error
    if parse_device(device)[0] == "cuda":
        raise BadInput("device cuda: the openvino backend computes on the CPU; use backend onnxruntime, or device cpu")
    threads = threads or usable_cores()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",  # two processes pinned to the same cores wait for each other
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        raise BadInput(f"{path}: OpenVINO cannot open this model ({first_line(error)}); use backend onnxruntime") from error
    return OpenVinoBackend(compiled, cpu_with(threads))
