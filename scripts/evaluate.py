"""`roadworthy evaluate`: a model's metrics on labelled data, each with its interval."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from roadworthy.scripts.terminal import console, progress_line


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, help="Labelled data as KIND:PATH: camvid, cityscapes, gta5, synthia, recording, folder, dream."
)
@click.option("--split", help="train, val or test, if the data have it.  [default: the data's own choice]")
@click.option("--ground", type=click.Path(path_type=Path),
              help="Ground matrix file for the expected severity.  [default: the shipped severity; for classes of your own, "
              "their importance groups]")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file.  [default: MODEL.evaluation.json]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all physical cores]")
def command(model: Path, data: str, split: str | None, ground: Path | None, output: Path | None, threads: int | None) -> None:
    """Score MODEL on labelled data: mIoU, BF-score, Hausdorff, mean max-probability, expected severity.

    Example: roadworthy evaluate runs/enet-gambling-seed0/model.onnx --data camvid:data/camvid --split val
    """
    from roadworthy.eval.evaluate import evaluate
    from roadworthy.runtime import load
    from roadworthy.train.ground import load_ground

    matrix = None if ground is None else load_ground(ground, load(model, "cpu").metadata.lookup_taxonomy())
    output = output or model.with_suffix(".evaluation.json")
    with progress_line("evaluating") as report:
        result = evaluate(model, data, output, split=split, ground=matrix, threads=threads, progress=report)
    table = Table("metric", "value", "95 % interval", box=None)
    for name, metric in result["metrics"].items():
        table.add_row(name, _number(metric["value"]), f"{_number(metric['low'])} to {_number(metric['high'])}")
    console.print(table)
    console.print(f"{result['images']} images. {result['convention']}.")
    console.print(f"per class, per image and the confusion matrix: {output}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
