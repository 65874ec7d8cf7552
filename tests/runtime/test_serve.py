"""The real Triton and the real tritonclient: right answers over HTTP and gRPC, never mixed up, and clients that misbehave."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from roadworthy.runtime import Segmenter, load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.serve import ServeConfig, Server
from roadworthy.runtime.taxonomy import CAMVID

from .conftest import HEIGHT, WIDTH, _colour_model

pytest.importorskip("pytriton", reason="serving needs nvidia-pytriton (numpy below 2): pip install 'roadworthy[serve]'")
http = pytest.importorskip("tritonclient.http", reason="needs tritonclient: pip install 'roadworthy[serve]'")
grpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient: pip install 'roadworthy[serve]'")

CLIENTS = 64


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _config(**options: Any) -> ServeConfig:
    http_port, grpc_port, metrics_port = _free_ports(3)
    return ServeConfig(http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port, **options)


def _write_model(folder: Path) -> Path:
    metadata = ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH)
    model = _colour_model("batch", ("labels", "confidence", "latent"))
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, str(folder / "colours.onnx"))
    return folder / "colours.onnx"


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return load(_write_model(tmp_path_factory.mktemp("serve")), threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def config() -> ServeConfig:
    return _config(outputs=("labels", "confidence"), max_image_bytes=100_000)


@pytest.fixture(scope="module")
def server(segmenter: Segmenter, config: ServeConfig) -> Iterator[Server]:
    with Server(segmenter, config) as running:
        yield running


def _client(module: Any, config: ServeConfig) -> Any:
    return module.InferenceServerClient(f"127.0.0.1:{config.http_port if module is http else config.grpc_port}")


def _ask(module: Any, client: Any, frames: np.ndarray, name: str = "frames", kind: str = "UINT8") -> Any:
    tensor = module.InferInput(name, list(frames.shape), kind)
    tensor.set_data_from_numpy(frames)
    return client.infer("roadworthy", [tensor])


def _ask_encoded(module: Any, client: Any, content: bytes) -> Any:
    tensor = module.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([content], np.object_))
    return client.infer("roadworthy_encoded", [tensor])


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _works(config: ServeConfig) -> None:
    """Ask once and check the answer: the server is alive and sane."""
    frames = np.random.default_rng(9).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(_ask(http, _client(http, config), frames).as_numpy("labels"), frames.argmax(3))


@pytest.mark.parametrize("module", [http, grpc], ids=["http", "grpc"])
@pytest.mark.usefixtures("server")
def test_answers_are_those_of_the_model(module: Any, config: ServeConfig, segmenter: Segmenter) -> None:
    client = _client(module, config)
    for batch in (1, 3, 4):
        frames = np.random.default_rng(batch).integers(0, 256, (batch, HEIGHT, WIDTH, 3), np.uint8)
        answer = _ask(module, client, frames)
        assert np.array_equal(answer.as_numpy("labels"), frames.argmax(3))
        assert np.array_equal(answer.as_numpy("confidence"), segmenter(frames).confidence)


@pytest.mark.usefixtures("server")
def test_health_metadata_and_metrics(config: ServeConfig) -> None:
    client = _client(http, config)
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_model_metadata("roadworthy")
    assert metadata["inputs"] == [{"name": "frames", "datatype": "UINT8", "shape": [-1, HEIGHT, WIDTH, 3]}]
    assert client.get_model_config("roadworthy")["dynamic_batching"]["max_queue_delay_microseconds"] == 500
    _works(config)
    with urllib.request.urlopen(f"http://127.0.0.1:{config.metrics_port}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'nv_inference_request_success{model="roadworthy",version="1"}' in metrics


@pytest.mark.parametrize("module", [http, grpc], ids=["http", "grpc"])
@pytest.mark.usefixtures("server")
def test_encoded_images_of_any_size(module: Any, config: ServeConfig) -> None:
    pixels = np.zeros((24, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 200
    answer = _ask_encoded(module, _client(module, config), _png(pixels))
    assert np.array_equal(answer.as_numpy("labels"), np.where(pixels[..., 0] > 0, 0, 2))
    assert answer.as_numpy("mean_confidence")[0] == pytest.approx(200 / 255, abs=0.02)


@pytest.mark.usefixtures("server")
def test_many_clients_at_once_get_their_own_answers(config: ServeConfig) -> None:
    start = threading.Barrier(CLIENTS)

    def one(number: int) -> int:
        module = http if number % 2 else grpc
        client = _client(module, config)
        rng = np.random.default_rng(number)
        start.wait(60)
        wrong = 0
        for _ in range(6):
            frames = rng.integers(0, 256, (1 + number % 2, HEIGHT, WIDTH, 3), np.uint8)
            wrong += not np.array_equal(_ask(module, client, frames).as_numpy("labels"), frames.argmax(3))
        return wrong

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(one, range(CLIENTS))) == 0


@pytest.mark.parametrize("module", [http, grpc], ids=["http", "grpc"])
@pytest.mark.usefixtures("server")
def test_wrong_frames_are_refused_with_what_is_expected(module: Any, config: ServeConfig) -> None:
    client = _client(module, config)
    with pytest.raises(Exception, match=rf"\[-1,{HEIGHT},{WIDTH},3\]"):
        _ask(module, client, np.zeros((1, HEIGHT, WIDTH + 1, 3), np.uint8))
    with pytest.raises(Exception, match=r"FP32.*UINT8"):
        _ask(module, client, np.zeros((1, HEIGHT, WIDTH, 3), np.float32), kind="FP32")
    with pytest.raises(Exception, match=r"batch-size must be <= 4"):
        _ask(module, client, np.zeros((5, HEIGHT, WIDTH, 3), np.uint8))
    _works(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "not a readable image"),
        (_png(np.zeros((40, 40, 3), np.uint8))[:60], "not a readable image"),
        (b"GIF89a" + bytes(50), "not a readable image"),
        (b"", "not a readable image"),
        (bytes(100_001), "100001 bytes, expected at most 100000"),
    ],
    ids=["text", "cut off", "another format", "empty", "too large"],
)
@pytest.mark.usefixtures("server")
def test_garbage_images_are_refused(config: ServeConfig, content: bytes, message: str) -> None:
    with pytest.raises(Exception, match=message):
        _ask_encoded(http, _client(http, config), content)
    _works(config)


@pytest.mark.usefixtures("server")
def test_garbage_bytes_on_the_ports(config: ServeConfig) -> None:
    rng = np.random.default_rng(0)
    header = f"POST /v2/models/roadworthy/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n".encode()
    for port in (config.http_port, config.grpc_port):
        for content in (rng.bytes(4096), b"GET /" + bytes(2000), header, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.bytes(500)):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(content)
    body = b'{"inputs": [{"name": "frames", "shape": [1, 8'
    request = urllib.request.Request(f"http://127.0.0.1:{config.http_port}/v2/models/roadworthy/infer", data=body)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code in (400, 500)  # this Triton calls broken JSON an internal error
    _works(config)


@pytest.mark.usefixtures("server")
def test_a_client_that_dies_mid_request(config: ServeConfig) -> None:
    frames = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    tensor = http.InferInput("frames", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames)
    body, header_length = http.InferenceServerClient.generate_request_body([tensor])
    head = (
        f"POST /v2/models/roadworthy/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {header_length}\r\n\r\n"
    ).encode()
    for sent in (len(body) // 2, len(body)):  # dies while sending; dies before it reads the answer
        for _ in range(10):
            connection = socket.create_connection(("127.0.0.1", config.http_port), timeout=5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # reset on close
            connection.sendall(head + body[:sent])
            connection.close()
    _works(config)


class _Slow:
    """A backend that takes its time."""

    def __init__(self, backend: Any, pause_s: float) -> None:
        self._backend = backend
        self._pause_s = pause_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def compute(self) -> None:
        time.sleep(self._pause_s)
        self._backend.compute()


def test_stopping_finishes_requests_under_way(tmp_path: Path) -> None:
    segmenter = load(_write_model(tmp_path), threads=1, backend="onnxruntime")
    config = _config(max_batch=1)
    server = Server(segmenter, config)
    server.start()
    try:
        segmenter._backend = _Slow(segmenter._backend, 2.0)  # type: ignore[assignment]
        frames = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(lambda: _ask(grpc, _client(grpc, config), frames))
            time.sleep(0.7)  # it is with the backend now
            server.stop()
            assert np.array_equal(answer.result(10).as_numpy("labels"), frames.argmax(3))
    finally:
        server.stop()
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", config.grpc_port), timeout=1).close()


def test_the_command_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    config = _config()
    command = [sys.executable, "-m", "roadworthy.scripts.cli", "serve", str(_write_model(tmp_path)), "--threads", "1"]
    ports = {"--http-port": config.http_port, "--grpc-port": config.grpc_port, "--metrics-port": config.metrics_port}
    command += [str(part) for pair in ports.items() for part in pair]
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        deadline = time.monotonic() + 90
        while "/metrics" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        _works(config)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "requests under way are finished first" in log.read_text()
    finally:
        process.kill()


def test_what_cannot_be_served(tmp_path: Path, segmenter: Segmenter) -> None:
    with pytest.raises(BadInput, match="not logits"):
        Server(segmenter, ServeConfig(outputs=("logits",)))
    model = _colour_model(3, ("labels",))
    helper.set_model_props(model, ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH).to_props())
    onnx.save(model, str(tmp_path / "three.onnx"))
    with pytest.raises(BadInput, match="batches of exactly 3"):
        Server(load(tmp_path / "three.onnx", threads=1), ServeConfig())
