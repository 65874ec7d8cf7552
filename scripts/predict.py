"""`roadworthy predict`: colour overlays of a model's labels for image files."""

from __future__ import annotations

from pathlib import Path

import click

from roadworthy.scripts.terminal import console


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("predictions"), show_default=True,
              help="Folder for the overlays.")  # fmt: skip
@click.option("--ids", is_flag=True, help="Also write the train ids as PNG, at the image's size.")
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="How much the colours cover.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, onnxruntime or openvino.")
def command(model: Path, files: tuple[Path, ...], output: Path, ids: bool, alpha: float, device: str, backend: str) -> None:
    """Segment FILES (images, or folders of images) with MODEL and write colour overlays.

    Example: roadworthy predict runs/enet-gambling-seed0/model.onnx photos/ --output overlays
    """
    from roadworthy.runtime import load
    from roadworthy.runtime.predict import predict_files

    segmenter = load(model, device, backend=backend)
    for result in predict_files(segmenter, files, output, raw_ids=ids, alpha=alpha):
        largest = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(result.shares.items())[:3])
        sure = "" if result.mean_confidence is None else f"; mean confidence {result.mean_confidence:.2f}"
        console.print(f"{result.overlay}: {largest}{sure}", soft_wrap=True)
