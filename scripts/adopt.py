"""`roadworthy adopt`: somebody else's segmentation network (ONNX) becomes a model of ours."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from roadworthy.scripts.terminal import ImageSize, console


class Triple(click.ParamType[tuple[float, float, float]]):
    """Three numbers, written R,G,B."""

    name = "R,G,B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float, float]:
        """Turn "0.485,0.456,0.406" into three floats."""
        try:
            red, green, blue = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not three numbers; expected R,G,B, for example 0.485,0.456,0.406", param, ctx)
        return red, green, blue


@click.command()
@click.argument("source", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="ONNX file to write.")
@click.option("--taxonomy", required=True, help="What its ids mean: cityscapes, camvid, town, carla13.")
@click.option("--mean", type=Triple(), help="Subtracted from RGB: on the 0..1 scale where no --std is above 1, else on 0..255.")
@click.option("--std", type=Triple(), help="RGB is divided by this, on the scale of --mean.")
@click.option("--layout", type=click.Choice(("NCHW", "NHWC")), default="NCHW", show_default=True, help="Of its input.")
@click.option("--bgr", is_flag=True, help="Its channels are blue, green, red.")
@click.option("--size", type=ImageSize(), help="Frame size, for a network that takes any, e.g. 512x256.")
@click.option("--output-name", help="Its output with logits or ids.  [default: the first]")
@click.option("--latent", help="Tensor or node that the driving agent sees.  [default: the deepest encoder map]")
@click.option(
    "--verify", metavar="DATA", help="Frames to check it on, with labels also by mIoU: KIND:PATH or a folder of images."
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the weights, stored in the metadata.")
def command(
    source: Path,
    output: Path,
    taxonomy: str,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    layout: str,
    bgr: bool,
    size: tuple[int, int] | None,
    output_name: str | None,
    latent: str | None,
    verify: str | None,
    licence: str,
) -> None:
    """Build the path from frame to labels around the ONNX file MODEL, and check it against MODEL with numpy around it.

    MODEL takes one image batch (floats or bytes, channels first or last) and gives logits, at any resolution, or label ids.

    Example: roadworthy adopt net.onnx --taxonomy cityscapes --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 -o model.onnx
    """
    from roadworthy.export.adopt import adopt
    from roadworthy.export.foreign import Foreign
    from roadworthy.runtime.files import check_output

    foreign = Foreign(
        taxonomy=taxonomy,
        mean=mean,
        std=std,
        layout=layout,
        bgr=bgr,
        size=size,
        output=output_name,
        latent=latent,
        licence=licence,
    )
    check_output(output)
    report = adopt(source, output, foreign, verify=verify)
    console.print(f"{output}: {report.file_bytes / 2**20:.1f} MiB, outputs {', '.join(report.outputs)}")
    parity = report.parity
    if parity is not None and parity.agreement is not None:
        score = "" if parity.miou is None else f", mIoU {100 * parity.miou:.2f}"
        console.print(
            f"checked on {parity.frames} frames of {escape(report.frames_source)}: {parity.agreement:.5f} of the labels agree "
            f"with the original{score}",
            soft_wrap=True,
        )
