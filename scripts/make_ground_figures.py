"""The ground matrix learnt by driving, with its controls, into docs/driving.md; goes on where it was interrupted.

    python -m roadworthy.scripts.make_ground_figures studies/ground --driving studies/driving    # planned for 30 minutes
    python -m roadworthy.scripts.make_ground_figures studies/ground --driving studies/driving --scale 0.02 --page /tmp/page.md

It begins with the segmenter and the imitated driver of `make_driving_figures`. Each control differs from the learnt matrix in
one thing: a segmenter that never learned from driving, or frames of a random driver. A last matrix comes from infractions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from roadworthy.runtime.files import write_text
from roadworthy.scripts.stages import DOCS, Report, Stages, write_between
from roadworthy.scripts.terminal import console

if TYPE_CHECKING:
    from roadworthy.agent.ground_learning import GroundConfig
    from roadworthy.train.ground import GroundMatrix

Pair = tuple[str, str]  # truth, and what it is taken for
# What the issue of a ground matrix is about: confusing these with the road ...
DANGEROUS = (("person", "road"), ("rider", "road"), ("car", "road"))
HARMLESS = ("truck", "bus")  # ... costs more than confusing these two
SHOWN: Mapping[str, str] = {
    "learnt": "learnt by driving",
    "plain": "control: cross-entropy only, the driver's frames",
    "random": "control: learnt segmenter, a random driver's frames",
    "consequence": "by consequence (infractions)",
}


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    driving: str  # folder of make_driving_figures
    town: str = "Grid01"
    rounds: int = 6
    drive_steps: int = 2000  # of 0.1 s per round
    updates: int = 100  # of the segmenter per round
    routes: int = 20  # straight and one-turn each, driven in traffic for their infractions
    vehicles: int = 15
    walkers: int = 15
    workers: int = 2
    policy_gradient: bool = False
    seed: int = 0


@click.command(context_settings={"show_default": True})
@click.argument("root", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--driving", required=True, type=click.Path(path_type=Path), help="Finished folder of make_driving_figures.")
@click.option("--policy-gradient", is_flag=True, help="Let the policy's gradient into the encoder too.")
@click.option("--scale", type=click.FloatRange(0.0, 1.0, min_open=True), default=1.0, help="Part of the work, to try it.")
@click.option(
    "--page", type=click.Path(path_type=Path), default=DOCS / "driving.md", help="Page whose marked part is replaced."
)
def main(root: Path, driving: Path, policy_gradient: bool, scale: float, page: Path) -> None:
    """Learn the matrix in the folder STUDY, or go on with it, and write its figures."""
    full = Plan(str(driving))
    plan = Plan(
        str(driving),
        rounds=max(2, round(scale * full.rounds)),
        drive_steps=max(60, round(scale * full.drive_steps)),
        updates=max(2, round(scale * full.updates)),
        routes=max(1, round(scale * full.routes)),
        policy_gradient=policy_gradient,
    )
    stages = Stages(root, asdict(plan))
    stages.do("learn", lambda report: _learn(stages, plan, report))
    stages.do("random driver", lambda report: _drive_randomly(stages, plan, report))
    stages.do("controls", lambda report: _measure_controls(stages, plan, report))
    stages.do("infractions", lambda report: _drive_in_traffic(stages, plan, report))
    stages.do("consequence", lambda _: _weigh(stages))
    _write(stages, plan, page)


def _config(plan: Plan) -> GroundConfig:
    from roadworthy.agent.ground_learning import GroundConfig
    from roadworthy.agent.rules import DriveConfig

    world = DriveConfig(town=plan.town, vehicles=(0, plan.vehicles), walkers=(0, plan.walkers), threads=1)
    return GroundConfig(
        rounds=plan.rounds,
        drive_steps=plan.drive_steps,
        segmenter_steps=plan.updates,
        policy_gradient=plan.policy_gradient,
        world=world,
        seed=plan.seed,
    )


def _learn(stages: Stages, plan: Plan, report: Report) -> None:
    from roadworthy.agent.ground_learning import learn_ground

    driving = Path(plan.driving)
    matrix = learn_ground(
        driving / "segmenter", stages.path("learning"), _config(plan), start=driving / "imitated", progress=report
    )
    matrix.save(stages.path("learnt.yaml"))


def _drive_randomly(stages: Stages, plan: Plan, report: Report) -> None:
    from roadworthy.agent.ground_control import random_frames

    config = _config(plan)
    random_frames(
        stages.path("random-frames"),
        config.world,
        steps=plan.rounds * plan.drive_steps,
        keep_every=config.keep_every,
        seed=plan.seed,
        progress=report,
    )


def _measure_controls(stages: Stages, plan: Plan, report: Report) -> None:
    """Measure the centroids with another segmenter on the driver's frames, and with other frames."""
    from roadworthy.agent.ground import blend, measure_centroids
    from roadworthy.agent.ground_learning import round_folder
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.checkpoint import load_run
    from roadworthy.train.ground import open_ground

    rounds = [round_folder(stages.path("learning"), index) for index in range(plan.rounds)]
    pairs = {
        "plain": (Path(plan.driving) / "segmenter", [folder / "recording" for folder in rounds]),
        "random": (rounds[-1] / "segmenter", [stages.path("random-frames")]),
    }
    seen: dict[str, list[str]] = {}
    for number, (name, (run, frames)) in enumerate(pairs.items()):
        report(SHOWN[name], number / len(pairs))
        found = measure_centroids(load_run(run)[0], [f"recording:{folder}" for folder in frames])
        blend(found.distances(), open_ground("severity", TOWN), 0.0).save(stages.path(f"{name}.yaml"))
        seen[name] = [each for each, enough in zip(TOWN.classes, found.seen(), strict=True) if enough]
    write_text(stages.path("seen.json"), json.dumps(seen))


def _drive_in_traffic(stages: Stages, plan: Plan, report: Report) -> None:
    """Drive routes among others, and keep what was seen around each infraction."""
    from roadworthy.agent.drive import Driver, evaluate_policies
    from roadworthy.agent.suite import Suite
    from roadworthy.eval.sightings import predict_sights
    from roadworthy.export.onnx import export_onnx

    driving = Path(plan.driving)
    suite = Suite(
        "traffic",
        plan.town,
        held_out=False,
        tasks=(("straight", plan.routes), ("one-turn", plan.routes)),
        vehicles=plan.vehicles,
        walkers=plan.walkers,
    )
    driver = Driver("imitation", driving / "encoder.onnx", driving / "imitated")
    output = stages.path("traffic.jsonl")
    evaluate_policies([driver], [suite], output, workers=plan.workers, progress=lambda text, done: report(text, 0.85 * done))
    model = stages.path("model.onnx")
    if not model.is_file():
        export_onnx(driving / "segmenter", model)
    predict_sights(output, model, lambda text, done: report(text, 0.9 + 0.1 * done))


def _weigh(stages: Stages) -> None:
    from roadworthy.agent.consequence import read_cases, weigh
    from roadworthy.runtime.errors import BadInput
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.ground import open_ground

    cases, unmatched = read_cases([stages.path("traffic.jsonl")])
    before = open_ground("severity", TOWN)
    try:
        found = weigh(cases, len(TOWN), unmatched=unmatched)
    except BadInput:  # too few infractions to say anything: the predefined matrix stays
        before.save(stages.path("consequence.yaml"))
        write_text(
            stages.path("consequence.json"), json.dumps({"infractions": unmatched, "supported_pairs": 0, "supported": None})
        )
        return
    found.matrix(before).save(stages.path("consequence.yaml"))
    write_text(stages.path("consequence.json"), json.dumps(found.to_dict()))


def _write(stages: Stages, plan: Plan, page: Path) -> None:
    """Write the heat maps beside the page, and the table between its marks."""
    from roadworthy.eval.charts import heat_map
    from roadworthy.eval.curves import standalone
    from roadworthy.runtime.machine import describe
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.ground import load_ground, open_ground

    matrices = {"severity": open_ground("severity", TOWN)}
    matrices |= {name: load_ground(stages.path(f"{name}.yaml"), TOWN) for name in SHOWN}
    history = json.loads((stages.path("learning") / "history.json").read_text(encoding="utf-8"))["rounds"]
    facts = json.loads(stages.path("consequence.json").read_text(encoding="utf-8"))
    unseen = [name for name in TOWN.classes if name not in history[-1]["seen"]]
    controls = json.loads(stages.path("seen.json").read_text(encoding="utf-8"))
    measured = {name: pairs_of(seen) for name, seen in {"learnt": history[-1]["seen"], **controls}.items()}
    supported = np.argwhere(np.array(facts["supported"] or np.zeros((0, 0))))  # [pairs, 2]
    measured["consequence"] = {(TOWN.classes[truth], TOWN.classes[taken]) for truth, taken in supported}
    style = "text{font:9px sans-serif;fill:#333}.cell{fill:#c4500a}.cell-empty{fill:none;stroke:#ccc}"
    for name in ("learnt", "plain", "random", "consequence"):
        drawing = heat_map(matrices[name].cost.tolist(), TOWN.classes, f"ground matrix, {SHOWN[name]}", top_value=1.0)
        write_text(page.with_name(f"ground_{name}.svg"), standalone(drawing, 416, 398, style))
    lines = [
        f"`python -m roadworthy.scripts.make_ground_figures {stages.root} --driving {plan.driving}`, {describe().cpu}, "
        f"{stages.spent()}. {plan.rounds} rounds of {plan.drive_steps} steps and {plan.updates} updates; "
        f"{sum(each['frames'] for each in history)} frames; classes hardly seen, so as predefined: "
        f"{', '.join(unseen) or 'none'}.",
        "",
        *table(matrices, measured),
        "",
        "Costs in brackets are not measured: the class was hardly seen (or, by consequence, the drives do not support the "
        "pair) and the cost is the predefined one. Only a row whose four costs are measured says anything about driving.",
        "",
        f"By consequence: {facts['infractions']} infractions, {facts['supported_pairs']} pairs rest on data, the others on "
        "`severity`.",
        "",
        *(f"![{words}](ground_{name}.svg)" for name, words in SHOWN.items()),
    ]
    write_between(page, "ground figures", lines)
    console.print(str(page))


def pairs_of(seen: Sequence[str]) -> set[Pair]:
    """Return the pairs of classes that were both seen."""
    return {(truth, taken) for truth in seen for taken in seen}


def table(matrices: Mapping[str, GroundMatrix], measured: Mapping[str, set[Pair]]) -> list[str]:
    """Return the rows of a Markdown table: the costs that matter, and how alike each matrix is to `severity` and `learnt`.

    `measured` holds the pairs whose cost rests on data, per matrix; the costs of others are put in brackets.
    """
    from scipy.stats import spearmanr

    classes = matrices["severity"].classes
    off = ~np.eye(len(classes), dtype=bool)
    pairs = [*DANGEROUS, HARMLESS]
    heads = [*(f"{a}–{b}" for a, b in pairs), "dangerous > truck–bus", "rank correlation with severity", "with learnt"]
    lines = [f"| matrix | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name, matrix in matrices.items():
        costs = [float(matrix.cost[classes.index(a), classes.index(b)]) for a, b in pairs]
        known = [name not in measured or pair in measured[name] for pair in pairs]
        cells = [f"{cost:.2f}" if there else f"({cost:.2f})" for cost, there in zip(costs, known, strict=True)]
        holds = ("yes" if min(costs[:-1]) > costs[-1] else "**no**") if all(known) else "not measured"
        alike = [float(spearmanr(matrix.cost[off], matrices[other].cost[off]).statistic) for other in ("severity", "learnt")]
        words = SHOWN.get(name, "severity, written by hand")
        lines.append(f"| {words} | {' | '.join(cells)} | {holds} | {alike[0]:.2f} | {alike[1]:.2f} |")
    return lines


if __name__ == "__main__":
    main()
