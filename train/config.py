"""Everything that is needed to repeat a training, as one frozen dataclass and as the file `config.yaml`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.train.data.augment import Augmentation
from roadworthy.train.models import MODELS
from roadworthy.train.objectives import check_spec

CONFIG_FILE = "config.yaml"

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
OptimiserName = Literal["adam", "sgd"]
RateSchedule = Literal["linear", "poly", "constant"]
BatchNormMode = Literal["local", "sync", "frozen"]

MAX_SELECTION = 0.5  # more than half of the training data is not left over from training


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, how, and how long."""

    data: str  # KIND:PATH, see train.data.open_dataset; its split "train" is learnt from
    mixed: str | None = None  # KIND:PATH, labelled samples mixed in (dreamt ones, say); None = only `data`
    mix: float = 0.2  # share of all training samples that are from `mixed`
    validation: str | None = None  # KIND:PATH; None = the split "val" of `data`
    target: str | None = None  # images:FOLDER, KIND:PATH or pseudo:FOLDER, see train.data.target; unlabelled frames to adapt to
    classes: str | None = None  # taxonomy to learn in, when the data are labelled in another; see train.data.folding
    model: str = "enet"  # a name of train.models.MODELS
    objective: str = "cross-entropy"  # see train.objectives: "NAME(option=value)", also sums "A + 0.5*B"
    ground: str = "severity"  # ground matrix of the Wasserstein objective: severity, importance, or a ground.yaml file
    init: str | None = None  # a run folder to start from (pre-training); None = random weights
    backbone_weights: str | None = None  # a safetensors file with the encoder's weights; None = random weights
    steps: int = 1000  # updates of the segmenter
    epochs: float | None = None  # the same in passes of the segmenter through the training data; None = as `steps` says
    batch_size: int = 8  # frames per update, over all processes and parts
    accumulate: int = 1  # parts that a process works through one after the other for one update, to save memory
    size: tuple[int, int] = (128, 256)  # (height, width) that frames are resized to [pixels]
    crop: tuple[int, int] | None = None  # (height, width) of the random part that is learnt from [pixels]; None = all of it
    optimiser: OptimiserName = "adam"  # adam, or sgd with momentum
    learning_rate: float = 5e-4  # at the first step
    schedule: RateSchedule = "linear"  # how it falls: linear or poly (both to zero), or constant
    poly_power: float = 0.9  # of the schedule poly: (1 - progress) ** power
    critic_learning_rate: float | None = None  # the same for the critic; None = learning_rate
    critic_optimiser: OptimiserName | None = None  # None = optimiser
    weight_decay: float = 2e-4  # L2, of segmenter and critic
    critic_weight_decay: float | None = None  # the same for the critic; None = weight_decay
    beta1: float = 0.9  # Adam's memory of the gradient
    beta2: float = 0.99  # Adam's memory of its square
    momentum: float = 0.9  # of sgd
    batch_norm: BatchNormMode = "local"  # statistics of each process's part (local), of the batch (sync), or stored (frozen)
    ema: float | None = None  # decay per update of the averaged weights that are scored and kept; None = no averaging
    augmentation: Augmentation = field(default_factory=Augmentation)
    selection: float = 0.0  # share of the training frames held out to choose the best checkpoint by; 0 = keep the last
    select_every: int = 500  # iterations between two scorings on those frames
    patience: int | None = None  # scorings without a better one before training stops early; None = never
    skip_bad: bool = False  # go on without the samples that cannot be read
    seed: int = 0  # of weights, dropout, order and augmentation
    device: str = "auto"  # auto, cpu or cuda
    precision: Precision = "32-true"  # of Lightning Fabric: 32-true, bf16-mixed, 16-mixed
    threads: int | None = None  # of torch on a CPU; None = torch's choice
    workers: int = 2  # threads that read and vary frames; they change the speed, never the result
    checkpoint_every: int = 200  # iterations between resumable checkpoints
    tensorboard: bool = True  # write loss curves and pictures beside the run

    def __post_init__(self) -> None:
        """Check what can be checked without touching the disk; raises `BadInput` naming the field."""
        for name in ("steps", "batch_size", "accumulate", "select_every", "workers", "checkpoint_every"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("threads", "patience"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        for name in ("learning_rate", "critic_learning_rate", "epochs", "poly_power"):
            value = getattr(self, name)
            _require(self, name, value is None or (math.isfinite(value) and value > 0), "a finite number above 0")
        for name in ("weight_decay", "critic_weight_decay"):
            value = getattr(self, name)
            _require(self, name, value is None or (math.isfinite(value) and value >= 0), "a finite number of at least 0")
        for name in ("beta1", "beta2", "momentum"):
            _require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        _require(self, "ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1")
        _require(self, "mix", self.mixed is None or 0.001 <= self.mix <= 0.999, "from 0.001 to 0.999")
        _require(self, "selection", 0 <= self.selection <= MAX_SELECTION, f"from 0 to {MAX_SELECTION}")
        _require(self, "patience", self.patience is None or self.selection > 0, "used with a selection above 0 to judge by")
        _require(self, "seed", self.seed >= 0, "at least 0")
        _require(self, "device", self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")
        for name, kind in (
            ("precision", Precision),
            ("optimiser", OptimiserName),
            ("schedule", RateSchedule),
            ("batch_norm", BatchNormMode),
        ):
            _require(self, name, getattr(self, name) in get_args(kind), ", ".join(get_args(kind)))
        _require(
            self,
            "critic_optimiser",
            self.critic_optimiser in (None, *get_args(OptimiserName)),
            ", ".join(get_args(OptimiserName)),
        )
        _require(self, "model", self.model in MODELS, f"one of {', '.join(MODELS)}")
        multiple = MODELS[self.model].size_multiple
        for name in ("size", "crop"):
            sides = getattr(self, name)
            fits = sides is None or (len(sides) == 2 and all(side >= multiple and side % multiple == 0 for side in sides))
            _require(self, name, fits, f"(height, width), both multiples of {multiple} for {self.model}")
        check_spec(self.objective)

    def updates(self, samples: int) -> int:
        """Return how many updates of the segmenter to make with this many training samples."""
        return self.steps if self.epochs is None else math.ceil(self.epochs * samples / self.batch_size)

    def save(self, path: Path) -> None:
        """Write the configuration as YAML, atomically."""
        write_text(path, yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False))


def load_config(path: Path) -> TrainConfig:
    """Read a `config.yaml`. Raises `BadInput` naming an unknown or missing field."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected the configuration of a training run")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a YAML file ({error})") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected the fields of a training configuration")
    known = {entry.name for entry in dataclasses.fields(TrainConfig)}
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise BadInput(f"{path}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        for name in ("size", "crop"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        if "augmentation" in values:
            values["augmentation"] = Augmentation(**values["augmentation"])
        return TrainConfig(**values)
    except TypeError as error:
        raise BadInput(f"{path}: {error}") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def differences(left: TrainConfig, right: TrainConfig) -> list[str]:
    """Return "field: left -> right" for every field in which two configurations differ."""
    a, b = dataclasses.asdict(left), dataclasses.asdict(right)
    return [f"{key}: {a[key]} -> {b[key]}" for key in a if a[key] != b[key]]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _require(config: TrainConfig, name: str, condition: bool, expected: str) -> None:
    if not condition:
        raise BadInput(f"training option {name} is {getattr(config, name)!r}, expected {expected}")
