"""What does Triton add? The same frame in-process, over HTTP and over gRPC, in one interleaved run on loopback.

    python -m roadworthy.scripts.bench_serve model.onnx --rounds 100 --output serve.json

Needs the extra `serve` and a model file; no torch.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import click
import numpy as np

from roadworthy.runtime import load
from roadworthy.runtime.errors import MissingExtra
from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe
from roadworthy.runtime.serve import ServeConfig, Server
from roadworthy.runtime.timing import measure

MOST_ADDED_MS = 8.0


@click.command(context_settings={"show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--rounds", default=100, help="Times that each way is timed.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the model.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the figures.")
def main(model: Path, rounds: int, threads: int | None, output: Path | None) -> None:
    """Time MODEL in-process and behind Triton."""
    try:
        import tritonclient.grpc as grpc
        import tritonclient.http as http
    except ImportError as error:
        raise MissingExtra("tritonclient", "serve", "timing a server") from error
    before = describe()
    segmenter = load(model, threads=threads)
    size = (1, segmenter.metadata.height, segmenter.metadata.width, 3)
    frame = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    ports = _free_ports(3)
    config = ServeConfig(http_port=ports[0], grpc_port=ports[1], metrics_port=ports[2], batch_delay_us=0)
    with Server(segmenter, config):
        clients: dict[str, tuple[Any, Any]] = {
            "http": (http, http.InferenceServerClient(f"127.0.0.1:{ports[0]}")),
            "grpc": (grpc, grpc.InferenceServerClient(f"127.0.0.1:{ports[1]}")),
        }

        def ask(module: Any, client: Any) -> object:
            tensor = module.InferInput("frames", list(frame.shape), "UINT8")
            tensor.set_data_from_numpy(frame)
            return client.infer(config.name, [tensor]).as_numpy("labels")

        calls = {name: (lambda pair=pair: ask(*pair)) for name, pair in clients.items()}
        measured = measure({"in-process": lambda: segmenter(frame, ("labels",)), **calls}, warmup=5, rounds=rounds)
    inside = np.asarray(measured["in-process"].samples_ms)
    figures: dict[str, Any] = {"machine": before.to_dict(), "backend": segmenter.backend}
    for name, latency in measured.items():
        added = float(np.median(np.asarray(latency.samples_ms) - inside))  # by round: a slow moment counts against neither
        figures[name] = latency.to_dict() | {"added_ms": added}
        verdict = "" if name == "in-process" else f"  added {added:.2f} ms, at most {MOST_ADDED_MS}"
        click.echo(f"{name:10s} p50 {latency.p50_ms:8.2f} ms  p90 {latency.p90_ms:8.2f} ms{verdict}")
    if output is not None:
        write_text(output, json.dumps(figures, indent=2) + "\n")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    main()
