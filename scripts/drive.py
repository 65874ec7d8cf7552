"""`roadworthy drive`: demonstrations, imitation, learning by driving, and closed-loop evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from roadworthy.scripts.drive_train import export, train
from roadworthy.scripts.replay import replay
from roadworthy.scripts.score import score
from roadworthy.scripts.terminal import ImageSize, console, progress_line

if TYPE_CHECKING:
    from roadworthy.agent.drive import Suite
    from roadworthy.agent.episodes import Episode

carla_option = click.option("--carla", help="HOST:PORT of a running CARLA server.  [default: start the embedded town]")
town_option = click.option("--town", default="Grid01", show_default=True, help="The map to drive in.")
vehicles_option = click.option("--vehicles", type=click.IntRange(0), default=15, show_default=True, help="Other cars.")
walkers_option = click.option("--walkers", type=click.IntRange(0), default=15, show_default=True, help="Pedestrians.")
segmenter_option = click.option("--segmenter", required=True, type=click.Path(path_type=Path),
                                help="Exported model with a latent (fastest: export --outputs latent); for a driver on "
                                     "segmentation-depth one with labels, or truth, the simulator's.")  # fmt: skip


@click.group()
def command() -> None:
    """Let a segmenter's latents drive.

    The order of the work: demonstrate (once), imitate, train (improve by driving), eval, export (for the vehicle).
    """


command.add_command(train)
command.add_command(export)
command.add_command(score)
command.add_command(replay)


@command.command()
@click.argument("output", type=click.Path(path_type=Path))
@town_option
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Steps of 0.1 s to keep.")
@vehicles_option
@walkers_option
@click.option("--blocked-share", type=click.FloatRange(0.0, 1.0), default=0.5, show_default=True,
              help="Of the routes on which a car stands until the expert has waited behind it.")  # fmt: skip
@click.option("--size", type=ImageSize(), default="256x128", show_default=True,
              help="Of the frames: what the segmenters take that will imitate on them.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@carla_option
def demonstrate(
    output: Path,
    town: str,
    steps: int,
    vehicles: int,
    walkers: int,
    blocked_share: float,
    size: tuple[int, int],
    seed: int,
    carla: str | None,
) -> None:
    """Record what an expert does on routes (frames, measurements, controls) into the folder OUTPUT, for all segmenters.

    Example: roadworthy drive demonstrate demonstrations/grid01
    """
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.demonstrations import DemonstrationConfig
    from roadworthy.agent.demonstrations import demonstrate as record_demonstrations

    config = DemonstrationConfig(
        towns=(town,),
        steps=steps,
        vehicles=vehicles,
        walkers=walkers,
        blocked_share=blocked_share,
        rig=CameraRig(width_px=size[1], height_px=size[0]),
        seed=seed,
        carla=carla,
    )
    with progress_line("demonstrating") as report:
        shown = record_demonstrations(config, output, report)
    console.print(f"{output}: {len(shown)} steps of 0.1 s")


@command.command()
@click.option("--segmenter", type=click.Path(path_type=Path),
              help="Exported model with a latent output; none for segmentation-depth: true labels.")  # fmt: skip
@click.option("--observation", default="latents", show_default=True,
              help="What the driver sees: latents, or segmentation-depth (judges any segmenter).")  # fmt: skip
@click.option("--demonstrations", required=True, type=click.Path(path_type=Path), help="Folder made by drive demonstrate.")
@click.option("--steps", type=click.IntRange(1), default=400, show_default=True, help="Updates of the policy.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("drivers/imitated"), show_default=True)
def imitate(segmenter: Path | None, observation: str, demonstrations: Path, steps: int, seed: int, output: Path) -> None:
    """Clone the expert: a policy that repeats its controls, on the segmenter's latents or on true labels and depth.

    Examples: roadworthy drive imitate --segmenter model.onnx --demonstrations demonstrations/grid01 -o drivers/gambling;
    roadworthy drive imitate --observation segmentation-depth --demonstrations demonstrations/grid01 -o drivers/judge
    """
    from roadworthy.agent.demonstrations import Demonstrations
    from roadworthy.agent.imitation import CloneConfig, clone, demonstration_latents
    from roadworthy.agent.lessons import LatentLesson, Lesson, SegDepthLesson
    from roadworthy.agent.outlook import LATENTS, OBSERVATIONS
    from roadworthy.agent.policy import save_policy
    from roadworthy.agent.segdepth import TRUTH
    from roadworthy.runtime import load
    from roadworthy.runtime.errors import BadInput

    if observation not in OBSERVATIONS or (observation == LATENTS) != (segmenter is not None and str(segmenter) != TRUTH):
        raise BadInput(
            f"--observation {observation} with --segmenter {segmenter}: expected latents with a model file, or "
            "segmentation-depth without one"
        )
    shown = Demonstrations.load(demonstrations)
    with progress_line("imitating") as report:
        lesson: Lesson
        if observation == LATENTS and segmenter is not None:
            latents = demonstration_latents(load(segmenter), shown, lambda text, done: report(text, 0.3 * done))
            lesson = LatentLesson(latents, shown)
        else:
            lesson = SegDepthLesson(shown)
        result = clone(lesson, shown, CloneConfig(steps=steps, seed=seed), lambda text, done: report(text, 0.3 + 0.7 * done))
    facts = {
        "segmenter": TRUTH if segmenter is None else segmenter.name,
        "imitation": {"loss": result.train_loss, "validation": result.validation},
    }
    save_policy(result.policy, output, facts, result.examples)
    errors = ", ".join(f"{name} {value:.3f}" for name, value in result.validation.items() if name != "samples")
    known = (
        f"mean absolute error on unseen episodes: {errors}" if errors else "too few demonstrations to keep some for validation"
    )
    console.print(f"{output}: {known}")


@command.command(name="eval")
@click.argument("driver", type=click.Path(path_type=Path))
@segmenter_option
@click.option("--suite", help="A benchmark instead of the options below: corl2017, nocrash, quick, or a YAML file.")
@click.option("--train-town", default="Grid01", show_default=True, help="With --suite: the town the driver was trained in.")
@click.option("--new-town", default="Crooked01", show_default=True, help="With --suite: a town nothing was trained in.")
@click.option("--routes", type=click.IntRange(1), help="With --suite: at most this many routes per task.  [default: all]")
@click.option("--town", "towns", multiple=True, default=("Grid01", "Crooked01"), show_default=True,
              help="Map to drive in; may be given several times.")  # fmt: skip
@click.option("--held-out", "held_out", multiple=True, default=("Crooked01",), show_default=True,
              help="Towns that nothing was trained in.")  # fmt: skip
@click.option("--straight", type=click.IntRange(0), default=2, show_default=True, help="Straight routes per town.")
@click.option("--one-turn", type=click.IntRange(0), default=2, show_default=True, help="One-turn routes per town.")
@click.option("--navigation", type=click.IntRange(0), default=0, show_default=True, help="Longer routes per town.")
@vehicles_option
@walkers_option
@click.option("--seed", type=click.IntRange(0), default=100, show_default=True, help="Of routes, traffic and weather.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Episodes file.  [default: DRIVER/episodes.jsonl]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Drives at the same time.")
@click.option(
    "--ray", help="Drive on the Ray cluster at HOST:PORT (or auto, or local) with all its cores; needs the extra ray."
)
@click.option("--video", type=click.Path(path_type=Path), help="Folder for a film of each drive (.mp4).")
@carla_option
def evaluate(
    driver: Path,
    segmenter: Path,
    suite: str | None,
    train_town: str,
    new_town: str,
    routes: int | None,
    towns: tuple[str, ...],
    held_out: tuple[str, ...],
    straight: int,
    one_turn: int,
    navigation: int,
    vehicles: int,
    walkers: int,
    seed: int,
    output: Path | None,
    workers: int,
    ray: str | None,
    video: Path | None,
    carla: str | None,
) -> None:
    """Drive routes with DRIVER and append one line per route to an episodes file; goes on where it was interrupted.

    DRIVER is a folder made by drive imitate or train, a policy.onnx of drive export (driven without torch), or a baseline to
    beat: baseline:random, baseline:forward, baseline:brake.

    A driver on segmentation-depth drives with any --segmenter that has labels, or with --segmenter truth.

    Examples: roadworthy drive eval drivers/imitated --segmenter model.onnx --town Crooked01;
    roadworthy drive eval drivers/imitated --segmenter model.onnx --suite nocrash --routes 5
    """
    from roadworthy.agent.baselines import PREFIX, open_driver
    from roadworthy.agent.cluster import Cluster
    from roadworthy.agent.drive import Driver, evaluate_policies
    from roadworthy.agent.parallel import run_tasks
    from roadworthy.eval.suites import load_benchmark
    from roadworthy.runtime.errors import BadInput

    open_driver(driver)  # a wrong folder is found before a simulator starts
    if output is None and str(driver).startswith(PREFIX):
        raise BadInput(f"{driver} has no folder of its own: say with --output where its episodes go")
    if suite is not None:
        suites = load_benchmark(suite).suites(train_town, new_town, seed=seed, carla=carla, routes=routes)
    else:
        suites = _plain_suites(towns, held_out, straight, one_turn, navigation, vehicles, walkers, seed, carla)
    names = {each.name for each in suites}
    who = Driver(segmenter=segmenter.stem, model=segmenter, policy=driver)
    output = output or (driver.with_suffix(".episodes.jsonl") if driver.suffix == ".onnx" else driver / "episodes.jsonl")
    with ExitStack() as stack:
        run: Callable[..., list[Any]] = run_tasks
        if ray is not None:
            cluster = stack.enter_context(Cluster.open(ray, output.parent, cores=workers))
            run, workers = cluster.run_tasks, cluster.cores
        report = stack.enter_context(progress_line("driving"))
        at_once = 1 if carla else workers
        episodes = evaluate_policies([who], suites, output, workers=at_once, film=video, progress=report, run=run)
    _print_episodes([episode for episode in episodes if episode.suite in names])
    console.print(f"episodes: {output}; tables: roadworthy drive score {output}")


def _plain_suites(
    towns: tuple[str, ...],
    held_out: tuple[str, ...],
    straight: int,
    one_turn: int,
    navigation: int,
    vehicles: int,
    walkers: int,
    seed: int,
    carla: str | None,
) -> list[Suite]:
    """Make one suite per town from the command's own options."""
    from roadworthy.agent.drive import Suite
    from roadworthy.agent.routes import Task
    from roadworthy.runtime.errors import BadInput

    wanted: list[tuple[Task, int]] = [("straight", straight), ("one-turn", one_turn), ("navigation", navigation)]
    tasks = tuple((task, count) for task, count in wanted if count)
    if not tasks:
        raise BadInput("no routes to drive; ask for at least one with --straight, --one-turn or --navigation")
    return [
        Suite(
            name="cli",
            town=town,
            held_out=town in held_out,
            tasks=tasks,
            vehicles=vehicles,
            walkers=walkers,
            seed=seed,
            carla=carla,
        )
        for town in towns
    ]


def _print_episodes(episodes: list[Episode]) -> None:
    """Print one row per route."""
    table = Table("town", "task", "weather", "completed", "ended", "km", "infractions", box=None)
    for episode in episodes:
        kinds = [event.kind for event in episode.infractions]
        counted = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds))) or "none"
        completion, km = f"{100 * episode.route_completion:.0f} %", f"{episode.distance_m / 1000:.2f}"
        table.add_row(episode.town, episode.task, episode.weather, completion, episode.ended, km, counted)
    console.print(table)
