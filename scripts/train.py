"""`roadworthy train`: a segmenter, a data set, an objective -> a run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import ImageSize, console, progress_line

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
# Options that are the command line's own; every other one is a field of `TrainConfig` of the same name.
AUGMENTATION = ("flip", "scale", "jitter")


class ScaleRange(click.ParamType[tuple[float, float]]):
    """Two zoom factors written MIN-MAX."""

    name = "MIN-MAX"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Turn "0.8-1.4" into (0.8, 1.4)."""
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition("-")
        try:
            return float(low), float(high or low)
        except ValueError:
            self.fail(f"{value!r} is not a range of zoom factors; expected MIN-MAX, for example 0.8-1.4", param, ctx)


@click.command()
@click.option("--data", required=True, multiple=True,
              help="What to learn from, as KIND:PATH: camvid, cityscapes, gta5, synthia, recording, dream, or folder (images, "
                   "labels and classes.yaml). Given twice, the second is mixed into the first: see --mix.")  # fmt: skip
@click.option("--mix", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="Share of the training samples that are from the second --data.")  # fmt: skip
@click.option("--validation", help="What to score on, as --data.  [default: the validation split of --data]")
@click.option("--target", help="Frames to adapt to, whose labels are never read: as --data, or images:FOLDER.")
@click.option("--classes", help="Taxonomy to learn in, where the data are labelled in another: camvid, cityscapes, carla13.")
@click.option("--preset", help="Every figure of a published training, unless given here: see --list-presets.")
@click.option("--list-presets", is_flag=True, is_eager=True, expose_value=False, callback=lambda ctx, _, on: _presets(ctx, on),
              help="Show the presets and exit.")  # fmt: skip
@click.option("--model", default="enet", show_default=True, help="The segmenter.")
@click.option(
    "--objective",
    default="cross-entropy",
    show_default=True,
    help="cross-entropy, focal, importance-aware, adversarial, el-gan, gambling or wasserstein, with options and sums: "
    "'cross-entropy + 0.5*wasserstein(metric=huber)'. For a --target also the terms minent, advent and scene-adaptation: "
    "'cross-entropy + advent', and self-training(loss=cross-entropy, divergence, wasserstein or l1) on --pseudo-labels.",
)
@click.option("--pseudo-labels", type=click.Choice(["cbst", "lrent", "mrkld"]),
              help="Train in rounds: label the target with the last network (first --init), learn, and again.")  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of --pseudo-labels, of --steps each."
)
@click.option("--ground", default="severity", show_default=True,
              help="Ground matrix of the Wasserstein objective: severity, importance, or a ground.yaml file.")  # fmt: skip
@click.option("--init", type=click.Path(path_type=Path), help="A run folder whose weights to start from (pre-training).")
@click.option("--backbone-weights", metavar="FILE.safetensors",
              help="Pre-trained weights of the encoder, or imagenet for those of an installed package.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True, help="Updates of the segmenter.")
@click.option("--epochs", type=float, help="Passes of the segmenter through the data, instead of --steps.")
@click.option("--batch", "batch_size", type=click.IntRange(1), default=8, show_default=True,
              help="Frames per update, over all processes and parts.")  # fmt: skip
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True,
              help="Work through a batch in so many parts, to save memory.")  # fmt: skip
@click.option("--size", type=ImageSize(), default="256x128", show_default=True, help="Size that frames are resized to.")
@click.option("--crop", type=ImageSize(), help="Learn from random crops of this size.  [default: whole frames]")
@click.option("--flip", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Probability of a left-right flip.")
@click.option("--scale", type=ScaleRange(), default="0.8-1.4", show_default=True, help="Random zoom factors.")
@click.option("--jitter", type=click.FloatRange(0, 1), default=0.2, show_default=True,
              help="Random brightness, contrast and saturation, up to this fraction.")  # fmt: skip
@click.option("--optimiser", type=click.Choice(["adam", "sgd"]), default="adam", show_default=True)
@click.option("--learning-rate", type=float, default=5e-4, show_default=True, help="At the first step.")
@click.option("--schedule", type=click.Choice(["linear", "poly", "constant"]), default="linear", show_default=True,
              help="How the learning rate falls.")  # fmt: skip
@click.option("--weight-decay", type=float, default=2e-4, show_default=True, help="L2, of segmenter and critic.")
@click.option("--batch-norm", type=click.Choice(["local", "sync", "frozen"]), default="local", show_default=True,
              help="Statistics of each process's part, of the whole batch (GPUs), or those that are stored.")  # fmt: skip
@click.option("--ema", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Average the weights with this decay per update, and keep the average.")  # fmt: skip
@click.option("--selection", type=click.FloatRange(0, 0.5), default=0.0, show_default=True,
              help="Hold this share of the training frames out, and keep the checkpoint that does best on them instead of the "
                   "last one. The validation frames are never chosen by.")  # fmt: skip
@click.option("--select-every", type=click.IntRange(1), default=500, show_default=True,
              help="Iterations between two scorings of the selection.")  # fmt: skip
@click.option("--patience", type=click.IntRange(1), help="Stop after so many scorings without a better one.")
@click.option("--skip-bad", is_flag=True, help="Go on without the samples that cannot be read, and say how many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="32", show_default=True,
              help="Of the networks' arithmetic; 16 needs a GPU.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.  [default: torch's choice]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads that read and vary frames.")
@click.option("--checkpoint-every", type=click.IntRange(1), default=200, show_default=True,
              help="Iterations between resumable checkpoints.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/MODEL-OBJECTIVE-seedN]")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the same training.")
def command(
    output: Path | None, resume: bool, preset: str | None, pseudo_labels: str | None, rounds: int, **options: Any
) -> None:
    """Train a segmenter and write a run folder (weights, configuration, curves, metrics).

    Ctrl-C stops after the current update and its checkpoint; --resume goes on from there. On several GPUs or processes:
    torchrun --nproc-per-node N -m roadworthy.scripts.cli train ...

    Example: roadworthy train --data recording:recordings/grid --init runs/enet-cross-entropy-seed0 --objective wasserstein

    Adapting: roadworthy train --data recording:recordings/grid --classes camvid --validation camvid:data/camvid
    --target camvid:data/camvid --objective 'cross-entropy + advent'
    """
    from roadworthy.train.config import TrainConfig
    from roadworthy.train.fit import fit
    from roadworthy.train.rounds import RoundsPlan, default_objective, self_train

    context = click.get_current_context()
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if "mix" in given and len(options["data"]) == 1:
        raise BadInput("--mix is the share of a second --data, expected that too, for instance --data dream:dreams")
    if "select_every" in given and not options["selection"]:
        raise BadInput("--select-every is between scorings of the frames held out with --selection, expected that too")
    if pseudo_labels is None and context.get_parameter_source("rounds") is not ParameterSource.DEFAULT:
        raise BadInput("--rounds is of --pseudo-labels, expected that too, for instance --pseudo-labels lrent")
    fields = _fields(options)
    config = replace(TrainConfig(data=fields["data"]), **fields)
    if preset is not None:
        config = _with_preset(config, preset, given)
    if pseudo_labels is not None and "objective" not in given:
        config = replace(config, objective=default_objective(pseudo_labels))
    output = output or Path("runs") / f"{config.model}-{_folder_name(config.objective)}-seed{config.seed}"
    with progress_line(f"training {output.name}") as report:
        if pseudo_labels is None:
            result = fit(config, output, progress=report, resume=resume)
        else:
            result = self_train(config, RoundsPlan(pseudo_labels, rounds), output, progress=report, resume=resume)[-1]
            output = result.run
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks
        return
    scores = result.validation
    console.print(f"{output}: mIoU {100 * scores.mean_iou:.1f} % on {scores.frames} validation frames (data-set level, void")
    console.print(f"ignored) after {result.steps} updates, {result.seconds:.0f} s. Next: roadworthy export {output}")
    if result.selected is not None and result.selected.iteration >= 0:
        console.print(f"The weights are those of iteration {result.selected.iteration}, best on the selection frames.")
    if result.skipped:
        console.print(f"{result.skipped} samples could not be used and were left out.")


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the command line's options into fields of `TrainConfig`."""
    from roadworthy.train.data.augment import Augmentation

    fields = {name: value for name, value in options.items() if name not in AUGMENTATION}
    if len(options["data"]) > 2:
        raise BadInput(f"--data is given {len(options['data'])} times, expected once, or twice to mix the second in")
    fields["data"], fields["mixed"] = (*options["data"], None)[:2]
    low, high = options["scale"]
    fields["augmentation"] = Augmentation(options["flip"], low, high, options["jitter"])
    fields["precision"] = PRECISIONS[options["precision"]]
    fields["init"] = None if options["init"] is None else str(options["init"])
    return fields


def _with_preset(config: Any, name: str, given: set[str]) -> Any:
    """Return `config` with a preset's figures for every option that was not given."""
    from roadworthy.train.presets import get_preset

    changes = get_preset(name).changes()
    if given & {"steps", "epochs"}:
        changes.pop("epochs")
    if given & set(AUGMENTATION):
        own, published = config.augmentation, changes["augmentation"]
        low, high = (own.scale_min, own.scale_max) if "scale" in given else (published.scale_min, published.scale_max)
        flip, jitter = (getattr(own if part in given else published, part) for part in ("flip", "jitter"))
        changes["augmentation"] = replace(published, flip=flip, scale_min=low, scale_max=high, jitter=jitter)
    if "learning_rate" in given:
        changes.pop("critic_learning_rate")
    return replace(config, **{field: value for field, value in changes.items() if field not in given})


def _presets(context: click.Context, on: bool) -> None:
    if not on:
        return
    from roadworthy.train.presets import PRESETS

    for name, preset in PRESETS.items():
        console.print(f"{name}: {preset.about}", soft_wrap=True)
    context.exit()


def _folder_name(objective: str) -> str:
    """Turn an objective's text into a folder name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in objective).strip("-")
