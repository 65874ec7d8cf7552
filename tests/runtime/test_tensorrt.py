"""The engine backend without a GPU: its orchestration on a double of CUDA whose stream runs nothing before it is waited for.

The double moves real bytes between real buffers, in the order queued, and only in `wait`: a copy that is missing, in the
wrong order, or taken from the wrong buffer gives wrong labels here. What it cannot tell is anything about speed, or about
TensorRT's own behaviour. Where TensorRT for RTX is installed, its real library refuses what it should.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roadworthy.runtime.backends import Placement
from roadworthy.runtime.backends.tensorrt import WARM_UP, TensorRtBackend, open_model
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.segmenter import Segmenter
from roadworthy.runtime.sidecar import write_sidecar

HEIGHT, WIDTH = 8, 16
MAX_BATCH = 4


class FakeCuda:
    """A stream as a list of deferred actions; a graph as such a list that can be queued again."""

    stream = 17

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.capturing: list[Callable[[], None]] | None = None
        self.buffers: dict[int, Any] = {}
        self.pinned_count = 0
        self.launches = 0

    def enqueue(self, action: Callable[[], None]) -> None:
        (self.queue if self.capturing is None else self.capturing).append(action)

    def allocate(self, size: int) -> int:
        buffer = (ctypes.c_ubyte * size)()
        address = ctypes.addressof(buffer)
        self.buffers[address] = buffer
        return address

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self.pinned_count += 1
        return np.full(shape, 111, dtype)

    def upload(self, target: int, source: np.ndarray) -> None:
        self.enqueue(lambda: ctypes.memmove(target, source.ctypes.data, source.nbytes) and None)

    def download(self, target: np.ndarray, source: int) -> None:
        self.enqueue(lambda: ctypes.memmove(target.ctypes.data, source, target.nbytes) and None)

    def begin_capture(self) -> None:
        assert not self.queue, "capturing while work is still queued"
        self.capturing = []

    def end_capture(self) -> list[Callable[[], None]]:
        assert self.capturing is not None
        graph, self.capturing = self.capturing, None
        return graph

    def launch(self, graph: list[Callable[[], None]]) -> None:
        self.launches += 1
        self.queue.extend(graph)

    def wait(self) -> None:
        for action in self.queue:
            action()
        self.queue.clear()


class FakeContext:
    """Computes the brightest channel per pixel where its addresses point."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.batch = 0
        self.addresses: dict[str, int] = {}
        self.executions = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape[0]
        return shape[1:] == (HEIGHT, WIDTH, 3)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, HEIGHT, WIDTH, 3) if name == "frames" else (self.batch, HEIGHT, WIDTH)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self.cuda.stream
        self.executions += 1
        addresses, batch = dict(self.addresses), self.batch

        def compute() -> None:
            def view(name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
                return np.frombuffer(self.cuda.buffers[addresses[name]], dtype).reshape(shape)

            frames = view("frames", np.uint8, (batch, HEIGHT, WIDTH, 3))
            view("labels", np.uint8, (batch, HEIGHT, WIDTH))[:] = frames.argmax(3)
            view("confidence", np.float32, (batch, HEIGHT, WIDTH))[:] = frames.max(3) / 255

        self.cuda.enqueue(compute)
        return True


class FakeEngine:
    num_io_tensors = 3
    names = ("frames", "labels", "confidence")

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.contexts: list[FakeContext] = []
        self.config: SimpleNamespace | None = None

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "frames" else "out"

    def get_tensor_dtype(self, name: str) -> type:
        return np.float32 if name == "confidence" else np.uint8

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, HEIGHT, WIDTH, 3)

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return ((1, HEIGHT, WIDTH, 3), (1, HEIGHT, WIDTH, 3), (MAX_BATCH, HEIGHT, WIDTH, 3))

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_graph_strategy=None)

    def create_execution_context(self, config: SimpleNamespace | None = None) -> FakeContext:
        self.config = config
        self.contexts.append(FakeContext(self.cuda))
        return self.contexts[-1]


LIBRARY = SimpleNamespace(
    TensorIOMode=SimpleNamespace(INPUT="in"),
    CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph"),
    nptype=lambda dtype: dtype,
)


def _backend(*, rtx: bool = False) -> tuple[TensorRtBackend, FakeEngine, FakeCuda]:
    cuda = FakeCuda()
    engine = FakeEngine(cuda)
    return TensorRtBackend(LIBRARY, engine, cuda, "cuda:0", rtx=rtx), engine, cuda  # type: ignore[arg-type]


@pytest.mark.parametrize("rtx", [False, True])
def test_labels_are_those_of_the_frames(metadata: ModelMetadata, rtx: bool) -> None:
    backend, _, _ = _backend(rtx=rtx)
    segmenter = Segmenter(backend, metadata, Path("m.engine"))
    rng = np.random.default_rng(0)
    for batch in (1, 3, 1, 2, 1):
        frames = rng.integers(0, 256, (batch, HEIGHT, WIDTH, 3), np.uint8)
        result = segmenter(frames)
        assert result.labels is not None
        assert result.confidence is not None
        assert np.array_equal(result.labels, frames.argmax(3))
        assert result.confidence == pytest.approx(frames.max(3) / np.float32(255))


def test_buffers_are_allocated_once_per_batch_size(metadata: ModelMetadata, frames: np.ndarray) -> None:
    backend, engine, cuda = _backend()
    segmenter = Segmenter(backend, metadata, Path("m.engine"))  # warms up with one frame
    segmenter(frames)
    allocated, pinned = len(cuda.buffers), cuda.pinned_count
    for _ in range(5):
        segmenter(frames)
        segmenter(frames[:1])
    assert (len(cuda.buffers), cuda.pinned_count) == (allocated, pinned) == (6, 6)  # two batch sizes, three tensors
    assert len(engine.contexts) == 2


def test_after_the_warm_up_a_frame_is_one_graph_launch(metadata: ModelMetadata, frames: np.ndarray) -> None:
    backend, engine, cuda = _backend()
    segmenter = Segmenter(backend, metadata, Path("m.engine"))
    assert engine.contexts[0].executions == WARM_UP + 1  # the last one was recorded, not run
    launches = cuda.launches
    for _ in range(4):
        segmenter(frames[:1])
    assert engine.contexts[0].executions == WARM_UP + 1
    assert cuda.launches == launches + 4


def test_only_what_is_asked_for_is_copied(metadata: ModelMetadata, frames: np.ndarray) -> None:
    backend, _, cuda = _backend()
    segmenter = Segmenter(backend, metadata, Path("m.engine"))
    sizes: list[int] = []
    download = cuda.download
    cuda.download = lambda target, source: (sizes.append(target.nbytes), download(target, source))[1]  # type: ignore[method-assign]
    result = segmenter(frames[:1], outputs=("labels",))
    assert result.confidence is None
    assert result.labels is not None
    assert np.array_equal(result.labels, frames[:1].argmax(3))
    assert set(sizes) == {HEIGHT * WIDTH}  # bytes of the labels alone


def test_rtx_captures_by_itself(metadata: ModelMetadata, frames: np.ndarray) -> None:
    backend, engine, cuda = _backend(rtx=True)
    Segmenter(backend, metadata, Path("m.engine"))(frames)
    assert engine.config is not None
    assert engine.config.cuda_graph_strategy == "whole graph"
    assert cuda.launches == 0


def test_results_belong_to_the_caller(metadata: ModelMetadata, frames: np.ndarray) -> None:
    backend, _, _ = _backend()
    segmenter = Segmenter(backend, metadata, Path("m.engine"))
    first = segmenter(frames).labels
    assert first is not None
    kept = first.copy()
    segmenter(255 - frames)
    assert np.array_equal(first, kept)


def test_a_batch_outside_the_profile_is_refused(metadata: ModelMetadata) -> None:
    segmenter = Segmenter(_backend()[0], metadata, Path("m.engine"))
    with pytest.raises(BadInput, match="batches of 1 to 4 frames, got 5"):
        segmenter(np.zeros((5, HEIGHT, WIDTH, 3), np.uint8))


def _engine(tmp_path: Path, source: Path, metadata: ModelMetadata, format: str) -> Path:
    path = tmp_path / "m.engine"
    path.write_bytes(b"not a plan" * 1000)
    write_sidecar(path, format, source, metadata)
    return path


@pytest.mark.parametrize("format", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library_names_the_extra(
    tmp_path: Path, make_model: Callable[..., Path], metadata: ModelMetadata, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"'{format}'.*roadworthy\[gpu\]"):
        open_model(_engine(tmp_path, make_model(), metadata, format), Placement("cuda"))


def test_an_openvino_sidecar_beside_an_engine(tmp_path: Path, make_model: Callable[..., Path], metadata: ModelMetadata) -> None:
    path = _engine(tmp_path, make_model(), metadata, "tensorrt")
    content = json.loads((tmp_path / "m.engine.json").read_text())
    (tmp_path / "m.engine.json").write_text(json.dumps(content | {"format": "openvino"}))
    with pytest.raises(BadInput, match="its sidecar says format 'openvino'"):
        open_model(path, Placement("auto"))


def test_the_real_library_without_a_driver(tmp_path: Path, make_model: Callable[..., Path], metadata: ModelMetadata) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BadInput, match="found no working NVIDIA driver"):
        open_model(_engine(tmp_path, make_model(), metadata, "tensorrt-rtx"), Placement("cuda"))


@pytest.mark.gpu
def test_the_real_library_refuses_what_is_no_engine(
    tmp_path: Path, make_model: Callable[..., Path], metadata: ModelMetadata
) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT and a GPU")
    with pytest.raises(RoadworthyError, match="cannot load this engine"):
        open_model(_engine(tmp_path, make_model(), metadata, "tensorrt"), Placement("cuda"))
