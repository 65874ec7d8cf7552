"""`roadworthy drive replay`: drive a recorded episode again, film it, and tell whether it came out the same."""

from __future__ import annotations

from pathlib import Path

import click

from roadworthy.scripts.terminal import console, progress_line


@click.command()
@click.argument("episodes", type=click.Path(path_type=Path))
@click.option("--episode", "which", help="Which one: its number in the file, from 1, or its id.  [default: the only one]")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Video file to write (.mp4).  [default: beside EPISODES, named after the episode]")  # fmt: skip
@click.option("--segmenter", type=click.Path(path_type=Path),
              help="The model the driver looks through.  [default: the recorded path]")  # fmt: skip
@click.option("--driver", type=click.Path(path_type=Path), help="The driver.  [default: the recorded path]")
@click.option("--paint", type=click.Path(path_type=Path),
              help="Model with labels for the film.  [default: the segmenter, NAME.onnx beside NAME.encoder.onnx]")  # fmt: skip
@click.option("--carla", help="HOST:PORT of a running CARLA server.  [default: start the embedded town]")
def replay(
    episodes: Path,
    which: str | None,
    output: Path | None,
    segmenter: Path | None,
    driver: Path | None,
    paint: Path | None,
    carla: str | None,
) -> None:
    """Drive one of EPISODES (a file written by drive eval or compare) again and film it: camera, prediction, map, figures.

    Town, route, weather, traffic and driver are those that its line names. On the embedded town with the same versions and
    files it comes out the same; where it does not, the differences are listed and the exit status is 1.

    Example: roadworthy drive replay studies/quick/episodes/wasserstein-s0-p0-Crooked01.jsonl --episode 3 -o third.mp4
    """
    from roadworthy.agent.witness import sights_folder
    from roadworthy.eval.replay import pick_episode
    from roadworthy.eval.replay import replay as drive_again
    from roadworthy.runtime.errors import RoadworthyError

    episode = pick_episode(episodes, which)
    output = output or episodes.parent / f"{sights_folder(episodes, episode.id).name}.mp4"
    with progress_line("replaying") as report:
        result = drive_again(
            episode, episodes, film=output, model=segmenter, policy=driver, painter=paint, carla=carla, progress=report
        )
    console.print(f"{output}: {result.driven.duration_s:.0f} s of {episode.id}", soft_wrap=True)
    for text in result.circumstances:
        console.print(f"  other than recorded: {text}", soft_wrap=True)
    if not result.same:
        raise RoadworthyError("; ".join(["the replay came out otherwise than recorded", *result.differences]))
    faults = len(episode.infractions)
    console.print(
        f"  the same as recorded: {episode.ended} after {episode.distance_m:.2f} m and {episode.duration_s:.1f} s, "
        f"{faults} infraction{'s' * (faults != 1)}"
    )
