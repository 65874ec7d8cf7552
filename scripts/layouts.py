"""`roadworthy layouts`: label maps from noise (SemGAN), and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roadworthy.scripts.terminal import ImageSize, console, progress_line

run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Learn what label maps look like, and make new ones (SemGAN, "Adversarial pixel-level generation of semantic images").

    roadworthy dream turns them into frames to train with.

    Example: roadworthy layouts train --data colored-shapes
    """


@command.command()
@click.option("--data", default="colored-shapes", show_default=True,
              help="Layouts to learn from: colored-shapes, or KIND:PATH (recording, camvid, folder, ...).")  # fmt: skip
@click.option("--rgb", is_flag=True, help="Make colours instead of classes: the plain GAN that SemGAN is compared with.")
@click.option("--size", type=ImageSize(), default="64x64", show_default=True, help="Of the layouts.")
@click.option("--latent", type=click.IntRange(1), default=100, show_default=True,
              help="Dimensions of the noise; the paper's for street scenes: 128 or 300.")  # fmt: skip
@click.option("--kernel", type=click.IntRange(3), default=11, show_default=True, help="Of the convolutions; 7 or 11, odd.")
@click.option("--width", type=click.IntRange(1), default=64, show_default=True,
              help="Channels at the largest hidden map; the cost grows with its square.")  # fmt: skip
@click.option("--batch", "batch_size", type=click.IntRange(2), default=32, show_default=True, help="Layouts per update.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True, help="Of both; 2e-4 for street scenes.")
@click.option("--steps", type=click.IntRange(1), default=50_000, show_default=True, help="Updates of both players.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, noise and order.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.  [default: torch's choice]")
@click.option("--checkpoint-every", type=click.IntRange(1), default=200, show_default=True,
              help="Updates between resumable checkpoints, each with a sheet of samples.")  # fmt: skip
@click.option("--keep-every", type=click.IntRange(1), help="Also keep the generator after every so many updates.")
@click.option("--tensorboard/--no-tensorboard", default=True, help="Write loss curves and samples.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/layouts-DATA-seedN]")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the same training.")
def train(output: Path | None, resume: bool, **options: Any) -> None:
    """Train a generator of layouts and write a run folder (generator, checkpoint, samples.png, curves).

    Ctrl-C stops after the current update and its checkpoint; --resume goes on from there.

    Example: roadworthy layouts train --data recording:recordings/grid --size 128x64 --kernel 7 --learning-rate 2e-4
    """
    from roadworthy.train.layouts import LayoutConfig, train_layouts

    config = LayoutConfig(**options)
    kind = config.data.partition(":")[0]
    output = output or Path("runs") / f"layouts-{kind}{'-rgb' if config.rgb else ''}-seed{config.seed}"
    with progress_line(f"layouts {output.name}") as report:
        train_layouts(config, output, progress=report, resume=resume)
    console.print(f"{output}: samples in {output / 'samples.png'}. Next: roadworthy layouts score {output}", soft_wrap=True)


@command.command()
@run_argument
@click.option("-n", "--count", type=click.IntRange(1), default=64, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("layouts"), show_default=True)
def sample(run: Path, count: int, seed: int, output: Path) -> None:
    """Make layouts with the generator of RUN: label images in labels/ and a sheet of them, grid.png.

    The label images hold train ids (255 = nobody labelled) with the classes' colours as their palette.

    Example: roadworthy layouts sample runs/layouts-colored-shapes-seed0 -n 100
    """
    from roadworthy.train.label_files import save_labels, save_picture
    from roadworthy.train.layout_space import grid
    from roadworthy.train.layouts import load_layouts

    model = load_layouts(run)
    maps = model.sample(count, seed)
    for index, labels in enumerate(model.space.labels(maps)):
        save_labels(output / "labels" / f"{index:05d}.png", labels, model.space.taxonomy)
    save_picture(output / "grid.png", grid(model.space.pictures(maps[:64])))
    console.print(f"{count} layouts in {output / 'labels'}, the first of them in {output / 'grid.png'}", soft_wrap=True)


@command.command()
@run_argument
@click.option("--data", help="Real layouts to compare with.  [default: those that it learnt from]")
@click.option("-n", "--count", type=click.IntRange(2), help="Layouts of each kind.  [default: all the data, at most 4096]")
@click.option("--inception", type=click.Path(path_type=Path),
              help="FID's Inception network, exported to ONNX from float32 [B, 3, 299, 299] in -1..1 to [B, 2048]; gives the "
                   "Fréchet inception distance too.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of noise, patches and directions.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the scores to this JSON file.")
def score(run: Path, data: str | None, count: int | None, inception: Path | None, seed: int, output: Path | None) -> None:
    """Score the generator of RUN against real layouts: sliced Wasserstein distance, MS-SSIM, and FID if its network is given.

    Example: roadworthy layouts score runs/layouts-colored-shapes-seed0 -o scores.json
    """
    import dataclasses
    import json

    from roadworthy.eval.frechet import Inception
    from roadworthy.eval.layouts import score_layouts
    from roadworthy.runtime.files import write_text
    from roadworthy.train.layouts import load_layouts

    network = None if inception is None else Inception(inception)
    model = load_layouts(run)
    with progress_line("scoring layouts") as report:
        scores = score_layouts(model, data, count=count, inception=network, seed=seed, progress=report)
    levels = ", ".join(f"{size}: {value:.1f}" for size, value in scores.swd.items())
    console.print(f"{scores.pictures} layouts against as many real ones; smaller is better")
    console.print(f"SWD x 1000 by level in pixels: {levels}; mean {scores.swd_mean:.1f}")
    console.print(f"MS-SSIM of pairs: {scores.ms_ssim:.4f} (real ones: {scores.ms_ssim_real:.4f})")
    if scores.fid is None:
        console.print("FID: not measured; it needs --inception FILE.onnx")
    else:
        console.print(f"FID: {scores.fid:.2f} ({scores.inception})")
    if output is not None:
        write_text(output, json.dumps(dataclasses.asdict(scores), indent=2) + "\n")
