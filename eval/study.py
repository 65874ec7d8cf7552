"""What a study is: the typed plan of a comparison, its YAML file and its presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from roadworthy.eval.folder import file_stem
from roadworthy.eval.plain import from_plain, to_plain
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

WEATHERS = ("training", "held-out")  # groups of named weathers, see agent.weather
PRECISIONS = ("fp32", "fp16", "int8")
OBSERVATIONS = ("latents", "segmentation-depth")
DEVICES = ("cpu", "auto", "cuda")


@dataclass(frozen=True)
class RecordingPlan:
    """A data set to record from a car on autopilot; frames are spread evenly over towns and episodes."""

    towns: tuple[str, ...]
    episodes: int  # in all
    frames: int  # saved per episode
    weathers: str = "training"  # "training" or "held-out": which named weathers are sampled
    vehicles: int = 15  # others on the road
    walkers: int = 15
    seed: int = 0


@dataclass(frozen=True)
class ExistingData:
    """Labelled data that are there already; the whole of one split is used."""

    data: str  # KIND:PATH, see `train.data`; with $VARIABLES of the environment, relative to where the command is run
    split: str | None = None  # None = "train" to learn from, "val" to test on


@dataclass(frozen=True)
class ReadyModel:
    """A model file that takes part as it is: adopted from elsewhere (`roadworthy adopt`) or exported before. Not trained."""

    name: str
    path: str  # .onnx in fp32, of the test data's classes; to be driven on it also needs a latent output


@dataclass(frozen=True)
class TrainPlan:
    """How each segmenter is trained: one shared pre-training per model and seed, then each objective from those weights."""

    models: tuple[str, ...] = ("enet",)  # names of train.models; every objective with each of them
    # Each is a name of train.objectives with its options, such as "wasserstein(metric=huber)", or a sum of them.
    # The gambler's turns are shorter than its paper's (200 and 400 updates), so that there are some in a short training.
    objectives: tuple[str, ...] = ("cross-entropy", "gambling(segmenter_steps=20, gambler_steps=10)", "wasserstein")
    seeds: tuple[int, ...] = (0,)  # one full training of every objective per seed
    # Rare classes weigh more (ENet's own weights): a short plain training would give every objective a net without cars.
    pretrain_objective: str = "cross-entropy(weights=enet)"
    pretrain_steps: int = 800  # shared updates, counted for every objective
    finetune_steps: int = 250  # further updates with the objective itself
    batch_size: int = 8  # [images]
    learning_rate: float = 3e-3
    finetune_learning_rate: float = 1e-3
    crop: tuple[int, int] | None = None  # (height, width) [pixels] of the random part learnt from; None = whole frames
    zoom: tuple[float, float] = (0.8, 1.4)  # random factors, smallest and largest
    weight_decay: float = 2e-4  # L2
    # 0..1, on the data's val split: a pre-training below it (mean over seeds) stops the study before the fine-tunings.
    floor_miou: float = 0.0
    pretrain_threads: int = 2  # CPU threads; part of the plan because sums in another order give other weights
    finetune_threads: int = 1  # the fine-tunings run side by side


@dataclass(frozen=True)
class LatencyPlan:
    """How latency is measured: the models take turns, so that a slow moment of the machine hits all of them."""

    backends: tuple[str, ...] = ("auto",)  # names of runtime.backends, or auto
    batches: tuple[int, ...] = (1,)  # [frames] per call
    rounds: int = 150
    warmup: int = 10
    threads: int | None = None  # CPU threads of the runtime; None = all physical cores


@dataclass(frozen=True)
class DrivePlan:
    """How each segmenter's drivers learn and are judged; the same policy seeds and routes for every segmenter."""

    # What the drivers see: "latents" (each segmenter gets a driver of its own), or "segmentation-depth": one driver per policy
    # seed, taught on the simulator's true labels and depth, looks through every segmenter in turn (its labels, true depth).
    observation: str = "latents"
    policy_seeds: tuple[int, ...] = (0,)
    train_towns: tuple[str, ...] = ("Grid01",)
    demonstration_steps: int = 4000  # of 0.1 s, by the expert, recorded once for all segmenters
    imitation_steps: int = 450  # updates of the policy on the demonstrations
    reinforcement_steps: int = 300  # environment steps of 0.1 s with A2C after the imitation; 0 = imitation only
    test_towns: tuple[str, ...] = ("Grid01", "Crooked01")  # those outside train_towns are reported as held out
    straight_routes: int = 3  # per town
    one_turn_routes: int = 3  # per town
    navigation_routes: int = 0  # per town, with two turns or more
    max_route_m: float | None = 150.0  # [m] longest route; None = the task's own limit
    weathers: tuple[str, ...] = ("training",)  # of the judged drives: "training", "held-out" or both; every town under each
    precision: str | None = None  # of the segmenter that drives; None = the first of the study's
    vehicles: int = 8  # others on the road
    walkers: int = 8
    seed: int = 100  # of routes and traffic; the same for every segmenter


@dataclass(frozen=True)
class StudyConfig:
    """Everything that decides a comparison. Two studies with equal configurations run the same."""

    name: str
    title: str = "Which loss is roadworthy?"
    seed: int = 0
    height: int = 128  # [pixels] of recorded frames and of the models' input
    width: int = 256  # [pixels]
    train_data: RecordingPlan | ExistingData = RecordingPlan(towns=("Grid01", "Grid02"), episodes=12, frames=50)
    # A town and weathers that no segmenter saw in training.
    test_data: RecordingPlan | ExistingData = RecordingPlan(
        towns=("Crooked01",), episodes=12, frames=10, weathers="held-out", seed=7
    )
    train: TrainPlan | None = TrainPlan()  # None = only models that are ready
    models: tuple[ReadyModel, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)  # each is made, checked, scored and timed; the first one is ranked
    latency: LatencyPlan | None = LatencyPlan()  # None = not measured
    drive: DrivePlan | None = DrivePlan()  # None = a study of segmentation and latency alone
    device: str = "cpu"  # to train, score and time on: cpu, auto or cuda; only cpu repeats to the bit
    carla: str | None = None  # HOST:PORT of a running CARLA server; None = start the embedded town


# Keys that studies had before, and what to write now.
RENAMED: Mapping[type, Mapping[str, str]] = {
    TrainPlan: {"model": "'models', a list: models: [enet]"},
}

PRESETS: Mapping[str, StudyConfig] = {"quick": StudyConfig(name="quick", title="Which loss is roadworthy? (quick study)")}


def preset(name: str) -> StudyConfig:
    """Return the study called `name`; raises `BadInput` listing the known ones."""
    if name not in PRESETS:
        raise BadInput(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def load_study(path: Path) -> StudyConfig:
    """Read a study from YAML. Raises `BadInput` for a missing file, bad YAML, unknown or missing keys, and wrong values."""
    if not path.is_file():
        raise BadInput(f"{path}: no such study file; start from a preset: roadworthy compare --preset quick")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not readable as YAML ({error})") from error
    return study_from(data, str(path))


def study_from(data: object, source: str) -> StudyConfig:
    """Build and check a study from plain data, as YAML gives it; errors name `source` and the key."""
    study: StudyConfig = from_plain(StudyConfig, data, source, RENAMED)
    check_study(study, source)
    return study


def study_data(study: StudyConfig) -> dict[str, Any]:
    """Return the study as plain data, ready for YAML or JSON; `study_from` reads it back."""
    plain: dict[str, Any] = to_plain(study)
    return plain


def save_study(study: StudyConfig, path: Path) -> None:
    """Write the study to `path` as YAML, atomically."""
    write_text(path, yaml.safe_dump(study_data(study), sort_keys=False, allow_unicode=True))


def check_study(study: StudyConfig, source: str) -> None:
    """Refuse what cannot run, before anything has started. Raises `BadInput` naming the key."""
    if study.train is None and not study.models:
        raise BadInput(f"{source}: train is null and models is empty, expected at least one segmenter")
    if file_stem(study.name) != study.name:
        raise BadInput(f"{source}: name is {study.name!r}, expected letters, digits and -_. as in a file's name")
    at_least: dict[str, tuple[float, float]] = {"height": (study.height, 32), "width": (study.width, 32)}
    lists: dict[str, Sequence[object]] = {"precisions": study.precisions}
    weathers: dict[str, str] = {}
    for key, data, least in (("train_data", study.train_data, 1), ("test_data", study.test_data, 2)):  # an interval needs two
        if isinstance(data, RecordingPlan):
            at_least |= {f"{key}.episodes": (data.episodes, least), f"{key}.frames": (data.frames, 1)}
            lists[f"{key}.towns"], weathers[key] = data.towns, data.weathers
    if isinstance(study.train_data, ExistingData) and study.train_data.split not in (None, "train"):
        raise BadInput(f"{source}: train_data.split is {study.train_data.split!r}, expected 'train': it is what training reads")
    if (train := study.train) is not None:
        at_least |= {
            f"train.{key}": (getattr(train, key), least)
            for key, least in (("pretrain_steps", 0), ("finetune_steps", 1), ("batch_size", 1), ("pretrain_threads", 1),
                               ("finetune_threads", 1), ("floor_miou", 0.0), ("weight_decay", 0.0))
        }  # fmt: skip
        lists |= {"train.models": train.models, "train.objectives": train.objectives, "train.seeds": train.seeds}
        for key, pair in (("crop", train.crop), ("zoom", train.zoom)):
            if pair is not None and len(pair) != 2:
                raise BadInput(f"{source}: train.{key} is {list(pair)}, expected two numbers")
        if train.floor_miou and not train.pretrain_steps:
            raise BadInput(f"{source}: train.floor_miou is what the pre-training must reach, but pretrain_steps is 0")
    if (latency := study.latency) is not None:
        at_least |= {"latency.rounds": (latency.rounds, 10), "latency.warmup": (latency.warmup, 0)}
        at_least |= {} if latency.threads is None else {"latency.threads": (latency.threads, 1)}
        at_least |= {f"latency.batches[{i}]": (batch, 1) for i, batch in enumerate(latency.batches)}
        lists |= {"latency.backends": latency.backends, "latency.batches": latency.batches}
    if (drive := study.drive) is not None:
        at_least |= {
            f"drive.{key}": (getattr(drive, key), least)
            for key, least in (
                ("demonstration_steps", 1), ("imitation_steps", 1), ("straight_routes", 0), ("one_turn_routes", 0),
                ("navigation_routes", 0), ("reinforcement_steps", 0), ("vehicles", 0), ("walkers", 0),
            )
        }  # fmt: skip
        at_least |= {} if drive.max_route_m is None else {"drive.max_route_m": (drive.max_route_m, 1.0)}
        lists |= {"drive.policy_seeds": drive.policy_seeds, "drive.train_towns": drive.train_towns}
        lists |= {"drive.test_towns": drive.test_towns, "drive.weathers": drive.weathers}
        weathers |= {f"drive.weathers[{i}]": which for i, which in enumerate(drive.weathers)}
    for key, (value, lowest) in at_least.items():
        if value < lowest:
            raise BadInput(f"{source}: {key} is {value}, expected at least {lowest}")
    for key, values in lists.items():
        if not values:
            raise BadInput(f"{source}: {key} is empty, expected at least one")
        stems = [file_stem(str(value)) for value in values]
        if len(set(stems)) != len(stems):
            raise BadInput(f"{source}: {key} names something twice: {', '.join(map(str, values))}")
    if drive is not None and drive.straight_routes + drive.one_turn_routes + drive.navigation_routes == 0:
        raise BadInput(f"{source}: drive has no routes, expected straight_routes, one_turn_routes or navigation_routes above 0")
    for key, which in weathers.items():
        name = key if key.startswith("drive") else f"{key}.weathers"
        if which not in WEATHERS:
            raise BadInput(f"{source}: {name} is {which!r}, expected {' or '.join(map(repr, WEATHERS))}")
    wanted = {f"precisions[{i}]": precision for i, precision in enumerate(study.precisions)}
    for key, precision in wanted.items():
        if precision not in PRECISIONS:
            raise BadInput(f"{source}: {key} is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if drive is not None and drive.precision not in (None, *study.precisions):
        raise BadInput(
            f"{source}: drive.precision is {drive.precision!r}, expected one of the study's precisions: "
            f"{', '.join(study.precisions)}"
        )
    if drive is not None and drive.observation not in OBSERVATIONS:
        raise BadInput(f"{source}: drive.observation is {drive.observation!r}, expected {' or '.join(map(repr, OBSERVATIONS))}")
    if drive is not None and drive.observation != "latents" and drive.reinforcement_steps:
        raise BadInput(
            f"{source}: drive.reinforcement_steps is {drive.reinforcement_steps}, expected 0: the judge imitates only"
        )
    if drive is not None and not ("training" in drive.weathers and set(drive.test_towns) & set(drive.train_towns)):
        raise BadInput(
            f"{source}: drive.test_towns is {', '.join(drive.test_towns)} under the weathers {', '.join(drive.weathers)}, "
            f"expected also one of drive.train_towns ({', '.join(drive.train_towns)}) under the training weathers: a driver "
            "that cannot finish what it was trained on judges no segmenter"
        )
    if study.device not in DEVICES:
        raise BadInput(f"{source}: device is {study.device!r}, expected one of {', '.join(DEVICES)}")
