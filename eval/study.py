"""What a study is: the typed plan of a comparison, its YAML file and its presets."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from roadworthy.eval.folder import file_stem
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text


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
class TrainPlan:
    """How each segmenter is trained: one shared pre-training, then each objective from those weights."""

    model: str = "enet"
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
    pretrain_threads: int = 2  # CPU threads; part of the plan because sums in another order give other weights
    finetune_threads: int = 1  # the fine-tunings run side by side


@dataclass(frozen=True)
class LatencyPlan:
    """How latency is measured: the models take turns, so that a slow moment of the machine hits all of them."""

    rounds: int = 150
    warmup: int = 10
    threads: int | None = None  # CPU threads of the runtime; None = all physical cores


@dataclass(frozen=True)
class DrivePlan:
    """How each segmenter's drivers learn and are judged; the same policy seeds and routes for every segmenter."""

    policy_seeds: tuple[int, ...] = (0,)
    train_towns: tuple[str, ...] = ("Grid01",)
    demonstration_steps: int = 4000  # of 0.1 s, by the expert, recorded once for all segmenters
    imitation_steps: int = 350  # updates of the policy on the demonstrations
    reinforcement_steps: int = 300  # environment steps of 0.1 s with A2C after the imitation; 0 = imitation only
    test_towns: tuple[str, ...] = ("Grid01", "Crooked01")  # those outside train_towns are reported as held out
    straight_routes: int = 3  # per town
    one_turn_routes: int = 3  # per town
    navigation_routes: int = 0  # per town, with two turns or more
    max_route_m: float | None = 150.0  # [m] longest route; None = the task's own limit
    weathers: str = "training"  # of the judged drives, "training" or "held-out"
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
    train_data: RecordingPlan = RecordingPlan(towns=("Grid01", "Grid02"), episodes=12, frames=50)
    # A town and weathers that no segmenter saw in training.
    test_data: RecordingPlan = RecordingPlan(towns=("Crooked01",), episodes=12, frames=10, weathers="held-out", seed=7)
    train: TrainPlan = TrainPlan()
    latency: LatencyPlan = LatencyPlan()
    drive: DrivePlan = DrivePlan()
    carla: str | None = None  # HOST:PORT of a running CARLA server; None = start the embedded town


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
    study: StudyConfig = _build(StudyConfig, data, source)
    check_study(study, source)
    return study


def study_data(study: StudyConfig) -> dict[str, Any]:
    """Return the study as plain data, ready for YAML or JSON; `study_from` reads it back."""
    plain: dict[str, Any] = _plain(study)
    return plain


def save_study(study: StudyConfig, path: Path) -> None:
    """Write the study to `path` as YAML, atomically."""
    write_text(path, yaml.safe_dump(study_data(study), sort_keys=False, allow_unicode=True))


def check_study(study: StudyConfig, source: str) -> None:
    """Refuse what cannot run, before anything has started. Raises `BadInput` naming the key."""
    at_least = {
        "height": (study.height, 32),
        "width": (study.width, 32),
        "train_data.episodes": (study.train_data.episodes, 1),
        "train_data.frames": (study.train_data.frames, 1),
        "test_data.episodes": (study.test_data.episodes, 2),  # an interval needs two
        "test_data.frames": (study.test_data.frames, 1),
        "train.pretrain_steps": (study.train.pretrain_steps, 0),
        "train.finetune_steps": (study.train.finetune_steps, 1),
        "train.batch_size": (study.train.batch_size, 1),
        "train.pretrain_threads": (study.train.pretrain_threads, 1),
        "train.finetune_threads": (study.train.finetune_threads, 1),
        "latency.rounds": (study.latency.rounds, 10),
        "latency.warmup": (study.latency.warmup, 0),
        "drive.demonstration_steps": (study.drive.demonstration_steps, 1),
        "drive.imitation_steps": (study.drive.imitation_steps, 1),
        "drive.straight_routes": (study.drive.straight_routes, 0),
        "drive.one_turn_routes": (study.drive.one_turn_routes, 0),
        "drive.navigation_routes": (study.drive.navigation_routes, 0),
        "drive.reinforcement_steps": (study.drive.reinforcement_steps, 0),
        "drive.vehicles": (study.drive.vehicles, 0),
        "drive.walkers": (study.drive.walkers, 0),
    }
    for key, (value, least) in at_least.items():
        if value < least:
            raise BadInput(f"{source}: {key} is {value}, expected at least {least}")
    lists = {
        "train.objectives": study.train.objectives,
        "train.seeds": study.train.seeds,
        "train_data.towns": study.train_data.towns,
        "test_data.towns": study.test_data.towns,
        "drive.policy_seeds": study.drive.policy_seeds,
        "drive.train_towns": study.drive.train_towns,
        "drive.test_towns": study.drive.test_towns,
    }
    for key, values in lists.items():
        if not values:
            raise BadInput(f"{source}: {key} is empty, expected at least one")
        stems = [file_stem(str(value)) for value in values]
        if len(set(stems)) != len(stems):
            raise BadInput(f"{source}: {key} names something twice: {', '.join(map(str, values))}")
    if study.drive.straight_routes + study.drive.one_turn_routes + study.drive.navigation_routes == 0:
        raise BadInput(f"{source}: drive has no routes, expected straight_routes, one_turn_routes or navigation_routes above 0")
    for key, weathers in (("train_data", study.train_data.weathers), ("test_data", study.test_data.weathers),
                          ("drive", study.drive.weathers)):  # fmt: skip
        if weathers not in ("training", "held-out"):
            raise BadInput(f"{source}: {key}.weathers is {weathers!r}, expected 'training' or 'held-out'")


def _plain(value: Any) -> Any:
    """Turn dataclasses and tuples into dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _build(kind: Any, data: object, where: str) -> Any:
    """Build a value of type `kind` from plain data; `where` is the path of keys for errors."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return _build(next(item for item in arguments if item is not type(None)), data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise BadInput(f"{where}: found {data!r}, expected a list")
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, data, where)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        hint = ""
        if kind is float and isinstance(data, str):
            hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
        raise BadInput(f"{where}: found {data!r}, expected {kind.__name__}{hint}")
    return data


def _build_dataclass(kind: Any, data: object, where: str) -> Any:
    if not isinstance(data, dict):
        raise BadInput(f"{where}: found {data!r}, expected a mapping of keys to values")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            suggestion = f"; did you mean {close[0]!r}?" if close else ""
            raise BadInput(f"{where}: unknown key {key!r}{suggestion} Known: {', '.join(known)}")
    missing = [
        name
        for name, item in known.items()
        if name not in data and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadInput(f"{where}: {', '.join(missing)} is missing")
    return kind(**{key: _build(hints[key], value, f"{where}: {key}") for key, value in data.items()})
