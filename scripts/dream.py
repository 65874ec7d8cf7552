"""`roadworthy dream`: layouts from noise, painted as frames, to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roadworthy.scripts.terminal import ImageSize, console, progress_line


@click.group()
def command() -> None:
    """Dream labelled frames: layouts from noise (roadworthy layouts train), painted by a pix2pix translator.

    Example: roadworthy dream train --data recording:recordings/grid, then roadworthy dream paint, and train with the pairs:
    roadworthy train --data recording:recordings/grid --data dream:dreams --mix 0.2
    """


@command.command()
@click.option("--data", required=True, help="Labelled frames to learn painting from, as KIND:PATH; those of the layouts.")
@click.option("--size", type=ImageSize(), default="256x128", show_default=True, help="Of the frames.")
@click.option("--width", type=click.IntRange(1), default=64, show_default=True,
              help="Channels of the U-Net's first block; the cost grows with its square.")  # fmt: skip
@click.option("--l1-weight", type=float, default=100.0, show_default=True, help="Of the difference beside the adversary.")
@click.option("--learning-rate", type=float, default=2e-4, show_default=True, help="Of both players.")
@click.option("--steps", type=click.IntRange(1), default=20_000, show_default=True, help="Updates, of one frame each.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, dropout and order.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.  [default: torch's choice]")
@click.option("--checkpoint-every", type=click.IntRange(1), default=500, show_default=True,
              help="Updates between resumable checkpoints, each with a sheet of samples.")  # fmt: skip
@click.option("--tensorboard/--no-tensorboard", default=True, help="Write loss curves and pictures.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/translator-DATA-seedN]")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the same training.")
def train(output: Path | None, resume: bool, **options: Any) -> None:
    """Train the translator from label maps to frames (U-Net + PatchGAN, l1 + GAN) and write a run folder.

    Ctrl-C stops after the current update and its checkpoint; --resume goes on from there.

    Example: roadworthy dream train --data recording:recordings/grid
    """
    from roadworthy.train.translation import TranslatorConfig, train_translator

    config = TranslatorConfig(**options)
    output = output or Path("runs") / f"translator-{config.data.partition(':')[0]}-seed{config.seed}"
    with progress_line(f"translator {output.name}") as report:
        train_translator(config, output, progress=report, resume=resume)
    console.print(f"{output}: labels, painted and real frames in {output / 'samples.png'}", soft_wrap=True)


@command.command()
@click.option("--layouts", required=True, type=click.Path(path_type=Path), help="Run folder of roadworthy layouts train.")
@click.option("--translator", required=True, type=click.Path(path_type=Path), help="Run folder of roadworthy dream train.")
@click.option("-n", "--count", type=click.IntRange(1), default=500, show_default=True, help="Pairs to dream.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of noise and dropout.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("dreams"), show_default=True)
def paint(layouts: Path, translator: Path, count: int, seed: int, output: Path) -> None:
    """Write dreamt pairs of images and labels into a folder; goes on where it was interrupted.

    Example: roadworthy dream paint --layouts runs/layouts-recording-seed0 --translator runs/translator-recording-seed0
    """
    from roadworthy.train.dreams import Dream, write_dreams

    with progress_line("dreaming") as report:
        write_dreams(Dream(str(layouts), str(translator), count, seed), output, progress=report)
    console.print(f"{count} pairs in {output}, some of them in {output / 'pairs.png'}", soft_wrap=True)
    console.print(f"Next: roadworthy train --data recording:... --data dream:{output} --mix 0.2", soft_wrap=True)
