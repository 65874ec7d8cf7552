"""A model behind a real Triton, started from pip by nvidia-pytriton: KServe v2 over HTTP and gRPC, metrics, dynamic batching.

Two models are offered. `<name>` takes frames `uint8 [B, H, W, 3]` as the file does; Triton itself refuses another type or
shape and says what it expects. `<name>_encoded` takes one JPEG or PNG file's bytes and gives labels at the image's own size;
its requests are never batched, so that a broken image fails alone.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import decode_rgb
from roadworthy.runtime.scaling import segment_image
from roadworthy.runtime.segmenter import Segmenter


@dataclass(frozen=True)
class ServeConfig:
    """How to serve. Nothing here is reachable from other machines unless `host` says so: Triton has no log-in."""

    name: str = "roadworthy"  # of the model; the other is called `<name>_encoded`
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for everyone
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    outputs: tuple[str, ...] = ("labels",)  # that `<name>` returns
    max_batch: int = 4  # [frames] that Triton may put together
    batch_delay_us: int = 500  # [us] that a request may wait for others to join its batch
    max_queue: int = 256  # [requests] waiting per model; more are refused at once
    max_image_bytes: int = 16 << 20  # [bytes] of an encoded image
    drain_s: int = 30  # [s] that requests under way get to finish when the server stops


class Server:
    """A running Triton with one segmenter. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, segmenter: Segmenter, config: ServeConfig = ServeConfig()) -> None:
        """Prepare to serve; raises `BadInput` for outputs or batches that the model cannot do."""
        segmenter.positions(config.outputs)
        fixed = segmenter.batch
        if fixed not in (None, 1):
            raise BadInput(
                f"{segmenter.path}: takes batches of exactly {fixed}; export it with --batch 1 or a range to serve it"
            )
        self._segmenter = segmenter
        self._config = config
        self._max_batch = 1 if fixed == 1 else config.max_batch
        self._lock = threading.Lock()  # both models run the same segmenter, each from a thread of its own
        self._triton: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Start Triton and return when it is ready; raises `MissingExtra` or `RoadworthyError`."""
        try:
            from pytriton.triton import Triton, TritonConfig
        except ImportError as error:
            raise MissingExtra("nvidia-pytriton", "serve", "serving") from error
        for batch in range(1, self._max_batch + 1):  # no client waits for a backend that sees a batch size the first time
            self._segmenter(np.zeros((batch, *self._frame_shape()), np.uint8), self._config.outputs)
        _let_triton_find_python()
        config = self._config
        addresses = {"http_address": config.host, "grpc_address": config.host, "metrics_address": config.host}
        ports = {"http_port": config.http_port, "grpc_port": config.grpc_port, "metrics_port": config.metrics_port}
        # Of its own and short: sockets lie in it, whose paths may have 107 characters, which a long home folder uses up.
        folder = self._folder = tempfile.TemporaryDirectory(prefix="rw-", ignore_cleanup_errors=True)
        triton = Triton(
            config=TritonConfig(**addresses, **ports, exit_timeout_secs=config.drain_s), workspace=f"{folder.name}/t"
        )
        try:
            self._bind(triton)
            triton.run()
        except Exception as error:  # pytriton raises whatever its parts do
            triton.stop()
            folder.cleanup()
            raise RoadworthyError(
                f"Triton did not start on ports {', '.join(map(str, ports.values()))}: {error}; are they taken?"
            ) from error
        self._triton = triton

    def stop(self) -> None:
        """Refuse new requests, let those under way finish (at most `drain_s`), and end Triton."""
        if self._triton is not None:
            self._triton.stop()
            self._triton = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def wait(self, stop: threading.Event) -> None:
        """Return when `stop` is set; raises `RoadworthyError` when Triton dies before."""
        while not stop.wait(1.0):
            if not self._triton.is_alive():
                raise RoadworthyError("Triton ended by itself; its log above says why")

    def __enter__(self) -> Server:
        """Start."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        self.stop()

    def _frame_shape(self) -> tuple[int, int, int]:
        """Return [H, W, 3] of the model's frames."""
        return (self._segmenter.metadata.height, self._segmenter.metadata.width, 3)

    def _bind(self, triton: Any) -> None:
        """Offer both models."""
        from pytriton.decorators import batch
        from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor

        config = self._config
        queue = QueuePolicy(max_queue_size=config.max_queue)
        batcher = DynamicBatcher(max_queue_delay_microseconds=config.batch_delay_us, default_queue_policy=queue)
        outputs = [Tensor(name=name, dtype=dtype, shape=shape) for name, dtype, shape in self._output_tensors()]

        @batch  # type: ignore[untyped-decorator]  # pytriton is untyped
        def segment(frames: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
            return self._segment(frames)

        triton.bind(
            model_name=config.name,
            infer_func=segment,
            inputs=[Tensor(name="frames", dtype=np.uint8, shape=self._frame_shape())],
            outputs=outputs,
            config=ModelConfig(max_batch_size=self._max_batch, batcher=batcher),
            strict=True,
        )
        if "labels" not in self._segmenter.outputs:
            return  # a latent-only model has nothing to say about an image file
        triton.bind(
            model_name=f"{config.name}_encoded",
            infer_func=lambda requests: [self._segment_encoded(request["image"]) for request in requests],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="labels", dtype=np.uint8, shape=(-1, -1)),
                Tensor(name="mean_confidence", dtype=np.float32, shape=(1,)),
            ],
            config=ModelConfig(batching=False),
            strict=True,
        )

    def _output_tensors(self) -> list[tuple[str, Any, tuple[int, ...]]]:
        """Return name, type and shape without the batch of what `<name>` gives."""
        result = self._segmenter.run_blank()._asdict()
        return [(name, result[name].dtype.type, result[name].shape[1:]) for name in self._config.outputs]

    def _segment(self, frames: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Run a batch of raw frames `[B, H, W, 3]`."""
        with self._lock:
            result = self._segmenter(frames, self._config.outputs)._asdict()
        return {name: result[name] for name in self._config.outputs}

    def _segment_encoded(self, image: npt.NDArray[np.object_]) -> dict[str, npt.NDArray[Any]]:
        """Decode one JPEG or PNG `bytes [1]`, and segment it; labels `[H, W]` at its own size."""
        content = bytes(image[0])
        if len(content) > self._config.max_image_bytes:
            raise BadInput(f"image: {len(content)} bytes, expected at most {self._config.max_image_bytes}; compress it more")
        pixels = decode_rgb(content, "image")
        with self._lock:
            labels, mean = segment_image(self._segmenter, pixels)
        return {"labels": labels, "mean_confidence": np.asarray([np.nan if mean is None else mean], np.float32)}


def _let_triton_find_python() -> None:
    """Put this interpreter's library folder where Triton's Python backend looks: it may be another one than the system's."""
    folder = sysconfig.get_config_var("LIBDIR")
    paths = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    if folder and folder not in paths:
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([folder, *paths])
