"""`roadworthy export`: a training run becomes one ONNX file, checked against torch."""

from __future__ import annotations

from pathlib import Path

import click

from roadworthy.scripts.terminal import ImageSize, console

OUTPUTS = ("labels", "confidence", "latent")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="ONNX file to write.  [default: RUN/model.onnx]")
@click.option("--size", type=ImageSize(), help="Frame size of the model, e.g. 256x128.  [default: the training size]")
@click.option(
    "--outputs",
    default=",".join(OUTPUTS),
    show_default=True,
    help="What the graph returns; --outputs latent leaves the decoder out (what the driving agent runs).",
)
@click.option("--frames", help="Data to check the export on, e.g. camvid:PATH.  [default: the run's own data]")
@click.option("--min-agreement", type=click.FloatRange(0, 1), default=0.999, show_default=True,
              help="Refuse the export when fewer pixels agree with torch.")  # fmt: skip
@click.option("--opset", type=click.IntRange(18, 23), default=20, show_default=True, help="ONNX operator set.")
@click.option("--licence", default="unknown", show_default=True, help="Licence of the model, stored in its metadata.")
def command(
    run: Path,
    output: Path | None,
    size: tuple[int, int] | None,
    outputs: str,
    frames: str | None,
    min_agreement: float,
    opset: int,
    licence: str,
) -> None:
    """Export the training run RUN to ONNX: uint8 frames in; labels, confidence and latent out.

    Pre-processing, network, upsampling, argmax and max-probability are in the graph. The file is compared with torch on
    real frames and deleted when it does not agree.

    Example: roadworthy export runs/enet-gambling
    """
    from roadworthy.export.onnx import export_onnx

    output = output or run / "model.onnx"
    report = export_onnx(
        run,
        output,
        size=size,
        outputs=tuple(name.strip() for name in outputs.split(",")),
        min_agreement=min_agreement,
        data=frames,
        opset=opset,
        licence=licence,
    )
    console.print(f"{output}: {report.file_bytes / 2**20:.1f} MiB, opset {report.opset}, {report.seconds:.1f} s")
    parity = report.parity
    agreement = "" if parity.agreement is None else f", {parity.agreement:.5f} of the labels agree with torch"
    console.print(f"checked on {parity.frames} frames of {report.frames_source}{agreement}")
