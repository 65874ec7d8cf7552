"""Everything that is needed to repeat a training, as one frozen dataclass and as the file `config.yaml`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.train.data.augment import Augmentation
from roadworthy.train.models import MODELS
from roadworthy.train.objectives import check_spec

CONFIG_FILE = "config.yaml"

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, how, and how long."""

    data: str  # KIND:PATH, see train.data.open_dataset; its split "train" is learnt from
    validation: str | None = None  # KIND:PATH; None = the split "val" of `data`
    model: str = "enet"  # a name of train.models.MODELS
    objective: str = "cross-entropy"  # see train.objectives: "NAME(option=value)", also sums "A + 0.5*B"
    ground: str = "severity"  # ground matrix of the Wasserstein objective: severity, importance, or a ground.yaml file
    init: str | None = None  # a run folder to start from (pre-training); None = random weights
    steps: int = 1000  # updates of the segmenter
    batch_size: int = 8  # frames per update
    size: tuple[int, int] = (128, 256)  # (height, width) that frames are resized to [pixels]
    learning_rate: float = 5e-4  # of Adam at the first step; falls linearly to zero at the last
    critic_learning_rate: float | None = None  # the same for the critic; None = learning_rate
    weight_decay: float = 2e-4  # L2, of segmenter and critic
    beta1: float = 0.9  # Adam's memory of the gradient
    beta2: float = 0.99  # Adam's memory of its square
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0  # of weights, dropout, order and augmentation
    device: str = "auto"  # auto, cpu or cuda
    precision: Precision = "32-true"  # of Lightning Fabric: 32-true, bf16-mixed, 16-mixed
    threads: int | None = None  # of torch on a CPU; None = torch's choice
    checkpoint_every: int = 200  # iterations between resumable checkpoints
    tensorboard: bool = True  # write loss curves beside the run

    def __post_init__(self) -> None:
        """Check what can be checked without touching the disk; raises `BadInput` naming the field."""
        for name in ("steps", "batch_size", "checkpoint_every"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "critic_learning_rate"):
            value = getattr(self, name)
            _require(self, name, value is None or (math.isfinite(value) and value > 0), "a finite number above 0")
        _require(self, "weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "a number of at least 0")
        _require(self, "beta1", 0 <= self.beta1 < 1, "between 0 and 1")
        _require(self, "beta2", 0 <= self.beta2 < 1, "between 0 and 1")
        _require(self, "seed", self.seed >= 0, "at least 0")
        _require(self, "threads", self.threads is None or self.threads >= 1, "at least 1")
        _require(self, "device", self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda")
        known = ("32-true", "bf16-mixed", "16-mixed")
        _require(self, "precision", self.precision in known, ", ".join(known))
        _require(self, "model", self.model in MODELS, f"one of {', '.join(MODELS)}")
        multiple = MODELS[self.model].size_multiple
        fits = len(self.size) == 2 and all(side >= multiple and side % multiple == 0 for side in self.size)
        _require(self, "size", fits, f"(height, width), both multiples of {multiple} for {self.model}")
        check_spec(self.objective)

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
        if "size" in values:
            values["size"] = tuple(values["size"])
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
