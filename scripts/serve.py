"""`roadworthy serve`: a model behind Triton, for other processes and machines."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click
from rich.markup import escape

from roadworthy.scripts.terminal import console


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", default="roadworthy", show_default=True, help="Name of the served model.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; Triton asks nobody who they are.")
@click.option("--http-port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="KServe v2 over HTTP.")
@click.option("--grpc-port", type=click.IntRange(1, 65535), default=8001, show_default=True, help="KServe v2 over gRPC.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), default=8002, show_default=True, help="Prometheus metrics.")
@click.option("--outputs", default="labels", show_default=True, help="What to return: labels,confidence,latent,logits.")
@click.option("--max-batch", type=click.IntRange(1, 64), default=4, show_default=True, help="Frames per batch at most.")
@click.option("--batch-delay-us", type=click.IntRange(0), default=500, show_default=True,
              help="Microseconds that a request waits for others to share its batch.")  # fmt: skip
@click.option("--max-image-mb", type=click.IntRange(1, 1024), default=16, show_default=True, help="Largest encoded image.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, onnxruntime, openvino or tensorrt.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: measured]")
def command(
    model: Path,
    name: str,
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    outputs: str,
    max_batch: int,
    batch_delay_us: int,
    max_image_mb: int,
    device: str,
    backend: str,
    threads: int | None,
) -> None:
    """Serve MODEL until Ctrl-C or SIGTERM; requests under way are finished first.

    Example: roadworthy serve runs/enet-gambling-seed0/model.onnx
    """
    from roadworthy.runtime import load
    from roadworthy.runtime.serve import ServeConfig, Server

    segmenter = load(model, device, threads, backend=backend)
    config = ServeConfig(
        name=name,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        outputs=tuple(part.strip() for part in outputs.split(",")),
        max_batch=max_batch,
        batch_delay_us=batch_delay_us,
        max_image_bytes=max_image_mb << 20,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Server(segmenter, config) as server:
        console.print(f"{segmenter.backend}: {segmenter.reason}", soft_wrap=True)
        console.print(escape(f"{name} takes frames {segmenter.signature}; {name}_encoded takes a JPEG or PNG"), soft_wrap=True)
        console.print(
            f"http://{host}:{http_port}  grpc {host}:{grpc_port}  http://{host}:{metrics_port}/metrics", soft_wrap=True
        )
        server.wait(stop)
        console.print("stopping: requests under way are finished first")
