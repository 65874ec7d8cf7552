"""Does it help to train with dreamt frames? The same segmenter with and without them, on a recording's held-out drives.

    python -m roadworthy.scripts.measure_dreams --recording recordings/grid [--folder studies/dreams]

Layouts and translator learn from the frames of the recording's split "train" alone, and so do the segmenters. What varies is
what a segmenter is given: the real frames, or some share of dreamt ones mixed in; the number of updates is the same. The table
goes into docs/layouts.md. Interrupted work goes on when the same command is given again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.scripts.stages import DOCS, Stages, write_between
from roadworthy.train.config import TrainConfig
from roadworthy.train.dreams import Dream, write_dreams
from roadworthy.train.fit import fit
from roadworthy.train.layouts import LayoutConfig, train_layouts
from roadworthy.train.translation import TranslatorConfig, train_translator

PAGE, MARK = DOCS / "layouts.md", "dreams"
RESULT_FILE = "dreams.json"
LAYOUT_SIZE, FRAME_SIZE = (64, 128), (128, 256)  # (height, width) [pixels]


@click.command(context_settings={"show_default": True})
@click.option("--recording", required=True, type=click.Path(exists=True, path_type=Path), help="A recording of the town.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("studies/dreams"), help="Where everything is kept.")
@click.option("--layout-steps", type=click.IntRange(1), default=2000, help="Updates of the generator of layouts.")
@click.option("--layout-width", type=click.IntRange(1), default=16, help="Its channels.")
@click.option("--translator-steps", type=click.IntRange(1), default=2000, help="Updates of the translator.")
@click.option("--translator-width", type=click.IntRange(1), default=16, help="Its channels.")
@click.option("--count", type=click.IntRange(1), default=500, help="Dreamt pairs.")
@click.option("--mix", "mixes", type=float, multiple=True, default=(0.2, 0.5), help="Shares of dreamt frames to try.")
@click.option("--steps", type=click.IntRange(1), default=600, help="Updates of each segmenter.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Segmenters of each kind.")
@click.option("--page/--no-page", default=True, help="Write the table into docs/layouts.md.")
def main(
    recording: Path,
    folder: Path,
    layout_steps: int,
    layout_width: int,
    translator_steps: int,
    translator_width: int,
    count: int,
    mixes: Sequence[float],
    steps: int,
    seeds: int,
    page: bool,
) -> None:
    """Train layouts, translator and segmenters, and write the table."""
    data = f"recording:{recording}"
    layouts = LayoutConfig(
        data, size=LAYOUT_SIZE, latent=128, kernel=7, width=layout_width, learning_rate=2e-4, steps=layout_steps
    )
    translator = TranslatorConfig(data, FRAME_SIZE, width=translator_width, steps=translator_steps)
    shares = _shares(mixes)
    plan: dict[str, Any] = {
        "data": data, "layouts": [layout_steps, layout_width], "translator": [translator_steps, translator_width],
        "count": count, "shares": shares, "steps": steps, "seeds": seeds,
    }  # fmt: skip
    runs = {name: folder / name for name in ("layouts", "translator", "pairs")}
    learning = {}  # by share and seed; made first: a share that will not do is refused before an hour of training
    for share in shares:
        mixed = {"mixed": f"dream:{runs['pairs']}", "mix": share} if share else {}
        for seed in range(seeds):
            learning[share, seed] = TrainConfig(data, size=FRAME_SIZE, steps=steps, seed=seed, **mixed)  # type: ignore[arg-type]
    stages = Stages(folder, plan)
    stages.do("layouts", lambda report: train_layouts(layouts, runs["layouts"], progress=report, resume=True))
    stages.do("translator", lambda report: train_translator(translator, runs["translator"], progress=report, resume=True))
    dream = Dream(str(runs["layouts"]), str(runs["translator"]), count)
    stages.do("pairs", lambda report: write_dreams(dream, runs["pairs"], progress=report))
    found: dict[str, list[float]] = {}
    for (share, seed), config in learning.items():
        name = f"mix-{share:g}-seed{seed}"
        stages.do(name, lambda report, c=config, n=name: fit(c, stages.path(n), progress=report, resume=True))  # type: ignore[misc]
        metrics = json.loads((stages.path(name) / "metrics.json").read_text(encoding="utf-8"))
        found.setdefault(f"{share:g}", []).append(float(metrics["validation"]["mean_iou"]))
    result = {"plan": plan, "mean_iou": found, "spent": stages.spent()}
    write_text(stages.path(RESULT_FILE), json.dumps(result, indent=1) + "\n")
    if page:
        write_between(PAGE, MARK, table(result))


def _shares(mixes: Sequence[float]) -> list[float]:
    """Return the shares to try, none first. Raises `BadInput` for one that is given twice, or that is none."""
    names = [f"{share:g}" for share in (0.0, *mixes)]  # a share's name is its folder's
    if len(set(names)) < len(names):
        raise BadInput(f"--mix is {', '.join(names[1:])}, expected different shares above 0; none is always tried")
    return [0.0, *mixes]


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the mean IoU by share of dreamt frames as Markdown, with each share's difference from none, seed by seed."""
    plain = result["mean_iou"]["0"]
    lines = ["| dreamt share | mean mIoU | by seed | mean difference, paired by seed |", "|---:|---:|---|---:|"]
    for share, values in result["mean_iou"].items():
        each = ", ".join(f"{100 * value:.1f}" for value in values)
        gain = statistics.mean(mine - other for mine, other in zip(values, plain, strict=True))
        difference = "" if share == "0" else f"{100 * gain:+.1f}"
        lines.append(f"| {share} | {100 * statistics.mean(values):.1f} % | {each} | {difference} |")
    plan = result["plan"]
    return [
        *lines,
        "",
        f'ENet, {plan["steps"]} updates, {plan["seeds"]} seeds, mIoU on the recording\'s split "val" (data-set level, void '
        f"ignored); {plan['count']} dreamt pairs; layouts: {plan['layouts'][0]} updates of width {plan['layouts'][1]}, "
        f"translator: {plan['translator'][0]} of width {plan['translator'][1]}. {result['spent']}.",
    ]


if __name__ == "__main__":
    main()
