"""`roadworthy train`: a segmenter, a data set, an objective -> a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from roadworthy.scripts.terminal import ImageSize, console, progress_line


@click.command()
@click.option("--data", required=True, help="What to learn from: camvid:PATH or recording:PATH.")
@click.option("--validation", help="What to score on, as --data.  [default: the validation split of --data]")
@click.option("--model", default="enet", show_default=True, help="The segmenter.")
@click.option(
    "--objective",
    default="cross-entropy",
    show_default=True,
    help="cross-entropy, gambling or wasserstein, with options and sums: 'cross-entropy + 0.5*wasserstein(metric=huber)'.",
)
@click.option("--ground", default="severity", show_default=True,
              help="Ground matrix of the Wasserstein objective: severity, importance, or a ground.yaml file.")  # fmt: skip
@click.option("--init", type=click.Path(path_type=Path), help="A run folder whose weights to start from (pre-training).")
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True, help="Updates of the segmenter.")
@click.option("--batch", "batch_size", type=click.IntRange(1), default=8, show_default=True, help="Frames per update.")
@click.option("--size", type=ImageSize(), default="256x128", show_default=True, help="Size that frames are resized to.")
@click.option("--learning-rate", type=float, default=5e-4, show_default=True,
              help="Of Adam at the first step; falls linearly to zero.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.  [default: torch's choice]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/MODEL-OBJECTIVE-seedN]")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the same training.")
def command(output: Path | None, resume: bool, init: Path | None, **options: object) -> None:
    """Train a segmenter and write a run folder (weights, configuration, curves, metrics).

    Example: roadworthy train --data recording:recordings/grid --init runs/enet-cross-entropy-seed0 --objective wasserstein
    """
    from roadworthy.train.config import TrainConfig
    from roadworthy.train.fit import fit

    config = TrainConfig(data="", init=None if init is None else str(init))
    config = replace(config, **options)  # type: ignore[arg-type]  # click has converted every option
    output = output or Path("runs") / f"{config.model}-{_folder_name(config.objective)}-seed{config.seed}"
    with progress_line(f"training {output.name}") as report:
        result = fit(config, output, progress=report, resume=resume)
    scores = result.validation
    console.print(f"{output}: mIoU {100 * scores.mean_iou:.1f} % on {scores.frames} validation frames (data-set level, void")
    console.print(f"ignored) after {result.steps} updates, {result.seconds:.0f} s. Next: roadworthy export {output}")


def _folder_name(objective: str) -> str:
    """Turn an objective's text into a folder name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in objective).strip("-")
