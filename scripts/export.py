"""`roadworthy export`: a training run, or an ONNX file of ours, becomes a model file of any format, checked on real frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import ImageSize, console, progress_line

if TYPE_CHECKING:
    from roadworthy.export.report import ExportReport
    from roadworthy.export.wish import Wish

FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt-rtx", "triton")
SHOWN_LAYERS = 15  # of the analysis; the JSON file has all


@click.command()
@click.argument("source", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write (triton: folder).  [default: beside it]")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="onnx", show_default=True, help="What to write.")
@click.option("--precision", type=click.Choice(("fp32", "fp16", "int8")), help="Precision of the network.  [default: as it is]")
@click.option("--size", type=ImageSize(), help="Frame size of the model, e.g. 256x128.  [default: the training size]")
@click.option("--batch", help="Frames per call: 1, or min:opt:max such as 1:4:16.  [default: any; engines: 1]")
@click.option("--outputs", help="What the graph returns: labels, confidence, latent, logits; latent alone leaves the decoder "
              "out (what the driving agent runs).  [default: labels,confidence,latent]")  # fmt: skip
@click.option("--calibration", metavar="DATA", help="Frames for int8's ranges: KIND:PATH or a folder of images.  [default: the "
              "run's training data]")  # fmt: skip
@click.option("--verify", metavar="DATA", help="Frames to check the export on, with labels also by mIoU: KIND:PATH or a folder "
              "of images.  [default: the run's validation data]")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Refuse the export when fewer labels agree.  "
              "[default: 0.999 for fp32, 0.99 for fp16, 0.96 for int8]")  # fmt: skip
@click.option("--target", help="GPUs to build a tensorrt-rtx engine for, e.g. sm86,sm89,sm120; none has to be here.")
@click.option("--analyse", is_flag=True, help="Show what each layer alone costs in int8.")
@click.option("--opset", type=click.IntRange(18, 23), help="ONNX operator set, of a run.  [default: 20]")
@click.option("--licence", help="Licence of a run's model, stored in its metadata.  [default: unknown]")
def command(
    source: Path,
    output: Path | None,
    format_: str,
    precision: str | None,
    size: tuple[int, int] | None,
    batch: str | None,
    outputs: str | None,
    calibration: str | None,
    verify: str | None,
    min_agreement: float | None,
    target: str | None,
    analyse: bool,
    opset: int | None,
    licence: str | None,
) -> None:
    """Export the training run RUN, or make another format or precision of an ONNX file MODEL (which needs no torch).

    Frames uint8 in; labels, confidence and latent out: pre-processing, network, upsampling, argmax and max-probability are in
    the graph. The result is compared with torch (with MODEL) on real frames and deleted when it does not agree.

    \b
    Examples:
      roadworthy export runs/enet
      roadworthy export runs/enet --precision int8 --format openvino --verify camvid:data/camvid
      roadworthy export model.onnx --format tensorrt
      roadworthy export model.onnx --format tensorrt-rtx --target sm86,sm89
    """  # noqa: D301  # \b is click's
    from roadworthy.export.batch import parse_batch
    from roadworthy.export.convert import convert
    from roadworthy.export.wish import Wish, default_output
    from roadworthy.runtime.files import check_output

    if not source.exists():
        raise BadInput(f"{source}: no such run folder or model file")
    wish = Wish(
        format=format_,
        precision=precision,
        batch=None if batch is None else parse_batch(batch),
        outputs=None if outputs is None else tuple(name.strip() for name in outputs.split(",")),
        calibration=calibration,
        verify=verify,
        min_agreement=min_agreement,
        targets=() if target is None else tuple(name.strip() for name in target.split(",")),
        analyse=analyse,
    )
    output = output or default_output(source, wish)
    check_output(output, folder=wish.format == "triton")
    with progress_line("exporting") as report:
        if source.is_dir():
            from roadworthy.export.onnx import OPSET
            from roadworthy.export.run import export_run

            made = export_run(
                source, output, wish, size=size, opset=opset or OPSET, licence=licence or "unknown", progress=report
            )
        else:
            if size is not None or opset is not None or licence is not None:
                raise BadInput("--size, --opset and --licence are fixed in a model file; export the run again to change them")
            if source.suffix == ".engine":
                _serve_engine(source, output, wish)
                return
            made = convert(source, output, wish, progress=report)
    _show(output, made)


def _serve_engine(source: Path, output: Path, wish: Wish) -> None:
    """Put an engine into a Triton repository, the one thing that can be made of it."""
    from roadworthy.export.triton import engine_repository

    if wish.format != "triton":
        raise BadInput(
            f"{source}: an engine becomes only --format triton; make {wish.format} of the ONNX file it was built from"
        )
    console.print(f"{engine_repository(source, output)}: served by tritonserver --model-repository {output}", soft_wrap=True)


def _show(output: Path, report: ExportReport) -> None:
    """Print what was written, how faithful it is, and the layers when they were measured."""
    parity = report.parity
    console.print(f"{output}: {report.format} {report.precision}, {report.file_bytes / 2**20:.1f} MiB, {report.seconds:.1f} s")
    if parity is None:
        console.print(f"{report.ran_on}; load it on its machine to check it")
    else:
        facts = [f"checked on {parity.frames} frames of {escape(report.frames_source)} with {report.ran_on}"]
        if parity.agreement is not None:
            facts.append(f"{parity.agreement:.5f} of the labels agree")
        if parity.miou_drop is not None and parity.miou is not None:
            facts.append(f"mIoU {100 * parity.miou:.2f} ({-parity.miou_drop:+.2f} points)")
        console.print(", ".join(facts), soft_wrap=True)
    if report.float_layers:
        console.print(f"left in float: {', '.join(report.float_layers)}", soft_wrap=True)
    if report.layer_drifts:
        table = Table("layer", "weights", "labels that change", box=None)
        for drift in report.layer_drifts[:SHOWN_LAYERS]:
            table.add_row(drift.layer, drift.weights, f"{1 - drift.agreement:.4%}")
        console.print(table)
