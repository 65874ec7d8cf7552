"""TensorRT 10, 11 and TensorRT for RTX: a plan file on a GPU, run with the least work per frame.

Per batch size, once: device buffers, pinned host buffers, shapes and addresses, and a CUDA graph of copy in, network and copy
out. Per frame: one memory copy into the pinned buffer, one graph launch, one wait. RTX captures its own kernels as a whole
graph (it specialises them while running, which a capture of ours would freeze); there the copies are queued around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.backends.backend import Backend, Placement, parse_device
from roadworthy.runtime.backends.cuda import Cuda
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.sidecar import read_sidecar, read_verified

# Sidecar format -> modules that may provide it, and what pip calls the first.
MODULES = {
    "tensorrt": (("tensorrt",), "tensorrt"),
    "tensorrt-rtx": (("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt-rtx"),
}
WARM_UP = 3  # calls before the capture: lazy loading and RTX's kernel specialisation happen in them


@dataclass(frozen=True)
class _Slot:
    """Everything that one batch size needs, allocated once.

    An execution context each, too: what a CUDA graph recorded is undefined once its context gets other shapes.
    """

    context: Any
    host: dict[str, npt.NDArray[Any]]  # pinned
    device: dict[str, int]  # addresses
    graphs: dict[tuple[str, ...], Any]  # by the outputs that are copied back; empty without capture


class TensorRtBackend:
    """An engine on one stream."""

    name = "tensorrt"

    def __init__(self, library: Any, engine: Any, cuda: Cuda, device: str, *, rtx: bool) -> None:
        """Wrap a deserialised engine whose first input takes the frames."""
        self.device = device
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT]
        self._input = inputs[0]
        self.outputs: tuple[str, ...] = tuple(name for name in names if name not in inputs)
        self._dtypes = {name: np.dtype(library.nptype(engine.get_tensor_dtype(name))) for name in names}
        self.input_dtype = str(self._dtypes[self._input])
        shape = engine.get_tensor_shape(self._input)
        self.input_shape: tuple[int | None, ...] = tuple(None if size < 0 else int(size) for size in shape)
        low, _, high = engine.get_tensor_profile_shape(self._input, 0) if shape[0] < 0 else (shape, shape, shape)
        self._batches = (int(low[0]), int(high[0]))
        self._library, self._engine, self._cuda, self._rtx = library, engine, cuda, rtx
        self._slots: dict[int, _Slot] = {}
        self._slot: _Slot | None = None
        self._wanted: tuple[str, ...] = ()

    def put(self, frames: npt.NDArray[np.uint8], wanted: Sequence[int]) -> None:
        """Copy the frames into pinned memory."""
        batch = len(frames)
        if not self._batches[0] <= batch <= self._batches[1]:
            raise BadInput(
                f"this engine takes batches of {self._batches[0]} to {self._batches[1]} frames, got {batch}; build it again "
                "with --batch MIN:OPT:MAX"
            )
        self._slot = self._slots.get(batch) or self._allocate(frames.shape)
        self._wanted = tuple(self.outputs[index] for index in wanted)
        np.copyto(self._slot.host[self._input], frames)

    def compute(self) -> None:
        """Copy in, compute, copy the wanted outputs out, and wait."""
        slot = self._slot
        assert slot is not None
        graph = slot.graphs.get(self._wanted)
        if graph is not None:
            self._cuda.launch(graph)
        elif self._rtx:
            self._queue(slot)
        else:
            self._capture(slot)
        self._cuda.wait()

    def fetch(self) -> Sequence[npt.NDArray[Any]]:
        """Copy the wanted outputs out of pinned memory, which the next call writes again."""
        assert self._slot is not None
        return [self._slot.host[name].copy() for name in self._wanted]

    def _allocate(self, frames: tuple[int, ...]) -> _Slot:
        """Make a context and allocate its host and device buffers for frames of this shape."""
        context = self._context()
        if context is None or not context.set_input_shape(self._input, frames):
            raise RoadworthyError(f"TensorRT made no execution context for frames {list(frames)}; is the GPU's memory full?")
        names = (self._input, *self.outputs)
        shapes = {name: tuple(int(size) for size in context.get_tensor_shape(name)) for name in names}
        host = {name: self._cuda.pinned(shape, self._dtypes[name]) for name, shape in shapes.items()}
        device = {name: self._cuda.allocate(host[name].nbytes) for name in names}
        for name, address in device.items():
            context.set_tensor_address(name, address)
        slot = self._slots[frames[0]] = _Slot(context, host, device, {})
        return slot

    def _context(self) -> Any:
        """Make an execution context; RTX's captures its kernels as a graph by itself."""
        if not self._rtx:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = self._library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self._engine.create_execution_context(config)

    def _queue(self, slot: _Slot) -> None:
        """Queue copy in, network and copies out on the stream."""
        self._cuda.upload(slot.device[self._input], slot.host[self._input])
        if not slot.context.execute_async_v3(int(self._cuda.stream)):
            raise RoadworthyError("TensorRT refused to run the engine; its log above says why")
        for name in self._wanted:
            self._cuda.download(slot.host[name], slot.device[name])

    def _capture(self, slot: _Slot) -> None:
        """Record copy in, network and copies out as one CUDA graph, and run it."""
        for _ in range(WARM_UP):
            self._queue(slot)
        self._cuda.wait()
        self._cuda.begin_capture()
        self._queue(slot)
        slot.graphs[self._wanted] = self._cuda.end_capture()
        self._cuda.launch(slot.graphs[self._wanted])


def open_model(path: Path, placement: Placement) -> Backend:
    """Deserialise an engine whose sidecar vouches for it.

    Raises `BadInput` when TensorRT, the driver or the device is missing, and `RoadworthyError` when the file is not the one its
    sidecar speaks of, or was built for another GPU or version.
    """
    sidecar = read_sidecar(path)
    kind, index = parse_device(placement.device)
    if kind == "cpu":
        raise BadInput(f"{path}: an engine runs on a GPU; use device cuda, or the .onnx file it was built from on the cpu")
    content = read_verified(path, sidecar.engine_sha256)
    library = _library(sidecar.format, path)
    cuda = Cuda(index)
    logger = library.Logger(library.Logger.ERROR)
    runtime = library.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise RoadworthyError(
            f"{path}: {sidecar.format} {library.__version__} cannot load this engine on cuda:{index}; it was built with "
            f"{dict(sidecar.built_with) or 'unknown versions'}. Build it on or for this machine: roadworthy export model.onnx "
            f"--format {sidecar.format}"
        )
    label = f"cuda:{index}, {sidecar.format} {library.__version__}"
    return TensorRtBackend(library, engine, cuda, label, rtx=sidecar.format == "tensorrt-rtx")


def _library(format: str, path: Path) -> Any:
    """Import the library that reads engines of `format`."""
    if format not in MODULES:
        raise BadInput(f"{path}: its sidecar says format {format!r}, expected one of {', '.join(MODULES)}; rename the file")
    modules, package = MODULES[format]
    for name in modules:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingExtra(package, "gpu", f"running {path.name}")
