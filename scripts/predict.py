"""`roadworthy predict`: what a model sees, for image files, videos, cameras and CARLA: overlays, raw ids, video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import console

if TYPE_CHECKING:
    from roadworthy.runtime import Segmenter
    from roadworthy.runtime.stream import Captured, Policy


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("predictions"), show_default=True,
              help="Folder for the overlays.")  # fmt: skip
@click.option("--video", type=click.Path(path_type=Path), help="Write one video (.mp4) of overlays instead of a folder.")
@click.option("--ids", is_flag=True, help="Also write the train ids as PNG, at the image's size.")
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="How much the colours cover.")
@click.option("--frames", type=click.IntRange(1), help="Stop after this many results.")
@click.option("--policy", type=click.Choice(["fresh", "lossless"]),
              help="fresh drops frames that come while the network is busy.  [default: fresh for cameras]")  # fmt: skip
@click.option("--deadline-ms", type=click.FloatRange(0, min_open=True), help="Count frames older than this as late.")
@click.option("--calibrate-confidence", is_flag=True,
              help="Write no pictures: store these frames' mean confidence beside MODEL, to flag others.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, help="auto, onnxruntime, openvino or tensorrt.")
def command(
    model: Path,
    sources: tuple[str, ...],
    output: Path,
    video: Path | None,
    ids: bool,
    alpha: float,
    frames: int | None,
    policy: Policy | None,
    deadline_ms: float | None,
    calibrate_confidence: bool,
    device: str,
    backend: str,
) -> None:
    """Segment SOURCES with MODEL and write colour overlays.

    SOURCES are images and folders of images, or one video file, camera:0 (a camera of this machine) or carla:HOST:PORT (a
    camera on the ego car of a running CARLA server).

    Example: roadworthy predict runs/enet-gambling-seed0/model.onnx photos/ --output overlays
    """
    from roadworthy.runtime import load
    from roadworthy.runtime.confidence import ConfidenceReference, write_reference
    from roadworthy.runtime.files import check_output
    from roadworthy.runtime.predict import predict_files, predict_stream
    from roadworthy.runtime.stream import Stream

    check_output(output, folder=True)
    if video is not None:
        check_output(video)
    segmenter = load(model, device, backend=backend)
    console.print(f"{segmenter.backend}: {segmenter.reason}", soft_wrap=True)
    fps, captured, live = _open(sources, segmenter)
    chosen: Policy = policy or ("fresh" if live else "lossless")
    if calibrate_confidence:
        segmenter.positions(("confidence",))
        stream = Stream(segmenter, captured, policy="lossless", outputs=("confidence",))
        means = (result.mean_confidence for result, _ in zip(stream, _count(frames), strict=False))
        reference = ConfidenceReference.measure(mean for mean in means if mean is not None)
        path = write_reference(model, reference)
        console.print(
            f"{path}: mean confidence {reference.p50:.3f}, 98 % of the frames within {reference.p01:.3f} to {reference.p99:.3f}"
        )
        return
    if fps is None and video is None and frames is None:
        for option, value in (("--policy", policy), ("--deadline-ms", deadline_ms)):
            if value is not None:
                raise BadInput(f"{option} is for a stream of frames; with images it needs --video or --frames")
        for result in predict_files(segmenter, [Path(name) for name in sources], output, raw_ids=ids, alpha=alpha):
            largest = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(result.shares.items())[:3])
            sure = "" if result.mean_confidence is None else f"; mean confidence {result.mean_confidence:.2f}"
            console.print(f"{result.overlay}: {largest}{sure}", soft_wrap=True)
            if result.unusual is not None:
                console.print(f"[yellow]unusual:[/] {result.source}: {result.unusual}", soft_wrap=True)
        return
    stats = predict_stream(
        segmenter, captured, output, video=video, fps=fps, raw_ids=ids, alpha=alpha, policy=chosen, deadline_ms=deadline_ms,
        limit=frames,
    )  # fmt: skip
    figures = stats.summary()
    console.print(f"written to {video or output}: {stats.delivered} of {stats.captured} frames, {stats.dropped} dropped")
    for stage in ("capture", "wait", "segment", "read", "age"):
        if f"{stage}_p50_ms" in figures:
            console.print(f"  {stage:8s} p50 {figures[f'{stage}_p50_ms']:7.2f} ms  p99 {figures[f'{stage}_p99_ms']:7.2f} ms")
    if deadline_ms is not None:
        console.print(f"{stats.late} frames were older than {deadline_ms:g} ms")
    if stats.unusual:
        console.print(f"[yellow]unusual:[/] {stats.unusual} frames have a mean confidence that known frames do not have")


def _open(sources: tuple[str, ...], segmenter: Segmenter) -> tuple[float | None, Iterable[Captured], bool]:
    """Return frames per second (None for images), the frames, and whether they come live."""
    from roadworthy.runtime.predict import ImageFiles, expand_images
    from roadworthy.runtime.video import VIDEO_SUFFIXES, read_camera, read_video

    moving = [name for name in sources if name.startswith(("camera:", "carla:")) or Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if moving and len(sources) > 1:
        raise BadInput(f"{moving[0]} is a video: give it alone, or give images only")
    if not moving:
        return None, ImageFiles(expand_images([Path(name) for name in sources])), False
    kind, _, where = moving[0].partition(":")
    if kind == "camera":
        return (*read_camera(where), True)
    if kind == "carla":
        from roadworthy.agent.live import live_frames

        return 1.0, live_frames(where, segmenter.metadata.width, segmenter.metadata.height), True
    return (*read_video(moving[0]), False)


def _count(limit: int | None) -> Iterable[int]:
    """Count up to `limit`, or for ever."""
    from itertools import count

    return count() if limit is None else range(limit)
