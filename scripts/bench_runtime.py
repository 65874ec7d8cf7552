"""How fast is the runtime, against what people write by hand? One interleaved run per size: ratios hold on a busy machine.

    python -m roadworthy.scripts.bench_runtime --model enet --output enet.json
    python -m roadworthy.scripts.bench_runtime --model pspnet-resnet50 --rounds 10 --output pspnet.json

Frame in (uint8) to labels out, batch 1. Weights are random unless `--run` names a trained network: they do not change the time.
With `--run RUN --int8 FILE --data camvid:PATH` the int8 file exported from that run is timed too, and held against the float
model on the validation frames: how many labels agree, and what becomes of the mIoU.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from roadworthy.eval.bench import accuracy
from roadworthy.eval.peers import PEERS, PeerContext, build_peers
from roadworthy.export.onnx import export_network
from roadworthy.export.onnx_model import keep_outputs, load_model, save_model
from roadworthy.runtime import Segmenter, load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe, usable_cores
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.scaling import segment_image
from roadworthy.runtime.segmenter import OUTPUTS
from roadworthy.runtime.taxonomy import CITYSCAPES, IGNORE, Taxonomy
from roadworthy.runtime.timing import Latency, measure, ratio
from roadworthy.train.checkpoint import load_run
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.normalisation import normalise

BASELINE, OURS, LATENT, EVERYTHING, INT8 = "ort", "roadworthy", "roadworthy, latent only", "roadworthy, all outputs", "int8"
BY_HAND = ("ort-graph", "openvino", "torch-compile")  # with the same outputs as ours
STAGE_CALLS = 40
# What we set out to reach: ratio to the baseline by network, and to other contenders.
MOST_OF_BASELINE = {"enet": 0.60, "pspnet-resnet50": 0.95}
MOST_OF_BASELINE_INT8 = {"enet": 0.45, "pspnet-resnet50": 0.30}
MOST_OF_BEST_BY_HAND, MOST_LATENT_OF_WHOLE, MOST_OVERHEAD_MS = 1.08, 0.4, 0.15


@click.command(context_settings={"show_default": True})
@click.option("--model", type=click.Choice(list(MODELS)), default="enet", help="Network to time.")
@click.option("--size", "sizes", multiple=True, default=("360x480", "512x1024"), help="Frame size, HEIGHTxWIDTH; repeatable.")
@click.option("--rounds", default=40, help="Times that each callable is timed.")
@click.option("--warmup", default=2, help="Untimed calls of each before.")
@click.option("--run", type=click.Path(path_type=Path), help="Run folder of a trained network to take instead of --model.")
@click.option("--int8", type=click.Path(path_type=Path), help="Its int8 model file; only the size of this file is timed.")
@click.option("--data", help="Labelled validation data for --int8, as KIND:PATH.")
@click.option("--images", default=60, help="Images of --data to compare on.")
@click.option("--compile/--no-compile", "with_compile", default=shutil.which("g++") is not None,
              help="Also time torch.compile, which needs a C++ compiler.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the figures.")
def main(
    model: str,
    sizes: tuple[str, ...],
    rounds: int,
    warmup: int,
    run: Path | None,
    int8: Path | None,
    data: str | None,
    images: int,
    with_compile: bool,
    output: Path | None,
) -> None:
    """Time the runtime against plain ONNX Runtime, OpenVINO and torch by hand."""
    if int8 is not None and run is None:
        raise BadInput("--int8 needs --run, the folder that it was exported from")
    before = describe()
    network, taxonomy = _network(model, run)
    model = model if run is None else load_run(run)[1].model
    if int8 is not None:
        facts = load(int8, "cpu", backend="onnxruntime").metadata
        sizes = (f"{facts.height}x{facts.width}",)
    results = {}
    for size in sizes:
        height, width = (int(side) for side in size.split("x"))
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            click.echo(f"{model} {size}: exporting ...")
            folder = Path(name)
            calls, ours = _contenders(network, taxonomy, model, (height, width), with_compile, folder, int8)
            click.echo(f"{model} {size}: {rounds} rounds of {len(calls)} ...")
            latencies = measure(calls, warmup=warmup, rounds=rounds)
            results[size] = _figures(model, latencies, ours)
            if int8 is not None and data is not None:
                results[size]["int8"] = _drift(folder / "labels.onnx", int8, data, images)
        _print(latencies, results[size])
    if output is not None:
        report = {"model": model, "rounds": rounds, "machine": before.to_dict(), "sizes": results}
        write_text(output, json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {output}")


def _network(model: str, run: Path | None) -> tuple[nn.Module, Taxonomy]:
    """Return the trained network of `run`, or one with random weights and real batch statistics."""
    if run is not None:
        trained, _, taxonomy = load_run(run)
        return trained.eval(), taxonomy
    torch.manual_seed(0)
    network = build_model(model, len(CITYSCAPES))
    frames = np.random.default_rng(0).integers(0, 256, (2, 128, 256, 3), dtype=np.uint8)
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(frames)))
    return network.eval(), CITYSCAPES


def _contenders(
    network: nn.Module,
    taxonomy: Taxonomy,
    name: str,
    size: tuple[int, int],
    with_compile: bool,
    folder: Path,
    int8: Path | None,
) -> tuple[dict[str, Callable[[], object]], Segmenter]:
    """Return everything that is timed, ready to call, all on the same frame; and our own segmenter."""
    height, width = size
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    frame = frames[:1].copy()
    metadata = ModelMetadata.of(taxonomy, ignore_id=IGNORE, height=height, width=width, architecture=name, precision="fp32")
    calls: dict[str, Callable[[], object]] = {}
    peers = [peer for peer in PEERS if with_compile or peer != "torch-compile"]
    for peer, call in build_peers(peers, PeerContext(network, frame, usable_cores(), folder)).items():
        calls[peer] = lambda call=call: call(frame)  # type: ignore[misc]
    ours: Segmenter | None = None
    export_network(network, metadata, folder / "all.onnx", frames, min_agreement=0.99)
    for label, outputs in ((OURS, ("labels",)), (LATENT, ("latent",)), (EVERYTHING, OUTPUTS)):
        path = folder / f"{'-'.join(outputs)}.onnx"
        save_model(keep_outputs(load_model(folder / "all.onnx"), outputs, "all.onnx"), path)
        segmenter = load(path, device="cpu")
        click.echo(f"  {label}: {segmenter.backend}, {segmenter.reason}")
        calls[label] = _bind(segmenter, frame)
        ours = ours or segmenter
    if int8 is not None:
        quantised = load(int8, device="cpu")
        click.echo(f"  {INT8}: {quantised.backend}, {quantised.reason}")
        calls[INT8] = _bind(quantised, frame)
    assert ours is not None
    return calls, ours


def _bind(segmenter: Segmenter, frame: npt.NDArray[np.uint8]) -> Callable[[], object]:
    wanted = ("labels",) if set(segmenter.outputs) > {"labels"} and segmenter.metadata.precision == "int8" else None
    return lambda: segmenter(frame, wanted)


def _figures(model: str, latencies: dict[str, Latency], ours: Segmenter) -> dict[str, Any]:
    """Return each contender's figures, its ratio to the baseline, and how the targets were met."""
    by_hand = min((name for name in BY_HAND if name in latencies), key=lambda name: latencies[name].p50_ms)
    overhead = _overhead_ms(ours)
    most_latent = MOST_LATENT_OF_WHOLE if model == "enet" else None
    targets = [
        ("to the baseline", OURS, BASELINE, MOST_OF_BASELINE.get(model)),
        (f"to the best by hand ({by_hand})", OURS, by_hand, MOST_OF_BEST_BY_HAND),
        ("latent only to the whole network", LATENT, OURS, most_latent),
        ("latent only to the whole network with all outputs", LATENT, EVERYTHING, most_latent),
        ("int8 to the baseline", INT8, BASELINE, MOST_OF_BASELINE_INT8.get(model)),
    ]
    checks = []
    for what, name, reference, limit in targets:
        if name in latencies:
            found = ratio(latencies[name], latencies[reference])
            met = None if limit is None else found.value <= limit
            checks.append({"what": what, **found.to_dict(), "limit": limit, "met": met})
    return {
        "contenders": {
            name: latency.to_dict() | {"ratio_to_baseline": ratio(latency, latencies[BASELINE]).to_dict()}
            for name, latency in latencies.items()
        },
        "targets": checks,
        "wrapper_overhead_ms": overhead,
        "wrapper_overhead_met": overhead <= MOST_OVERHEAD_MS,
        "backend": ours.backend,
        "reason": ours.reason,
    }


def _overhead_ms(segmenter: Segmenter) -> float:
    """Return the median time [ms] that a call spends in our Python and in copies, everything but the backend's own call."""
    frame = np.zeros((1, segmenter.metadata.height, segmenter.metadata.width, 3), np.uint8)
    stages = [segmenter.time_stages(frame) for _ in range(STAGE_CALLS)]
    return float(np.median([one["copy_in"] + one["copy_out"] + one["post"] for one in stages]))


def _drift(plain: Path, int8: Path, data: str, images: int) -> dict[str, float]:
    """Return how the int8 file's labels differ from the float model's on validation frames."""
    from roadworthy.train.data import open_dataset

    dataset = open_dataset(data, "val")
    float_model, int8_model = load(plain, device="cpu"), load(int8, device="cpu")
    equal = pixels = 0
    for index in np.unique(np.linspace(0, len(dataset) - 1, images).round().astype(int)):
        image = dataset[int(index)].image
        expected, found = segment_image(float_model, image)[0], segment_image(int8_model, image)[0]
        equal, pixels = equal + int((expected == found).sum()), pixels + found.size
    before = accuracy(plain, data, split="val", limit=images)
    after = accuracy(int8, data, split="val", limit=images)
    return {"agreement": equal / pixels, "float_miou": before, "int8_miou": after, "drift_points": 100 * (before - after)}


def _print(latencies: dict[str, Latency], figures: dict[str, Any]) -> None:
    for name, latency in latencies.items():
        relative = ratio(latency, latencies[BASELINE])
        noise = latency.noise()
        click.echo(
            f"  {name:26s} p50 {latency.p50_ms:8.2f} ms  p90 {latency.p90_ms:8.2f} ms  "
            f"{relative.value:5.2f}x ({relative.low:.2f}-{relative.high:.2f}){'  noisy: ' + noise if noise else ''}"
        )
    for check in figures["targets"]:
        verdict = "" if check["limit"] is None else f"  at most {check['limit']}: {'met' if check['met'] else 'NOT MET'}"
        click.echo(f"  {check['what']}: {check['value']:.3f}x ({check['low']:.3f}-{check['high']:.3f}){verdict}")
    click.echo(f"  wrapper overhead: {figures['wrapper_overhead_ms']:.4f} ms, at most {MOST_OVERHEAD_MS}")
    if "int8" in figures:
        click.echo("  int8 on validation frames: " + ", ".join(f"{key} {value:.4f}" for key, value in figures["int8"].items()))


if __name__ == "__main__":
    main()
