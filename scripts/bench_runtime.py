"""How fast is the runtime, against what people write by hand? One interleaved run, so the ratios hold on a busy machine.

    python -m roadworthy.scripts.bench_runtime --size 360x480 --size 512x1024 --rounds 60 --output bench.json

Frame in (uint8) to labels out, batch 1. Weights are random: they do not change the time, and no data is needed.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from roadworthy.export.graph import FrameToLabels
from roadworthy.export.onnx import export_network
from roadworthy.runtime import load
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe, usable_cores
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.segmenter import Segmenter
from roadworthy.runtime.taxonomy import CITYSCAPES, IGNORE
from roadworthy.runtime.timing import Latency, measure, ratio
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB, normalise

BASELINE = "plain onnxruntime, numpy before and after"
OVERHEAD_CALLS = 2000


@click.command(context_settings={"show_default": True})
@click.option("--model", type=click.Choice(list(MODELS)), default="enet", help="Network to time.")
@click.option("--size", "sizes", multiple=True, default=("360x480", "512x1024"), help="Frame size, HEIGHTxWIDTH; repeatable.")
@click.option("--rounds", default=60, help="Times that each callable is timed.")
@click.option("--threads", default=None, type=int, help="CPU threads of every contender  [default: usable cores]")
@click.option("--compile/--no-compile", "with_compile", default=False, help="Also time torch.compile (needs a C++ compiler).")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="JSON file for the figures.")
def main(model: str, sizes: tuple[str, ...], rounds: int, threads: int | None, with_compile: bool, output: Path | None) -> None:
    """Time the runtime against plain ONNX Runtime, torch and its own backends."""
    threads = threads or usable_cores()
    torch.set_num_threads(threads)
    before = describe()
    results = {}
    for size in sizes:
        height, width = (int(side) for side in size.split("x"))
        click.echo(f"{model} {size}: exporting ...")
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            contenders = _contenders(model, height, width, threads, with_compile, Path(folder))
            click.echo(f"{model} {size}: {rounds} rounds of {len(contenders)} ...")
            latencies = measure(contenders, warmup=5, rounds=rounds)
            results[size] = _figures(latencies) | {"wrapper_overhead_ms": _overhead(height, width)}
        _print_table(latencies)
        click.echo(f"wrapper overhead: {results[size]['wrapper_overhead_ms']:.4f} ms")
    if output is not None:
        report = {"model": model, "threads": threads, "rounds": rounds, "machine": before.to_dict(), "sizes": results}
        write_text(output, json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {output}")


def _contenders(
    name: str, height: int, width: int, threads: int, with_compile: bool, folder: Path
) -> dict[str, Callable[[], object]]:
    """Return everything that is timed, ready to call, all on the same frame."""
    torch.manual_seed(0)
    network = build_model(name, len(CITYSCAPES))
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(frames)))
    network.eval()
    metadata = ModelMetadata.of(CITYSCAPES, ignore_id=IGNORE, height=height, width=width, architecture=name)
    export_network(network, metadata, folder / "labels.onnx", frames, outputs=("labels",))
    export_network(network, metadata, folder / "all.onnx", frames)
    export_network(network, metadata, folder / "latent.onnx", frames, outputs=("latent",))
    frame = frames[:1].copy()
    contenders: dict[str, Callable[[], object]] = {BASELINE: _by_hand(network, frame, folder / "network.onnx", threads)}
    for backend in BACKENDS:
        for outputs in ("labels", "all", "latent"):
            segmenter = load(folder / f"{outputs}.onnx", device="cpu", threads=threads, backend=backend)
            contenders[f"roadworthy {backend}, {outputs}"] = _bind(segmenter, frame)
    module = FrameToLabels(network.to(memory_format=torch.channels_last), ("labels",)).eval()  # type: ignore[call-overload]
    tensor = torch.from_numpy(frame)
    contenders["torch eager, labels"] = lambda: module(tensor)
    if with_compile:
        compiled = torch.compile(module)
        contenders["torch.compile, labels"] = lambda: compiled(tensor)
    return contenders


def _by_hand(network: nn.Module, frame: npt.NDArray[np.uint8], path: Path, threads: int) -> Callable[[], object]:
    """What people write: the bare network in ONNX Runtime, normalisation and argmax in numpy."""
    import onnxruntime

    class Logits(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network(images).logits
            return logits

    example = torch.zeros((1, 3, *frame.shape[1:3]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(Logits().eval(), (example,), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    program.save(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, std = np.asarray(MEAN_RGB, np.float32), np.asarray(STD_RGB, np.float32)

    def call() -> npt.NDArray[np.uint8]:
        images = ((frame.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
        logits = session.run(None, {name: np.ascontiguousarray(images)})[0]
        labels: npt.NDArray[np.uint8] = logits.argmax(1).astype(np.uint8)  # [B, N, H, W] -> [B, H, W]
        return labels

    return call


def _bind(segmenter: Segmenter, frame: npt.NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: segmenter(frame)


class _Instant:
    """A backend that computes nothing, so that only our own Python is left to time."""

    name = "instant"
    device = "none"
    input_dtype = "uint8"
    outputs: tuple[str, ...] = ("labels",)

    def __init__(self, height: int, width: int) -> None:
        self.input_shape: tuple[int | None, ...] = (None, height, width, 3)
        self._labels = [np.zeros((1, height, width), np.uint8)]

    def run(self, frames: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[Any]]:
        return self._labels


def _overhead(height: int, width: int) -> float:
    """Return the time of our Python around a backend's call [ms]."""
    metadata = ModelMetadata.of(CITYSCAPES, ignore_id=IGNORE, height=height, width=width)
    segmenter = Segmenter(_Instant(height, width), metadata, Path("instant"))
    frame = np.zeros((1, height, width, 3), np.uint8)
    samples = []
    for _ in range(OVERHEAD_CALLS):
        started = time.perf_counter_ns()
        segmenter(frame)
        samples.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(samples))


def _figures(latencies: dict[str, Latency]) -> dict[str, Any]:
    """Return each contender's figures and its ratio to the baseline."""
    return {
        "contenders": {
            name: latency.to_dict() | {"ratio_to_baseline": ratio(latency, latencies[BASELINE]).to_dict()}
            for name, latency in latencies.items()
        }
    }


def _print_table(latencies: dict[str, Latency]) -> None:
    for name, latency in latencies.items():
        relative = ratio(latency, latencies[BASELINE])
        noise = latency.noise()
        click.echo(
            f"  {name:44s} p50 {latency.p50_ms:8.2f} ms  p90 {latency.p90_ms:8.2f} ms  "
            f"{relative.value:5.2f}x ({relative.low:.2f}-{relative.high:.2f}){'  noisy: ' + noise if noise else ''}"
        )


if __name__ == "__main__":
    main()
