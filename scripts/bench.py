"""`roadworthy bench`: the latency of models on this machine, measured side by side."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import console, progress_line


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(10), default=200, show_default=True, help="Timed calls per model.")
@click.option("--warmup", type=click.IntRange(0), default=20, show_default=True, help="Untimed calls per model before.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all physical cores]")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("latency.json"), show_default=True,
              help="JSON file.")  # fmt: skip
def command(models: tuple[Path, ...], rounds: int, warmup: int, threads: int | None, output: Path) -> None:
    """Time one frame at a time through each of MODELS, interleaved: p50, p90, p99, frames per second.

    Example: roadworthy bench runs/*/model.onnx
    """
    from roadworthy.eval.latency import measure_latency

    named = {str(path): path for path in models}
    if len(named) != len(models):
        raise BadInput("a model is named twice; name each once")
    with progress_line("measuring") as report:
        result = measure_latency(named, output, rounds=rounds, warmup=warmup, threads=threads, progress=report)
    table = Table("model", "frame", "p50 ms (95 %)", "p90 ms", "p99 ms", "frames/s", "backend", box=None)
    for name, row in result["models"].items():
        low, high = row["p50_interval_ms"]
        table.add_row(
            name,
            f"{row['size'][1]}x{row['size'][0]}",
            f"{row['p50_ms']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['p90_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['fps']:.0f}",
            row["backend"],
        )
    console.print(table)
    machine = result["machine"]
    console.print(
        f"on {machine['cpu']}, {machine['usable_cores']} usable cores; one frame per call, uint8 frame in to labels out"
    )
    for name, row in result["models"].items():
        if row["noise"]:
            console.print(f"[yellow]noisy:[/] {name}: {row['noise']}", soft_wrap=True)
    console.print(f"written to {output}")
