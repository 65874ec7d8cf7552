"""The proof that drivers learn here: record, train, demonstrate, imitate, A2C, judge; tables and curves into docs/driving.md.

    python -m roadworthy.scripts.make_driving_figures studies/driving            # planned for 40 minutes on two quiet cores
    python -m roadworthy.scripts.make_driving_figures studies/driving --scale 0.01 --page /tmp/page.md   # does it run at all?

Everything is in the folder; a stage that has its file is not done again, and one that was interrupted goes on. Who is judged is
chosen on routes of their own: the imitated driver, or the one that A2C made of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from roadworthy.runtime.files import write_text
from roadworthy.scripts.stages import DOCS, Report, Stages, write_between
from roadworthy.scripts.terminal import console

if TYPE_CHECKING:
    from roadworthy.agent.routes import Task
    from roadworthy.agent.suite import Suite
    from roadworthy.eval.proof import Standing

IMITATED, TUNED, ALONE = "imitation", "imitation + A2C", "A2C alone"
BASELINES = ("random", "forward", "brake")


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    town: str = "Grid01"
    recorded_episodes: int = 12  # of 50 frames, for the segmenter
    segmenter_updates: int = 800  # of ENet with cross-entropy, eight frames each
    demonstrated_steps: int = 8000  # of 0.1 s, by the expert
    imitation_updates: int = 1500
    tuned_steps: int = 30_000  # of A2C from the imitated driver
    alone_steps: int = 40_000  # of A2C from nothing, for its curve
    routes: int = 20  # per task, judged
    choosing_routes: int = 5  # per task, driven to choose between imitation and A2C
    workers: int = 2
    egos: int = 5  # per worker: 2 x 5 are the paper's ten
    seed: int = 0

    def scaled(self, scale: float) -> Plan:
        """Return a plan of about `scale` of the work."""
        names = ("segmenter_updates", "demonstrated_steps", "imitation_updates", "tuned_steps", "alone_steps")
        small = {name: max(20, round(scale * getattr(self, name))) for name in names}
        routes = {
            name: max(1, round(scale * getattr(self, name))) for name in ("routes", "choosing_routes", "recorded_episodes")
        }
        return replace(self, **small, **routes)


class Study(Stages):
    """The folder of one proof."""

    def __init__(self, root: Path, plan: Plan) -> None:
        super().__init__(root, asdict(plan))
        self.plan = plan

    @property
    def encoder(self) -> Path:
        """The segmenter's latent-only model."""
        return self.path("encoder.onnx")


@click.command(context_settings={"show_default": True})
@click.argument("root", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--scale", type=click.FloatRange(0.0, 1.0, min_open=True), default=1.0, help="Part of the work, to try it.")
@click.option(
    "--page", type=click.Path(path_type=Path), default=DOCS / "driving.md", help="Page whose marked part is replaced."
)
def main(root: Path, scale: float, page: Path) -> None:
    """Run the proof in the folder STUDY, or go on with it, and write its figures."""
    study = Study(root, Plan() if scale == 1.0 else Plan().scaled(scale))
    study.do("record", lambda report: _record(study, report))
    study.do("segmenter", lambda report: _train_segmenter(study, report))
    study.do("demonstrate", lambda report: _demonstrate(study, report))
    study.do("imitate", lambda report: _imitate(study, report))
    study.do("A2C", lambda report: _learn(study, "tuned", study.plan.tuned_steps, report))
    study.do("choose", lambda report: _choose(study, report))
    study.do("A2C alone", lambda report: _learn(study, "alone", study.plan.alone_steps, report))
    study.do("judge", lambda report: _judge(study, report))
    _write(study, page)


def _record(study: Study, report: Report) -> None:
    from roadworthy.agent.recorder import RecordConfig, record

    plan = study.plan
    record(RecordConfig(episodes=plan.recorded_episodes, seed=plan.seed), study.path("frames"), report, workers=plan.workers)


def _train_segmenter(study: Study, report: Report) -> None:
    from roadworthy.export.onnx import export_onnx
    from roadworthy.train.config import TrainConfig
    from roadworthy.train.fit import fit

    config = TrainConfig(
        data=f"recording:{study.path('frames')}",
        model="enet",
        objective="cross-entropy(weights=enet)",
        steps=study.plan.segmenter_updates,
        batch_size=8,
        size=(128, 256),
        learning_rate=3e-3,
        seed=study.plan.seed,
        device="cpu",
        threads=2,
    )
    fit(config, study.path("segmenter"), progress=lambda text, done: report(text, 0.9 * done), resume=True)
    report("exporting the encoder", 0.9)
    export_onnx(study.path("segmenter"), study.encoder, outputs=("latent",))


def _demonstrate(study: Study, report: Report) -> None:
    from roadworthy.agent.demonstrations import DemonstrationConfig, demonstrate

    plan = study.plan
    config = DemonstrationConfig(
        towns=(plan.town,),
        steps=plan.demonstrated_steps,
        workers=plan.workers,
        vehicles=6,
        walkers=6,
        blocked_share=0.0,  # the town that is judged is empty: nobody stands in the way,
        stall_share=0.0,  # and nobody learns to stand
        seed=plan.seed + 1,
    )
    demonstrate(config, study.path("demonstrations"), report)


def _imitate(study: Study, report: Report) -> None:
    from roadworthy.agent.demonstrations import Demonstrations
    from roadworthy.agent.imitation import CloneConfig, clone, demonstration_latents
    from roadworthy.agent.policy import save_policy
    from roadworthy.runtime import load

    shown = Demonstrations.load(study.path("demonstrations"))
    model = load(study.encoder, device="cpu", threads=2)
    latents = demonstration_latents(model, shown, lambda text, done: report(text, 0.2 * done))
    config = CloneConfig(steps=study.plan.imitation_updates, seed=study.plan.seed, threads=2)
    result = clone(latents, shown, config, lambda text, done: report(text, 0.2 + 0.8 * done))
    facts = {"segmenter": study.encoder.name, "imitation": {"loss": result.train_loss, "validation": result.validation}}
    save_policy(result.policy, study.path("imitated"), facts, result.examples)


def _learn(study: Study, name: str, steps: int, report: Report) -> None:
    """Let A2C drive in the empty town, from the imitated driver ("tuned") or from nothing."""
    from roadworthy.agent.algorithms import LearnConfig
    from roadworthy.agent.rules import DriveConfig
    from roadworthy.agent.train_driver import Training, train_driver

    plan = study.plan
    start = study.path("imitated") if name == "tuned" else None
    config = LearnConfig.scratch("a2c", steps, plan.seed) if start is None else LearnConfig.fine_tune(steps, plan.seed)
    world = DriveConfig(town=plan.town, vehicles=(0, 0), walkers=(0, 0), threads=1)
    training = Training(replace(config, checkpoint_every=2000), world, workers=plan.workers, egos=plan.egos)
    train_driver(study.encoder, study.path(name), training, start=start, progress=report)


def _suite(study: Study, name: str, routes: int, seed: int) -> Suite:
    from roadworthy.agent.suite import Suite

    tasks: tuple[tuple[Task, int], ...] = (("straight", routes), ("one-turn", routes))
    return Suite(name, study.plan.town, held_out=False, tasks=tasks, vehicles=0, walkers=0, seed=seed)


def _drive(study: Study, names: Sequence[tuple[str, Path]], suite: Suite, report: Report) -> list[Standing]:
    from roadworthy.agent.drive import Driver, evaluate_policies
    from roadworthy.eval.proof import standing

    output = study.path(f"{suite.name}.jsonl")
    drivers = [Driver(name, study.encoder, policy) for name, policy in names]
    episodes = evaluate_policies(drivers, [suite], output, workers=study.plan.workers, progress=report)
    return [standing(name, [episode for episode in episodes if episode.segmenter == name]) for name, _ in names]


def _choose(study: Study, report: Report) -> None:
    """Drive routes of no other use, and note which of the two drivers does better; a tie keeps the imitated one."""
    suite = _suite(study, "choosing", study.plan.choosing_routes, seed=50)
    before, after = _drive(study, [(IMITATED, study.path("imitated")), (TUNED, study.path("tuned"))], suite, report)
    better = after.reward > before.reward
    facts = {"imitated": before.reward, "tuned": after.reward, "kept": "tuned" if better else "imitated"}
    write_text(study.path("chosen.json"), json.dumps(facts))


def _judged(study: Study) -> list[tuple[str, Path]]:
    return [
        (IMITATED, study.path("imitated")),
        (TUNED, study.path("tuned")),
        (ALONE, study.path("alone")),
        *((name, Path(f"baseline:{name}")) for name in BASELINES),
    ]


def _judge(study: Study, report: Report) -> None:
    _drive(study, _judged(study), _suite(study, "judged", study.plan.routes, seed=100), report)


def _write(study: Study, page: Path) -> None:
    """Write the curves beside the page, and the tables between its marks."""
    from roadworthy.agent.policy import load_policy
    from roadworthy.agent.train_driver import CURVE_FILE
    from roadworthy.eval.curves import learning_curves
    from roadworthy.eval.proof import table, verdicts
    from roadworthy.runtime.machine import describe

    curves = {}
    for title, folder in ((TUNED, "tuned"), (ALONE, "alone")):
        drives = json.loads((study.path(folder) / CURVE_FILE).read_text(encoding="utf-8"))
        curves[title] = [(float(step), float(reward)) for step, reward, *_ in drives]
    picture = page.with_name("driving_curves.svg")
    write_text(picture, learning_curves(curves, "environment steps of 0.1 s", "return per training episode"))
    plan, chosen = study.plan, json.loads(study.path("chosen.json").read_text(encoding="utf-8"))
    standings = _drive(study, _judged(study), _suite(study, "judged", plan.routes, seed=100), lambda *_: None)
    trained, baselines = standings[:2], standings[3:]
    judged = TUNED if chosen["kept"] == "tuned" else IMITATED
    imitation = load_policy(study.path("imitated"))[1]["imitation"]["validation"]
    errors = ", ".join(f"{name} {value:.3f}" for name, value in imitation.items() if name != "samples")
    lines = [
        f"`python -m roadworthy.scripts.make_driving_figures {study.root}`, {describe().cpu}, {study.spent()}.",
        f"{plan.town} without traffic, {plan.routes} routes per task drawn with seed 100. Demonstrations "
        f"{plan.demonstrated_steps} steps, imitation {plan.imitation_updates} updates (mean absolute error on episodes it "
        f"never saw: {errors or 'too few to say'}), A2C {plan.tuned_steps} steps after it and {plan.alone_steps} alone, in "
        f"{plan.workers * plan.egos} environments: {plan.egos} learning cars in each of {plan.workers} towns.",
        "",
        table(standings),
        f"On {2 * plan.choosing_routes} other routes imitation made a mean reward of {chosen['imitated']:.1f}, A2C after it "
        f"{chosen['tuned']:.1f}: “{judged}” is the driver that is judged. “{ALONE}” is there for its curve, no claim rests on "
        "it.",
        "",
        *(f"- {sentence}" for sentence in verdicts(trained, baselines, judged)),
        "",
        f"![Learning curves]({picture.name})",
    ]
    write_between(page, "driving figures", lines)
    console.print(f"{page}; {picture}")


if __name__ == "__main__":
    main()
