"""`roadworthy bench`: the latency of models on this machine, measured side by side with what people write by hand."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import console, progress_line


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backend", "backends", default="auto", show_default=True,
              help="auto, all, or a comma list of onnxruntime, openvino, tensorrt.")  # fmt: skip
@click.option("--against", default="", help="Peers, comma list of torch, torch-compile, ort, ort-graph, openvino.")
@click.option("--batch", "batches", default="1", show_default=True, help="Batch sizes, comma list.")
@click.option("--rounds", type=click.IntRange(10), default=200, show_default=True, help="Timed calls of each.")
@click.option("--warmup", type=click.IntRange(0), default=20, show_default=True, help="Untimed calls of each before.")
@click.option("--max-seconds", type=click.FloatRange(1), default=120, show_default=True, help="Of timing per batch size.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: what the runtime chooses]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--cold/--no-cold", default=True, show_default=True, help="Also start each model in a fresh process.")
@click.option("--roofline/--no-roofline", default=True, show_default=True, help="Also measure the machine's peaks.")
@click.option("--metric-floor", type=click.FloatRange(0, 1), help="Fail when a model's mIoU on --data is lower.")
@click.option("--data", help="Labelled data for --metric-floor, as KIND:PATH.")
@click.option("--split", default="val", show_default=True, help="Part of --data.")
@click.option("--images", type=click.IntRange(1), help="Images of --data to use.  [default: all]")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("latency.json"), show_default=True,
              help="JSON file; a picture is written beside it (.svg).")  # fmt: skip
def command(
    models: tuple[Path, ...],
    backends: str,
    against: str,
    batches: str,
    rounds: int,
    warmup: int,
    max_seconds: float,
    threads: int | None,
    device: str,
    cold: bool,
    roofline: bool,
    metric_floor: float | None,
    data: str | None,
    split: str,
    images: int | None,
    output: Path,
) -> None:
    """Time MODELS, interleaved, from uint8 frames to labels: latency, stages, cold start, memory, roofline.

    Example: roadworthy bench runs/*/model.onnx --against torch,ort --batch 1,4
    """
    from roadworthy.eval.bench import BenchConfig, accuracy, bench
    from roadworthy.eval.bench_chart import draw
    from roadworthy.runtime.files import check_output, write_text
    from roadworthy.train.data import open_dataset

    named = {str(path): path for path in models}
    if len(named) != len(models):
        raise BadInput("a model is named twice; name each once")
    if metric_floor is not None and data is None:
        raise BadInput("--metric-floor needs --data KIND:PATH to measure on")
    if data is not None:
        if metric_floor is None:
            raise BadInput(f"--data {data} is for --metric-floor: say what mean IoU is demanded, or leave it out")
        open_dataset(data, split)
    if output.suffix == ".svg":
        raise BadInput(f"{output}: the figures go to a JSON file, and a chart of them to an .svg beside it; name the former")
    check_output(output)
    config = BenchConfig(
        backends=_words(backends),
        against=_words(against),
        batches=_numbers(batches),
        rounds=rounds,
        warmup=warmup,
        threads=threads,
        device=device,
        cold=cold,
        roofline=roofline,
        max_seconds=max_seconds,
    )
    with progress_line("measuring") as report:
        result = bench(named, output, config, report)
    write_text(output.with_suffix(".svg"), draw(result))
    _print(result)
    console.print(f"written to {output} and {output.with_suffix('.svg')}")
    if metric_floor is not None and data is not None:
        scores = {name: accuracy(path, data, split=split, limit=images) for name, path in named.items()}
        for name, score in scores.items():
            console.print(f"{name}: mIoU {score:.4f} on {data} (data-set level, void ignored)", soft_wrap=True)
        if not all(score >= metric_floor for score in scores.values()):
            console.print(f"[bold red]below the floor of {metric_floor}[/]")
            sys.exit(1)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    words = _words(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise BadInput(f"--batch {text!r}: expected whole numbers, for example 1,4")
    return tuple(int(word) for word in words)


def _print(result: Mapping[str, Any]) -> None:
    """Write the tables and the warnings."""
    table = Table("model", "batch", "p50 ms (95 %)", "p90", "p99", "max", "jitter", "frames/s", "CPU %", "x fastest", box=None)
    for row in result["rows"]:
        low, high = row["p50_interval_ms"]
        table.add_row(
            escape(row["name"]), str(row["batch"]), f"{row['p50_ms']:.2f} ({low:.2f} to {high:.2f})", f"{row['p90_ms']:.2f}",
            f"{row['p99_ms']:.2f}", f"{row['max_ms']:.2f}", f"{row['jitter_ms']:.2f}", f"{row['frames_per_second']:.0f}",
            f"{row['cpu_percent']:.0f}", f"{row['ratio_to_fastest']['value']:.2f}",
        )  # fmt: skip
    wide = console if console.is_terminal else Console(highlight=False, width=170)  # a log has no edge
    wide.print(table)
    columns = (
        "model",
        "batch",
        "in",
        "compute",
        "out",
        "post ms",
        "cold s",
        "load s",
        "RSS MB",
        "file MB",
        "GFLOP/s",
        "of peak",
    )
    inside = Table(*columns, box=None)
    for row in result["rows"]:
        if row["kind"] != "roadworthy":
            continue
        stages, cold, roof = row["stages_ms"], row.get("cold_start"), row.get("roofline", {})
        inside.add_row(
            escape(row["name"]), str(row["batch"]),
            *(f"{stages[name]:.3f}" for name in ("copy_in", "compute", "copy_out", "post")),
            *((f"{cold['total_s']:.2f}", f"{cold['load_s']:.2f}", f"{cold['memory_mb']:.0f}") if cold else ("", "", "")),
            f"{row['file_bytes'] / 2**20:.1f}",
            *((f"{roof['gflops']:.0f}", f"{100 * roof['compute_fraction']:.0f} %") if "gflops" in roof else ("", "")),
        )  # fmt: skip
    wide.print(inside)
    facts, peak = result["machine"], result["peak"]
    console.print(f"on {facts['cpu']}, {facts['usable_cores']} usable cores; uint8 frames in to labels out")
    if peak is not None:
        console.print(
            f"measured peak with {peak['threads']} threads: {peak['gflops']:.0f} GFLOP/s in a float32 matrix product, "
            f"{peak['copy_gb_per_s']:.1f} GB/s in a copy"
        )
    for row in result["rows"]:
        if row.get("reason"):
            console.print(f"{row['name']}: {row['backend']}, {row['reason']}", soft_wrap=True, markup=False)
    for warning in result["warnings"]:
        console.print(f"[yellow]noisy:[/] {escape(warning)}", soft_wrap=True)
