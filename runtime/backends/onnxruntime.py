"""ONNX Runtime: the CPU provider, or CUDA and TensorRT providers where `onnxruntime-gpu` is installed and finds a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends.backend import Backend, Placement, cpu_with, first_line, parse_device
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import cache_folder

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxRuntimeBackend:
    """One ONNX Runtime session on the CPU: frames are read in place, results are handed out without a copy."""

    name = "onnxruntime"

    def __init__(self, session: Any, device: str) -> None:
        """Wrap an `onnxruntime.InferenceSession` whose first input takes the frames."""
        frames = session.get_inputs()[0]
        self.device = device
        self.input_dtype = _DTYPES.get(frames.type, frames.type)
        self.input_shape: tuple[int | None, ...] = tuple(size if isinstance(size, int) else None for size in frames.shape)
        self.outputs: tuple[str, ...] = tuple(output.name for output in session.get_outputs())
        self._session = session
        self._input = frames.name
        self._feed: dict[str, npt.NDArray[np.uint8]] = {}
        self._names: list[str] = []
        self._results: Sequence[npt.NDArray[Any]] = ()

    def put(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> None:
        """Remember the frames; they are read where they lie."""
        self._feed = {self._input: frames}
        self._names = [self.outputs[index] for index in wanted]

    def compute(self) -> None:
        """Run the session."""
        self._results = self._session.run(self._names, self._feed)

    def fetch(self) -> Sequence[npt.NDArray[Any]]:
        """Hand out the arrays, which own ONNX Runtime's memory."""
        results, self._results, self._feed = self._results, (), {}
        return results


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """A session on a GPU with IO binding: device buffers allocated once per batch size, one copy in, one per wanted output."""

    def __init__(self, session: Any, device: str, index: int) -> None:
        """Wrap a session whose provider runs on CUDA device `index`."""
        super().__init__(session, device)
        self._index = index
        self._bindings: dict[tuple[int, tuple[int, ...]], tuple[Any, Any]] = {}  # by batch and outputs: binding, input buffer
        self._binding: Any = None

    def put(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> None:
        """Copy the frames into the GPU's buffer for their batch size."""
        key = (len(frames), tuple(wanted))
        if key in self._bindings:
            self._binding, buffer = self._bindings[key]
            buffer.update_inplace(frames)
        else:
            self._binding, _ = self._bindings[key] = self._bind(frames, wanted)

    def compute(self) -> None:
        """Run the session and wait for the GPU."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def fetch(self) -> Sequence[npt.NDArray[Any]]:
        """Copy the wanted outputs to the host."""
        results: Sequence[npt.NDArray[Any]] = self._binding.copy_outputs_to_cpu()
        return results

    def _bind(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> tuple[Any, Any]:
        """Allocate the buffers for this batch size and these outputs, with `frames` already in."""
        import onnxruntime

        buffer = onnxruntime.OrtValue.ortvalue_from_numpy(frames, "cuda", self._index)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, buffer)
        for output in (self._session.get_outputs()[index] for index in wanted):
            shape = [len(frames), *output.shape[1:]]
            if all(isinstance(size, int) for size in shape):
                dtype = np.dtype(_DTYPES.get(output.type, "float32"))
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cuda", self._index)
                binding.bind_ortvalue_output(output.name, value)
            else:
                binding.bind_output(output.name, "cuda", self._index)  # ONNX Runtime allocates it on every call
        return binding, buffer


def open_model(path: Path, placement: Placement) -> Backend:
    """Open an ONNX file. Raises `BadInput` for a graph that ONNX Runtime refuses or a device that is not there."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu", f"running {path.name}") from error
    kind, index = parse_device(placement.device)
    available = onnxruntime.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in available
    if kind == "cuda" and not has_cuda:
        raise BadInput(
            "device cuda: this onnxruntime has no CUDA provider; pip install 'roadworthy[gpu]' instead of [cpu], or use cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = placement.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(placement.spinning)))
    options.log_severity_level = 3  # errors only; we report what matters ourselves
    try:
        session = onnxruntime.InferenceSession(str(path), options, gpu_providers(available, kind, index))
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad graph
        raise BadInput(f"{path}: ONNX Runtime cannot open this model ({first_line(error)}); export it again") from error
    first = session.get_providers()[0]
    if kind == "cuda" and first == "CPUExecutionProvider":
        raise RoadworthyError(
            "device cuda: the CUDA provider did not start (is a driver, CUDA or cuDNN library missing?); "
            "see 'roadworthy doctor', or use cpu"
        )
    if first == "CPUExecutionProvider":
        return OnnxRuntimeBackend(session, cpu_with(placement.threads, spinning=placement.spinning))
    return OnnxRuntimeCudaBackend(session, f"cuda:{index}, {first.removesuffix('ExecutionProvider')}", index)


def gpu_providers(available: Sequence[str], kind: str, index: int) -> list[Any]:
    """Return the providers to ask for, best first, for a device of `kind` (auto, cpu, cuda) and CUDA `index`."""
    providers: list[Any] = []
    if kind != "cpu" and "TensorrtExecutionProvider" in available and "CUDAExecutionProvider" in available:
        # Building takes long and is kept for the next start; the precision is the one written in the file.
        cache = {"trt_engine_cache_path": str(cache_folder() / "tensorrt"), "trt_engine_cache_enable": True}
        providers.append(("TensorrtExecutionProvider", {"device_id": index, "trt_timing_cache_enable": True, **cache}))
    if kind != "cpu" and "CUDAExecutionProvider" in available:
        # The graph has one frame size: an exhaustive search for convolution algorithms pays at load, once.
        providers.append(("CUDAExecutionProvider", {"device_id": index, "cudnn_conv_algo_search": "EXHAUSTIVE"}))
    return [*providers, "CPUExecutionProvider"]
