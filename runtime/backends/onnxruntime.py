"""ONNX Runtime: the CPU provider, or CUDA where `onnxruntime-gpu` is installed and finds a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends.backend import Backend, cpu_with, first_line, parse_device
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.machine import usable_cores

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxRuntimeBackend:
    """One ONNX Runtime session. `run` is safe from several threads."""

    name = "onnxruntime"

    def __init__(self, session: Any, device: str) -> None:
        """Wrap an `onnxruntime.InferenceSession` whose first input takes the frames."""
        frames = session.get_inputs()[0]
        self.device = device
        self.input_dtype = _DTYPES.get(frames.type, frames.type)
        self.input_shape: tuple[int | None, ...] = tuple(size if isinstance(size, int) else None for size in frames.shape)
        self.outputs: tuple[str, ...] = tuple(output.name for output in session.get_outputs())
        self._input = frames.name
        self._session = session

    def run(self, frames: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[Any]]:
        """Compute all outputs; the input buffer is read in place."""
        results: Sequence[npt.NDArray[Any]] = self._session.run(None, {self._input: frames})
        return results


def open_model(path: Path, device: str, threads: int | None) -> Backend:
    """Open an ONNX file. Raises `BadInput` for a graph that ONNX Runtime refuses or a device that is not there."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu", f"running {path.name}") from error
    kind, index = parse_device(device)
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if kind == "cuda" and not has_cuda:
        raise BadInput(
            "device cuda: this onnxruntime has no CUDA provider; pip install 'roadworthy[gpu]' instead of [cpu], or use cpu"
        )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    # Spinning threads eat the cores that the rest of the car (or a busy machine) needs, for microseconds of latency.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; we report what matters ourselves
    providers: list[Any] = ["CPUExecutionProvider"]
    if has_cuda and kind != "cpu":
        # The whole graph is fixed size: an exhaustive search for convolution algorithms pays at load, once.
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": index, "cudnn_conv_algo_search": "EXHAUSTIVE"}))
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad graph
        raise BadInput(f"{path}: ONNX Runtime cannot open this model ({first_line(error)}); export it again") from error
    on_cuda = session.get_providers()[0] == "CUDAExecutionProvider"
    if kind == "cuda" and not on_cuda:
        raise RoadworthyError(
            "device cuda: the CUDA provider did not start (is a driver, CUDA or cuDNN library missing?); "
            "see 'roadworthy doctor', or use cpu"
        )
    return OnnxRuntimeBackend(session, f"cuda:{index}" if on_cuda else cpu_with(options.intra_op_num_threads))
