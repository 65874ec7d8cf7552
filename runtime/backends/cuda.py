"""The few CUDA calls that running an engine needs, each checked: streams, device and pinned memory, copies, graphs.

Written against NVIDIA's `cuda-python` (`cuda.bindings.runtime`), whose functions return `(error, *results)`.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError


class Cuda:
    """One device and one stream. Device pointers, streams and graphs are plain values of `cuda-python`."""

    def __init__(self, index: int) -> None:
        """Select device `index` and make a stream; raises `BadInput` when there is no such device or no driver."""
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingExtra("cuda-python", "gpu", "running a TensorRT engine") from error
        self._runtime: Any = runtime
        status, count = runtime.cudaGetDeviceCount()
        if status != runtime.cudaError_t.cudaSuccess or index >= count:
            found = "no working NVIDIA driver" if status != runtime.cudaError_t.cudaSuccess else f"{count} device(s)"
            raise BadInput(f"device cuda:{index}: found {found}; see 'roadworthy doctor', or run the .onnx file on the cpu")
        self._call("cudaSetDevice", index)
        # Not the legacy default stream: that one waits for, and holds up, everyone else's, and cannot be captured.
        self.stream: Any = self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)

    def allocate(self, size: int) -> int:
        """Return a device buffer of `size` bytes."""
        return int(self._call("cudaMalloc", size))

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a host array that the GPU reads and writes directly; it lives as long as the process."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cudaMallocHost", size))
        memory: npt.NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return memory.view(dtype).reshape(shape)

    def upload(self, target: int, source: npt.NDArray[Any]) -> None:
        """Queue a copy from pinned memory to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, self.stream)

    def download(self, target: npt.NDArray[Any], source: int) -> None:
        """Queue a copy from the device to pinned memory."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, self.stream)

    def begin_capture(self) -> None:
        """From here on, work queued on the stream is recorded and not run."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)

    def end_capture(self) -> Any:
        """Return what was recorded as a graph that `launch` runs."""
        graph = self._call("cudaStreamEndCapture", self.stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable

    def launch(self, graph: Any) -> None:
        """Queue a whole graph."""
        self._call("cudaGraphLaunch", graph, self.stream)

    def wait(self) -> None:
        """Return when everything queued on the stream is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a runtime function; raises `RoadworthyError` with CUDA's own name of the error."""
        status, *results = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise RoadworthyError(f"{name} failed: {status.name}; is the GPU's memory full, or was the device lost?")
        return results[0] if results else None
