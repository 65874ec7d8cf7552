"""What adapting costs: a step of AdvEnt or scene adaptation beside a plain one of the same segmenter. Prints JSON.

    python -m roadworthy.scripts.bench_adaptation -o adaptation.json
    python -m roadworthy.scripts.bench_adaptation --rounds 20 --only advent-enet

A plain step learns two labelled frames by cross-entropy; an adapting one learns one of them by its labels and takes the other
as unlabelled, and updates its discriminator too. Both are whole: forward, losses, backward, optimisers. The rivals take turns,
and the ratios are medians over the rounds; `processor_ratio` is by the process's CPU time, `clock_ratio` by the clock.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from lightning_fabric import Fabric

from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe
from roadworthy.runtime.taxonomy import CITYSCAPES
from roadworthy.train.config import TrainConfig
from roadworthy.train.ground import severity
from roadworthy.train.models import build_model
from roadworthy.train.objectives import Batch, Setting, build_objective
from roadworthy.train.players import Part, Players

CLASSES = len(CITYSCAPES)


class Case(NamedTuple):
    """An adapting objective on a segmenter, at a frame size, and how much more than a plain step it may cost."""

    model: str
    objective: str
    height: int  # [pixels]
    width: int  # [pixels]
    limit: float  # of the ratio


CASES = {
    "minent-enet": Case("enet", "cross-entropy + minent", 128, 256, 1.6),
    "advent-enet": Case("enet", "cross-entropy + advent", 128, 256, 1.6),
    "advent-deeplabv2": Case("deeplabv2-two-level-resnet101", "cross-entropy + advent", 128, 256, 1.35),
    "scene-adaptation-pspnet": Case("pspnet-resnet101", "cross-entropy + scene-adaptation", 128, 256, 2.5),
}


def bench(case: Case, rounds: int) -> dict[str, Any]:
    """Time both steps by turns."""
    plain, adapting = _step(case, "cross-entropy"), _step(case, case.objective)
    clock: list[list[float]] = [[], []]
    processor: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for rival, step in enumerate((plain, adapting)):
            begin, begin_processor = time.perf_counter(), time.process_time()
            step()
            if number:  # the first is the warm-up
                clock[rival].append(time.perf_counter() - begin)
                processor[rival].append(time.process_time() - begin_processor)
    return {
        **case._asdict(),
        "plain_ms": round(1e3 * statistics.median(clock[0]), 1),
        "adapting_ms": round(1e3 * statistics.median(clock[1]), 1),
        "clock_ratio": _ratio(clock),
        "processor_ratio": _ratio(processor),
        "within_limit": _ratio(processor) <= case.limit,
    }


def _ratio(seconds: list[list[float]]) -> float:
    ratios: list[float] = [after / before for before, after in zip(*seconds, strict=True)]
    return round(statistics.median(ratios), 3)


def _step(case: Case, objective: str) -> Callable[[], None]:
    """Return a whole update of the training loop on two frames."""
    torch.manual_seed(0)
    config = TrainConfig(data="none", model=case.model, objective=objective, learning_rate=2.5e-4)
    setting = Setting(case.model, CITYSCAPES, np.ones(CLASSES, np.int64), severity(CITYSCAPES), 1000)
    goal = build_objective(objective, setting)
    players = Players(config, Fabric(accelerator="cpu", devices=1), build_model(case.model, CLASSES), goal)
    players.training_mode()
    frames = torch.randn(2, 3, case.height, case.width).to(memory_format=torch.channels_last)
    target = torch.randint(0, CLASSES, (2, case.height, case.width))
    batch = Batch(frames[:1], target[:1], frames[1:]) if goal.adapts else Batch(frames, target)

    def step() -> None:
        # A batch of its own each time, as in training: what an objective keeps belongs to one batch.
        players.update([Part(Batch(*batch), frames=1.0, labelled=1.0, pseudo=1.0)], 1.0, critic_turn=False)

    return step


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Steps of each rival.")
@click.option("--only", type=click.Choice(list(CASES)), multiple=True, help="Run this one alone.  [default: all]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.  [default: torch's choice]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the JSON here too, after every case.")
def main(rounds: int, only: tuple[str, ...], threads: int | None, output: Path | None) -> None:
    """Measure the steps and print JSON."""
    if threads is not None:
        torch.set_num_threads(threads)
    facts: dict[str, Any] = {"machine": describe().to_dict(), "threads": torch.get_num_threads(), "rounds": rounds}
    for name in only or CASES:
        facts[name] = bench(CASES[name], rounds)
        if output is not None:
            write_text(output, json.dumps(facts, indent=2) + "\n")
    click.echo(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
