"""`roadworthy ground`: learn what each misclassification costs, by driving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from roadworthy.scripts.terminal import console, progress_line

if TYPE_CHECKING:
    from roadworthy.train.ground import MetricKind

predefined_option = click.option("--predefined", default="severity", show_default=True,
                                 help="The matrix to begin with: severity, importance, or a ground.yaml file.")  # fmt: skip


@click.group()
def command() -> None:
    """Learn what each misclassification costs: the ground matrix of the Wasserstein loss.

    Use the result with: roadworthy train --objective wasserstein --ground GROUND.yaml
    """


@command.command()
@click.option(
    "--segmenter", required=True, type=click.Path(path_type=Path), help="Training run (folder) in the town's classes."
)
@click.option("--start", type=click.Path(path_type=Path),
              help="A driver trained on this segmenter's latents.  [default: an untrained policy]")  # fmt: skip
@click.option("--town", default="Grid01", show_default=True, help="The map to drive in.")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True, help="Of driving, fine-tuning and measuring.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Of 0.1 s driven per round.")
@click.option("--updates", type=click.IntRange(1), default=100, show_default=True, help="Of the segmenter per round.")
@click.option("--vehicles", type=click.IntRange(0), default=15, show_default=True, help="Other cars, at most.")
@click.option("--walkers", type=click.IntRange(0), default=15, show_default=True, help="Pedestrians, at most.")
@predefined_option
@click.option("--metric", type=click.Choice(["linear", "power", "huber"]), default="linear", show_default=True,
              help="Increasing function f of the distances.")  # fmt: skip
@click.option("--policy-gradient", is_flag=True,
              help="Let the policy's gradient into the segmenter's encoder too; slow without a GPU.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--carla", help="HOST:PORT of a running CARLA server.  [default: start the embedded town]")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("ground/learnt"), show_default=True)
def learn(
    segmenter: Path,
    start: Path | None,
    town: str,
    rounds: int,
    steps: int,
    updates: int,
    vehicles: int,
    walkers: int,
    predefined: str,
    metric: MetricKind,
    policy_gradient: bool,
    seed: int,
    carla: str | None,
    output: Path,
) -> None:
    """Learn the matrix together with a driver (arXiv 2008.04751, III-C); goes on where it was interrupted.

    Each round: drive and learn by A2C, fine-tune the segmenter with the Wasserstein loss on what was seen, and measure how far
    the classes lie apart in its features.

    Example: roadworthy ground learn --segmenter runs/enet-cross-entropy-seed0 --start drivers/imitated
    """
    import json

    from roadworthy.agent.env import DriveConfig
    from roadworthy.agent.ground_learning import GROUND_FILE, HISTORY_FILE, GroundConfig, learn_ground
    from roadworthy.eval.ground_page import write_ground_page
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.ground import GroundMatrix, open_ground

    world = DriveConfig(town=town, carla=carla, vehicles=(0, vehicles), walkers=(0, walkers))
    config = GroundConfig(
        rounds=rounds,
        drive_steps=steps,
        segmenter_steps=updates,
        predefined=predefined,
        kind=metric,
        policy_gradient=policy_gradient,
        world=world,
        seed=seed,
    )
    with progress_line("ground matrix") as report:
        matrix = learn_ground(segmenter, output, config, start=start, progress=report)
    history = json.loads((output / HISTORY_FILE).read_text(encoding="utf-8"))["rounds"]
    entries = [(predefined, "the matrix to begin with", open_ground(predefined, TOWN))]
    for entry in history:
        note = f"α {entry['alpha']:.2g}, {entry['frames']} frames, {len(entry['seen'])} classes seen"
        entries.append((f"round {entry['round'] + 1}", note, GroundMatrix("learnt", TOWN.name, TOWN.classes, entry["cost"])))
    write_ground_page(entries, output / "ground.html", "A ground matrix learnt by driving")
    unseen = [name for name in TOWN.classes if name not in history[-1]["seen"]]
    if unseen:
        console.print(f"hardly seen, so as predefined: {', '.join(unseen)}")
    _print_dearest(matrix)
    console.print(f"matrix: {output / GROUND_FILE}\nheat maps of every round: {output / 'ground.html'}", soft_wrap=True)


@command.command()
@click.argument("episodes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path),
              help="Exported model (with labels) of the segmenter that drove.")  # fmt: skip
@predefined_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("ground/consequence.yaml"), show_default=True)
def consequence(episodes: tuple[Path, ...], model: Path, predefined: str, seed: int, output: Path) -> None:
    """Learn the matrix from infractions: which confusions come before them more often than they should?

    EPISODES are files written by drive eval, with the frames beside them. Pairs that the drives do not support keep the
    predefined cost.

    Example: roadworthy ground consequence drivers/imitated/episodes.jsonl --model model.onnx
    """
    import json

    from roadworthy.agent.consequence import read_cases, weigh
    from roadworthy.eval.ground_page import write_ground_page
    from roadworthy.eval.sightings import predict_sights
    from roadworthy.runtime.errors import BadInput
    from roadworthy.runtime.files import write_text
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.ground import open_ground

    missing = [str(path) for path in episodes if not path.is_file()]
    if missing:
        raise BadInput(f"{', '.join(missing)}: no such episodes file; write one with roadworthy drive eval")
    before = open_ground(predefined, TOWN)
    with progress_line("looking at infractions") as report:
        for index, path in enumerate(episodes):
            report(f"file {index + 1} of {len(episodes)}", index / len(episodes))
            predict_sights(path, model)
    cases, unmatched = read_cases(episodes, seed)
    found = weigh(cases, len(TOWN), unmatched=unmatched, seed=seed)
    matrix = found.matrix(before)
    matrix.save(output)
    facts = found.to_dict()
    write_text(output.with_suffix(".json"), json.dumps({"classes": list(TOWN.classes), **facts}, indent=1))
    note = f"{facts['supported_pairs']} of {len(TOWN) * (len(TOWN) - 1)} pairs rest on data, the others on {predefined}"
    entries = [(predefined, "the matrix to begin with", before), ("by consequence", note, matrix)]
    write_ground_page(entries, output.with_suffix(".html"), "A ground matrix from infractions")
    console.print(f"{facts['infractions']} infractions, {unmatched} of them without matched quiet frames; {note}")
    table = Table("truth", "taken for", "log-odds", "95 % interval", "infractions", box=None)
    for truth, predicted in sorted(zip(*found.supported.nonzero(), strict=True), key=lambda pair: -found.log_odds[pair])[:10]:
        pair = truth, predicted
        interval = f"{found.low[pair]:.2f} to {found.high[pair]:.2f}"
        names = TOWN.classes[truth], TOWN.classes[predicted]
        table.add_row(*names, f"{found.log_odds[pair]:.2f}", interval, str(found.cases[pair]))
    if facts["supported_pairs"]:
        console.print(table)
    console.print(f"matrix: {output}\nheat maps: {output.with_suffix('.html')}", soft_wrap=True)


@command.command()
@click.option("--segmenter", required=True, type=click.Path(path_type=Path), help="Training run (folder).")
@click.option("--data", required=True, multiple=True,
              help="Labelled data in the run's classes: recording:PATH, camvid:PATH, ...; repeatable.")  # fmt: skip
@predefined_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("ground/centroids.yaml"), show_default=True)
def centroids(segmenter: Path, data: tuple[str, ...], predefined: str, output: Path) -> None:
    """Measure how far the classes lie apart in a segmenter's features, without driving: the control of ground learn.

    Example: roadworthy ground centroids --segmenter runs/enet-cross-entropy-seed0 --data recording:recordings/grid
    """
    from roadworthy.agent.ground import blend, measure_centroids
    from roadworthy.train.checkpoint import load_run
    from roadworthy.train.ground import open_ground

    network, _, taxonomy = load_run(segmenter)
    before = open_ground(predefined, taxonomy)
    with progress_line("measuring") as report:
        found = measure_centroids(network, data, progress=report)
    matrix = blend(found.distances(), before, 0.0)
    matrix.save(output)
    _print_dearest(matrix)
    console.print(f"matrix: {output}")


def _print_dearest(matrix: object) -> None:
    """Print the dearest mistakes of a ground matrix."""
    from roadworthy.train.ground import GroundMatrix

    assert isinstance(matrix, GroundMatrix)
    table = Table("truth", "taken for", "cost", box=None)
    order = matrix.cost.argsort(axis=None)[::-1][:8]
    for place in order:
        truth, predicted = divmod(int(place), len(matrix.classes))
        table.add_row(matrix.classes[truth], matrix.classes[predicted], f"{matrix.cost[truth, predicted]:.2f}")
    console.print(table)
