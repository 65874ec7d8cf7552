"""`roadworthy record`: frames with their semantic tags, from any CARLA server."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from roadworthy.scripts.terminal import ImageSize, console, progress_line


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--town", "towns", multiple=True, default=("Grid01", "Grid02"), show_default=True,
              help="A map to drive in; may be given several times.")  # fmt: skip
@click.option(
    "--episodes", type=click.IntRange(1), default=12, show_default=True, help="Drives, spread over towns and weathers."
)
@click.option("--frames", type=click.IntRange(1), default=50, show_default=True, help="Frames kept per episode.")
@click.option("--weather", "weathers", multiple=True,
              help="A CARLA weather; may be given several times.  [default: seven to train in]")  # fmt: skip
@click.option("--vehicles", type=click.IntRange(0), default=15, show_default=True, help="Other cars on the road.")
@click.option("--walkers", type=click.IntRange(0), default=15, show_default=True, help="Pedestrians.")
@click.option("--size", type=ImageSize(), default="256x128", show_default=True, help="Size of the frames.")
@click.option("--format", "image_format", type=click.Choice(["png", "jpg"]), default="png", show_default=True,
              help="Of the colour frames.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of routes, traffic and weather.")
@click.option("--views", type=click.Path(path_type=Path), metavar="SCENES.yaml",
              help="Record fixed cameras, not a car's: this file's scenes and views, and as much as it says.")  # fmt: skip
@click.option("--carla", help="HOST:PORT of a running CARLA 0.9.16 server.  [default: start the embedded town]")
def command(
    output: Path,
    towns: tuple[str, ...],
    episodes: int,
    frames: int,
    weathers: tuple[str, ...],
    vehicles: int,
    walkers: int,
    size: tuple[int, int],
    image_format: str,
    seed: int,
    views: Path | None,
    carla: str | None,
) -> None:
    """Record colour and semantic frames from a car on CARLA's autopilot into the folder OUTPUT.

    An interrupted recording goes on when the same command is given again.

    Example: roadworthy record recordings/grid --town Grid01 --episodes 6
    """
    if views is not None:
        _record_views(views, output, carla)
        return
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.recorder import RecordConfig, record
    from roadworthy.agent.weather import TRAINING_WEATHERS

    config = RecordConfig(
        towns=towns,
        episodes=episodes,
        frames=frames,
        weathers=weathers or TRAINING_WEATHERS,
        vehicles=vehicles,
        walkers=walkers,
        seed=seed,
        rig=CameraRig(width_px=size[1], height_px=size[0]),
        image_format="jpg" if image_format == "jpg" else "png",
        carla=carla,
    )
    with progress_line("recording") as report:
        result = record(config, output, report)
    console.print(
        f"{result.folder}: {result.frames} frames ({result.new_frames} new, {result.seconds:.0f} s). "
        f"Next: roadworthy train --data recording:{result.folder}",
        soft_wrap=True,
    )


def _record_views(scenes: Path, output: Path, address: str | None) -> None:
    """Record fixed cameras; the file says all that the other options say about drives."""
    from roadworthy.agent.views import load_views, record_views

    context = click.get_current_context()
    given = [name for name in context.params if name not in ("output", "views", "carla")]
    given = [name for name in given if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if given:
        raise click.UsageError(f"with --views the file says what to record; write it there: {', '.join(given)}")
    with progress_line("recording") as report:
        result = record_views(load_views(scenes), output, report, address=address)
    console.print(
        f"{output}: {result.frames} frames ({result.new_frames} new, {result.seconds:.0f} s), one recording per view:"
    )
    console.print(
        f"{', '.join(folder.name for folder in result.folders)}. Next: roadworthy train --classes carla13", soft_wrap=True
    )
    console.print(f"--data recording:{result.folders[0]} --target recording:{result.folders[-1]}", soft_wrap=True)
