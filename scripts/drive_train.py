"""`roadworthy drive train` and `drive export`: learn by driving, and take the policy to the vehicle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from roadworthy.scripts.terminal import console, progress_line

if TYPE_CHECKING:
    from roadworthy.agent.algorithms import Algo

ALGOS = ("a2c", "ppo", "sac")  # those of agent.algorithms, which takes seconds to import
ENVIRONMENTS = 10  # the paper's workers


@click.command()
@click.option("--segmenter", required=True, type=click.Path(path_type=Path),
              help="Exported model with a latent output (fastest: export --outputs latent), or truth.")  # fmt: skip
@click.option("--algo", type=click.Choice(ALGOS), default="a2c", show_default=True, help="The learner.")
@click.option("--start", type=click.Path(path_type=Path), help="A driver to improve.  [default: an untrained policy]")
@click.option("--town", "towns", multiple=True, default=("Grid01",), show_default=True,
              help="The map to drive in; repeatable: each world draws one.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=20_000, show_default=True,
              help="Environment steps of 0.1 s, of all environments together.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes with a town each.")
@click.option("--egos", type=click.IntRange(1), help=f"Cars in each town.  [default: as many as make {ENVIRONMENTS} in all]")
@click.option(
    "--replay", type=click.IntRange(1), default=10_000, show_default=True, help="Steps that SAC's replay buffer holds."
)
@click.option("--vehicles", type=click.IntRange(0), default=15, show_default=True, help="Other cars, at most.")
@click.option("--walkers", type=click.IntRange(0), default=15, show_default=True, help="Pedestrians, at most.")
@click.option(
    "--observation", default="latents", show_default=True, help="latents, or segmentation-depth (the driver of Table V)."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("drivers/trained"), show_default=True)
@click.option("--carla", help="HOST:PORT of running CARLA servers, one per worker, with commas.  [default: embedded towns]")
def train(
    segmenter: Path,
    algo: Algo,
    start: Path | None,
    towns: tuple[str, ...],
    steps: int,
    workers: int,
    egos: int | None,
    replay: int,
    vehicles: int,
    walkers: int,
    observation: str,
    seed: int,
    output: Path,
    carla: str | None,
) -> None:
    """Learn by driving, from an imitated driver or from nothing; the same command goes on where it was interrupted.

    Examples: roadworthy drive train --segmenter model.onnx --start drivers/imitated --steps 20000;
    roadworthy drive train --segmenter model.onnx --algo ppo --steps 100000 -o drivers/ppo
    """
    from dataclasses import replace

    from roadworthy.agent.algorithms import LearnConfig
    from roadworthy.agent.outlook import View, camera_for
    from roadworthy.agent.replay import describe_memory
    from roadworthy.agent.rules import DriveConfig
    from roadworthy.agent.train_driver import CURVE_FILE, Training, train_driver

    world = DriveConfig(
        town=towns[0], towns=towns if len(towns) > 1 else (), carla=carla, vehicles=(0, vehicles), walkers=(0, walkers)
    )
    workers = len(carla.split(",")) if carla else workers
    settings = LearnConfig.scratch(algo, steps, seed) if start is None else LearnConfig.fine_tune(steps, seed, algo)
    settings = replace(settings, replay_steps=replay)
    if algo == "sac":
        fitted = replace(world, rig=camera_for(segmenter))
        console.print(describe_memory(View(observation, segmenter).observers(fitted)[0].space, replay))
    training = Training(settings, world, observation, workers, egos or max(1, ENVIRONMENTS // workers))
    with progress_line("learning") as report:
        facts = train_driver(segmenter, output, training, start=start, progress=report)["reinforcement"]
    mean = "" if facts["mean_return"] is None else f", mean return of the last ones {facts['mean_return']:.1f}"
    console.print(f"{output}: {facts['steps']} steps, {facts['episodes']} episodes{mean}; curve: {output / CURVE_FILE}")


@click.command()
@click.argument("driver", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="ONNX file.  [default: DRIVER/policy.onnx]")
def export(driver: Path, output: Path | None) -> None:
    """Write DRIVER's policy as ONNX, checked against torch on observations of its training: it then drives without torch.

    Use it with roadworthy.runtime.policy, or as the driver of drive eval.

    Example: roadworthy drive export drivers/trained -o policy.onnx
    """
    from roadworthy.agent.policy import load_examples, load_policy
    from roadworthy.agent.policy_export import export_policy

    policy, facts = load_policy(driver)
    known = {"segmenter": str(facts.get("segmenter", "unknown"))}
    report = export_policy(policy, output or driver / "policy.onnx", load_examples(driver), known)
    console.print(
        f"{report.path}: {report.file_bytes / 1e6:.1f} MB; on {report.observations} observations of its training its controls "
        f"are within {report.worst_error:.1e} of torch's"
    )
