"""What drivers must show before they judge segmenters: finished routes, and more than baselines that see nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from roadworthy.agent.episodes import Episode
from roadworthy.agent.routes import Task
from roadworthy.eval.driving import finished_share, unaided_completion, usable
from roadworthy.eval.statistics import binomial_interval
from roadworthy.runtime.errors import BadInput

NEEDED: Mapping[str, float] = {
    "straight": 0.6,
    "one-turn": 0.4,
}  # share of routes that must be finished in an empty training town


@dataclass(frozen=True)
class Standing:
    """How one driver did on the routes that all drove."""

    name: str
    finished: Mapping[str, tuple[int, int]]  # task -> routes finished by itself, routes driven
    completion: float  # mean share of a route per start, 0..1
    reward: float  # mean sum of the default reward per route
    km: float  # [km] driven
    infractions: int

    @property
    def km_per_infraction(self) -> float:
        """Kilometres per infraction; without one, the kilometres driven, as a lower bound ("more than")."""
        return self.km / max(self.infractions, 1)

    def share(self, task: str) -> float:
        """Return the fraction of the task's routes that were finished; 0 for none driven."""
        done, driven = self.finished.get(task, (0, 0))
        return done / driven if driven else 0.0


MEASURES: Mapping[str, Callable[[Standing], float]] = {
    "reward": lambda each: each.reward,
    "route completion": lambda each: each.completion,
    "kilometres per infraction": lambda each: each.km_per_infraction,
}


def standing(name: str, episodes: Sequence[Episode]) -> Standing:
    """Summarise one driver's episodes. Raises `BadInput` when there are none."""
    chosen = usable(episodes)
    if not chosen:
        raise BadInput(f"{name}: no episodes; drive first")
    by_task = {task: [episode for episode in chosen if episode.task == task] for task in get_args(Task)}
    return Standing(
        name,
        {task: (round(finished_share(part) * len(part)), len(part)) for task, part in by_task.items() if part},
        float(np.mean([unaided_completion(episode) for episode in chosen])),
        float(np.mean([episode.reward_sum for episode in chosen])),
        sum(episode.distance_m for episode in chosen) / 1000,
        sum(len(episode.infractions) for episode in chosen),
    )


def table(standings: Sequence[Standing]) -> str:
    """Return the standings as a Markdown table; intervals are exact binomial ones."""
    tasks = list(dict.fromkeys(task for each in standings for task in each.finished))
    heads = [
        *(f"{task} finished" for task in tasks),
        "completion per start",
        "reward per route",
        "km",
        "infractions",
        "km per infraction",
    ]
    lines = [f"| driver | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for each in standings:
        cells = []
        for task in tasks:
            done, driven = each.finished.get(task, (0, 0))
            interval = binomial_interval(done, driven)
            cells.append(f"{done}/{driven} ({100 * interval.low:.0f}–{100 * interval.high:.0f} %)")
        more = "" if each.infractions else "more than "
        cells += [
            f"{100 * each.completion:.0f} %", f"{each.reward:.1f}", f"{each.km:.2f}", str(each.infractions),
            f"{more}{each.km_per_infraction:.3f}",
        ]  # fmt: skip
        lines.append(f"| {each.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verdicts(trained: Sequence[Standing], baselines: Sequence[Standing], judged: str) -> list[str]:
    """Say what was reached: routes finished by the driver `judged`, and every trained driver against every baseline."""
    said = []
    (who,) = (each for each in trained if each.name == judged)
    for task, needed in NEEDED.items():
        done, driven = who.finished.get(task, (0, 0))
        word = "reached" if driven and who.share(task) >= needed else "**not reached**"
        said.append(f"{who.name} finishes {done} of {driven} {task} routes; {100 * needed:.0f} % were asked for: {word}.")
    for driver in trained:
        for what, value in MEASURES.items():
            behind = [f"{each.name} ({value(each):.3g})" for each in baselines if value(driver) <= value(each)]
            if behind:
                said.append(f"{driver.name} ({value(driver):.3g}) does **not** beat {', '.join(behind)} in {what}.")
            else:
                said.append(f"{driver.name} beats every baseline in {what}.")
    return said
