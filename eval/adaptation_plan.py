"""What an adaptation study is: its typed plan, its YAML file, and the trainings it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.recorder import RecordConfig
from roadworthy.agent.views import ViewsPlan, load_views, view_names
from roadworthy.eval.adaptation_pairs import ViewPair, check_views, view_pairs
from roadworthy.eval.plain import from_plain, to_plain
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import CAMVID, CARLA13
from roadworthy.train.config import OptimiserName, RateSchedule, TrainConfig
from roadworthy.train.rounds import RoundsPlan

SOURCE_ONLY, ORACLE, STATISTICS = "source only", "oracle", "target statistics"
NO_ADAPTATION, OURS, FINE_TUNING = "no adaptation", "ours", "fine-tuning"
BOTH = "MinEnt + AdvEnt"

STATISTICS_TERM = "minent(weight=0, auxiliary=0)"  # the target's frames move batch normalisation and nothing else

# The methods of experiment (b) by name, as terms beside the labelled frames' loss.
METHODS: Mapping[str, str] = {
    SOURCE_ONLY: "",  # as many updates on the labelled frames alone
    STATISTICS: STATISTICS_TERM,
    "MinEnt": "minent",
    "AdvEnt": "advent",
    BOTH: "minent + advent",
    "CRST-LRENT, cross-entropy": "self-training",
    "CRST-LRENT, Wasserstein": "self-training(loss=wasserstein)",
    ORACLE: "",  # learns the target's own labels
}


@dataclass(frozen=True)
class ScenesPlan:
    """Experiment (a): pairs of fixed cameras, as Di Mauro et al. (AVSS 2018, tables 1 and 2)."""

    views: str | None = None  # a scenes.yaml; None = the shipped scenes
    episodes: int = 4  # per scene; the last of them is scored
    frames: int = 40  # per episode and view
    seeds: tuple[int, ...] = (0, 1)
    labels: str = "cross-entropy"  # the loss of labelled frames
    steps: int = 250  # updates of the networks that see one view's labels
    batch_size: int = 8
    optimiser: str = "adam"  # the published baselines: sgd, 0.007, poly
    learning_rate: float = 3e-3
    schedule: str = "linear"
    adaptation_steps: int = 250  # updates with the target's frames, from the source's network
    adaptation_batch_size: int = 1  # frames of each domain
    adaptation_learning_rate: float = 2e-4  # of Adam
    # A generator that fits a small segmenter on a CPU; the published one is width=64, blocks=9.
    adaptation: str = "scene-adaptation(width=16, blocks=4)"  # the term beside that loss


@dataclass(frozen=True)
class RealPlan:
    """Experiment (b): labelled frames of the town, unlabelled ones of CamVid."""

    camvid: str = "data/camvid"  # folder
    towns: tuple[str, ...] = ("Grid01", "Grid02")
    episodes: int = 10  # drives, in all
    frames: int = 50  # per drive
    methods: tuple[str, ...] = tuple(name for name in METHODS if name != BOTH)
    seeds: tuple[int, ...] = (0, 1, 2)
    labels: str = "cross-entropy(weights=enet)"  # the loss of labelled frames
    steps: int = 1000  # updates on the town before adapting
    batch_size: int = 8
    learning_rate: float = 3e-3
    adaptation_steps: int = 360  # updates of every method, shared by the rounds of self-training
    adaptation_batch_size: int = 4  # frames of each domain
    adaptation_learning_rate: float = 5e-4
    discriminator_learning_rate: float = 1e-4
    rounds: int = 3


@dataclass(frozen=True)
class AdaptationStudy:
    """Everything that decides a study. An experiment that is None is left out."""

    name: str = "adaptation"
    model: str = "enet"
    height: int = 144  # [pixels] that frames are brought to
    width: int = 192  # [pixels]
    threads: int = 2  # of torch; sums in another order give other weights
    scenes: ScenesPlan | None = ScenesPlan()
    real: RealPlan | None = RealPlan()
    carla: str | None = None  # HOST:PORT of a running CARLA server; None = start embedded towns

    def check(self, source: str) -> None:
        """Raise `BadInput` naming `source` and the key that cannot run."""
        if self.scenes is None and self.real is None:
            raise BadInput(f"{source}: expected at least one experiment, scenes or real")
        for name, plan in (("scenes", self.scenes), ("real", self.real)):
            if plan is None:
                continue
            if not plan.seeds or len(set(plan.seeds)) != len(plan.seeds) or min(plan.seeds) < 0:
                raise BadInput(f"{source}: {name}: seeds is {list(plan.seeds)}, expected different whole numbers of 0 or more")
            for key in ("episodes", "frames", "steps", "batch_size", "adaptation_steps", "adaptation_batch_size"):
                least = 2 if key == "episodes" else 1
                if getattr(plan, key) < least:
                    raise BadInput(f"{source}: {name}: {key} is {getattr(plan, key)}, expected at least {least}")
        if self.real is not None:
            unknown = [name for name in self.real.methods if name not in METHODS]
            if unknown or SOURCE_ONLY not in self.real.methods:
                known = ", ".join(METHODS)
                raise BadInput(
                    f"{source}: real: methods is {list(self.real.methods)}, expected {SOURCE_ONLY!r} and any of {known}"
                )
            if self.real.rounds < 1 or self.real.adaptation_steps % self.real.rounds:
                raise BadInput(
                    f"{source}: real: rounds is {self.real.rounds}, expected 1 or more that share the "
                    f"{self.real.adaptation_steps} adaptation_steps evenly: every method makes as many updates"
                )
        if self.scenes is not None:
            check_views(views_plan(self.scenes), source)
        try:
            study_trainings(self, Path())
        except BadInput as error:
            raise BadInput(f"{source}: {error}") from error


@dataclass(frozen=True)
class Training:
    """One training of a study: its name, which is its folder, and what it is scored on."""

    name: str
    config: TrainConfig
    scored_on: Mapping[str, str]  # name -> KIND:PATH, whose validation split it is
    rounds: RoundsPlan | None = None  # of self-training


def load_adaptation(path: Path) -> AdaptationStudy:
    """Read a study from YAML. Raises `BadInput` for a missing file, bad YAML, unknown keys, and wrong values."""
    if not path.is_file():
        raise BadInput(f"{path}: no such study file; see the shipped one: roadworthy adapt --show")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not readable as YAML ({error})") from error
    study: AdaptationStudy = from_plain(AdaptationStudy, values, str(path), {})
    study.check(str(path))
    return study


def save_adaptation(study: AdaptationStudy, path: Path) -> None:
    """Write the study as YAML, atomically."""
    write_text(path, show_adaptation(study))


def show_adaptation(study: AdaptationStudy) -> str:
    """Return the study as YAML."""
    return str(yaml.safe_dump(to_plain(study), sort_keys=False, allow_unicode=True))


def views_plan(plan: ScenesPlan) -> ViewsPlan:
    """Return what experiment (a) records."""
    base = ViewsPlan() if plan.views is None else load_views(Path(plan.views))
    return replace(base, episodes=plan.episodes, frames=plan.frames)


def drives_plan(study: AdaptationStudy, plan: RealPlan) -> RecordConfig:
    """Return what experiment (b) records."""
    return RecordConfig(
        towns=plan.towns,
        episodes=plan.episodes,
        frames=plan.frames,
        rig=CameraRig(width_px=study.width, height_px=study.height),
        carla=study.carla,
    )


def study_trainings(study: AdaptationStudy, folder: Path) -> list[Training]:
    """Return all trainings of a study in `folder`, each after those that it goes on from.

    Raises `BadInput` for what no training can be made of.
    """
    return [
        *(scene_trainings(study, study.scenes, folder) if study.scenes is not None else ()),
        *(real_trainings(study, study.real, folder) if study.real is not None else ()),
    ]


def scene_trainings(study: AdaptationStudy, plan: ScenesPlan, folder: Path) -> list[Training]:
    """Return the trainings of experiment (a): one per view with its labels, then two per pair, ours and its control.

    The control makes the same updates from the same network; of the target's frames batch normalisation sees as much.
    """
    views = views_plan(plan)
    data = {name: f"recording:{folder / 'views' / name}" for name in view_names(views)}
    pairs = view_pairs(views)
    shared = _shared(study, CARLA13.name)
    trainings = []
    for seed in plan.seeds:
        for name in data:
            config = TrainConfig(
                data=data[name], objective=plan.labels, steps=plan.steps, batch_size=plan.batch_size,
                optimiser=cast("OptimiserName", plan.optimiser), learning_rate=plan.learning_rate,
                schedule=cast("RateSchedule", plan.schedule), seed=seed, **shared,
            )  # fmt: skip
            scored = [name, *(pair.target for pair in pairs if pair.source == name)]
            trainings.append(Training(f"{name}-s{seed}", config, {each: data[each] for each in scored}))
        for pair in pairs:
            for method, term in ((STATISTICS, STATISTICS_TERM), (OURS, plan.adaptation)):
                config = TrainConfig(
                    data=data[pair.source], validation=data[pair.target], target=data[pair.target],
                    objective=f"{plan.labels} + {term}", init=str(folder / "runs" / f"{pair.source}-s{seed}"),
                    steps=plan.adaptation_steps, batch_size=plan.adaptation_batch_size,
                    learning_rate=plan.adaptation_learning_rate, seed=seed, **shared,
                )  # fmt: skip
                trainings.append(Training(pair_run(method, pair, seed), config, {pair.target: data[pair.target]}))
    return trainings


def pair_run(method: str, pair: ViewPair, seed: int) -> str:
    """Return the name of the training whose network a method of experiment (a) uses on a pair's target."""
    names = {
        NO_ADAPTATION: pair.source,
        STATISTICS: f"{pair.source}-{pair.target}-statistics",
        OURS: f"{pair.source}-{pair.target}",
        FINE_TUNING: pair.target,
    }
    return f"{names[method]}-s{seed}"


def real_trainings(study: AdaptationStudy, plan: RealPlan, folder: Path) -> list[Training]:
    """Return the trainings of experiment (b): the town first, then every method from that network."""
    town, camvid = f"recording:{folder / 'town'}", f"camvid:{plan.camvid}"
    shared = _shared(study, CAMVID.name)
    trainings = []
    for seed in plan.seeds:
        begin = TrainConfig(
            data=town, objective=plan.labels, steps=plan.steps, batch_size=plan.batch_size,
            learning_rate=plan.learning_rate, seed=seed, **shared,
        )  # fmt: skip
        trainings.append(Training(f"town-s{seed}", begin, {CAMVID.name: camvid}))
        for method in plan.methods:
            trainings.append(_method(plan, method, begin, f"{folder / 'runs' / f'town-s{seed}'}", camvid))
    return trainings


def method_run(method: str, seed: int) -> str:
    """Return the name of a method's training in experiment (b)."""
    return f"{method.replace(' + ', '+').replace(', ', '-').replace(' ', '-')}-s{seed}"


def _method(plan: RealPlan, method: str, begin: TrainConfig, init: str, camvid: str) -> Training:
    terms = METHODS[method]
    rounds = RoundsPlan("lrent", plan.rounds) if terms.startswith("self-training") else None
    config = replace(
        begin,
        data=camvid if method == ORACLE else begin.data,
        validation=camvid,
        target=camvid if terms else None,
        objective=f"{plan.labels} + {terms}" if terms else plan.labels,
        init=init,
        steps=plan.adaptation_steps if rounds is None else plan.adaptation_steps // plan.rounds,
        # Those that see no target frames see as many labelled ones instead: every method's update is of equal size.
        batch_size=plan.adaptation_batch_size if terms else 2 * plan.adaptation_batch_size,
        learning_rate=plan.adaptation_learning_rate,
        critic_learning_rate=plan.discriminator_learning_rate,
    )
    return Training(method_run(method, begin.seed), config, {CAMVID.name: camvid}, rounds)


def _shared(study: AdaptationStudy, classes: str) -> dict[str, Any]:
    return {
        "model": study.model,
        "size": (study.height, study.width),
        "threads": study.threads,
        "device": "auto",
        "classes": classes,
        "tensorboard": False,
    }
