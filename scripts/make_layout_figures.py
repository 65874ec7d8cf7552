"""SemGAN against the plain GAN on Colored Shapes ("Adversarial pixel-level generation of semantic images", 5.0.1).

    python -m roadworthy.scripts.make_layout_figures                  # train, score, write the table and the pictures
    python -m roadworthy.scripts.make_layout_figures --only-page      # the page again, from docs/layouts.json
    python -m roadworthy.scripts.make_layout_figures --data camvid:data/camvid --size 128x64     # the same on street scenes

Both networks learn from the same layouts with the same seed, kernels, latent, rate and batch; the generators kept on the way
and the last one are scored against the whole set, as the paper does. Every part goes on where it was interrupted. Two processes
of one thread each train side by side. The scores are kept in docs/layouts.json, the pictures in docs/layouts.png; those of
other data in docs/layouts-KIND.json and .png.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from roadworthy.eval.layouts import real_pictures, score_layouts, score_pictures
from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.scripts.stages import DOCS, write_between
from roadworthy.scripts.terminal import ImageSize
from roadworthy.train.data.colored_shapes import COLORED_SHAPES, draw_colored_shapes
from roadworthy.train.duel import METRICS_FILE, kept_generators
from roadworthy.train.label_files import save_picture
from roadworthy.train.layout_space import grid
from roadworthy.train.layouts import SHAPES, LayoutModel, load_layouts, read_layouts

PAGE = DOCS / "layouts.md"
STREETS = ("--latent=128", "--kernel=7", "--learning-rate=2e-4")  # the paper's for street scenes; its shapes': the defaults
KINDS = {"SemGAN": (), "GAN": ("--rgb",)}
SHOWN, COLUMNS = 32, 8  # layouts of each kind in the picture


@click.command(context_settings={"show_default": True})
@click.option("--data", default=SHAPES, help="Layouts to learn from: colored-shapes, or KIND:PATH (camvid, recording, ...).")
@click.option("--size", type=ImageSize(), default="64x64", help="Of the layouts.")
@click.option("--folder", type=click.Path(path_type=Path),
              help="Where the runs are kept.  [default: studies/layouts, of other data studies/layouts-KIND]")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=6000, help="Updates; the paper: 50000.")
@click.option("--width", type=click.IntRange(1), default=16, help="Channels of the networks; see docs/layouts.md.")
@click.option("--keep-every", type=click.IntRange(1), default=1500, help="Updates between scored generators.")
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option("--only-page", is_flag=True, help="Write the page from what was measured before.")
def main(
    data: str, size: tuple[int, int], folder: Path | None, steps: int, width: int, keep_every: int, seed: int, only_page: bool
) -> None:
    """Train both, score them, and write the page."""
    kind = data.partition(":")[0]
    name = "layouts" if data == SHAPES else f"layouts-{kind}"
    records = PAGE.with_name(f"{name}.json")
    if not only_page:
        torch.set_num_threads(1)
        own = () if data == SHAPES else STREETS
        options = [f"--data={data}", f"--size={size[1]}x{size[0]}", *own, f"--steps={steps}", f"--width={width}",
                   f"--keep-every={keep_every}", f"--seed={seed}", "--threads=1"]  # fmt: skip
        folder = folder or Path("studies") / name
        _train(folder, options)
        _measure(folder, seed, records)
    mark = "colored shapes" if data == SHAPES else f"layouts of {kind}"
    write_between(PAGE, mark, table(json.loads(records.read_text(encoding="utf-8"))))


def _train(folder: Path, options: Sequence[str]) -> None:
    """Train both networks at the same time, each in a process of its own."""
    command = [sys.executable, "-m", "roadworthy.scripts.cli", "layouts", "train", "--resume", *options]
    running = {name: subprocess.Popen([*command, *own, "--output", str(folder / name.lower())]) for name, own in KINDS.items()}
    try:
        failed = [name for name, process in running.items() if process.wait() != 0]
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
                process.wait()
    if failed:
        raise RoadworthyError(f"training {' and '.join(failed)} failed, see above; run the same command again to go on")


def _measure(folder: Path, seed: int, records: Path) -> None:
    """Score every generator that was kept and the last one, and keep what was found so far."""
    progress = folder / "scores.json"
    found: dict[str, Any] = json.loads(progress.read_text(encoding="utf-8")) if progress.is_file() else {}
    sheets, seconds = list[npt.NDArray[np.uint8]](), dict[str, float]()
    for name in KINDS:
        run = folder / name.lower()
        metrics = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
        seconds[name], last = metrics["seconds"], metrics["steps"]
        for update in sorted({*kept_generators(run), last}):
            key = f"{name} {update}"
            if key not in found:
                click.echo(f"scoring {key}")
                model = load_layouts(run, None if update == last else update)
                found[key] = dataclasses.asdict(score_layouts(model, seed=seed))
                write_text(progress, json.dumps(found, indent=1) + "\n")
        model = load_layouts(run)
        sheets.append(grid(model.space.pictures(model.sample(SHOWN, seed)), COLUMNS))
    model = load_layouts(folder / "semgan")
    if model.data == SHAPES and "real" not in found:
        other = COLORED_SHAPES.colourise(draw_colored_shapes(model.seed + 1))
        found["real"] = dataclasses.asdict(score_pictures(real_pictures(model), other, seed=seed))
        write_text(progress, json.dumps(found, indent=1) + "\n")
    sheets.insert(0, _real_sheet(model, seed))
    gap = np.full((sheets[0].shape[0], 12, 3), 255, np.uint8)
    save_picture(records.with_suffix(".png"), np.concatenate([sheets[0], gap, sheets[1], gap, sheets[2]], axis=1))
    facts = {"data": model.data, "steps": last, "width": model.generator.width, "seed": model.seed, "seconds": seconds}
    write_text(records, json.dumps({"facts": facts, "scores": found}, indent=1) + "\n")


def _real_sheet(model: LayoutModel, seed: int) -> npt.NDArray[np.uint8]:
    """Return a sheet of what a generator learnt from, `uint8 [H, W, 3]`."""
    real = read_layouts(model.data, model.size, model.seed).labels  # [M, H, W]
    chosen = np.resize(np.random.default_rng(seed).permutation(len(real)), SHOWN)  # some again where the data are fewer
    return grid(model.space.taxonomy.colourise(real[chosen]), COLUMNS)


def table(records: Mapping[str, Any]) -> list[str]:
    """Return the scores as Markdown: of each network the best and the last generator, and of shapes another draw of the set."""
    facts, scores = records["facts"], records["scores"]
    anyone = next(iter(scores.values()))
    levels = list(anyone["swd"])
    lines = [
        f"| | updates | {' | '.join(f'SWD {level}' for level in levels)} | SWD mean | MS-SSIM |",
        "|---|---:|" + "---:|" * (len(levels) + 2),
    ]
    if "real" in scores:
        lines.append(_row("another draw of the set", "", scores["real"], levels))
    best: dict[str, Mapping[str, Any]] = {}
    for name in KINDS:
        kept = {int(key.partition(" ")[2]): value for key, value in scores.items() if key.startswith(f"{name} ")}
        chosen = min(kept, key=lambda update: kept[update]["swd_mean"])
        best[name] = kept[chosen]
        lines.append(_row(f"{name}, best", str(chosen), kept[chosen], levels))
        lines.append(_row(f"{name}, last", str(max(kept)), kept[max(kept)], levels))
    finest = levels[0]
    verdicts = [
        f"Best against best, SemGAN's mean SWD is {best['SemGAN']['swd_mean']:.1f}, the GAN's {best['GAN']['swd_mean']:.1f}; "
        f"at {finest}x{finest} pixels {best['SemGAN']['swd'][finest]:.1f} and {best['GAN']['swd'][finest]:.1f}. "
        f"Real layouts' MS-SSIM is {anyone['ms_ssim_real']:.3f}."
    ]
    times = ", ".join(f"{name} {value:.0f} s" for name, value in facts["seconds"].items())
    how = f"{facts['steps']} updates, width {facts['width']}, seed {facts['seed']}"
    verdicts.append(f"`{facts['data']}`: {how}; trained side by side: {times}.")
    return [*lines, "", *verdicts]


def _row(name: str, updates: str, scores: Mapping[str, Any], levels: Sequence[str]) -> str:
    distances = " | ".join(f"{scores['swd'][level]:.1f}" for level in levels)
    return f"| {name} | {updates} | {distances} | {scores['swd_mean']:.1f} | {scores['ms_ssim']:.3f} |"


if __name__ == "__main__":
    main()
