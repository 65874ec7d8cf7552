"""From a configuration to a run folder: check everything, train, score, and write what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import TAXONOMIES, Taxonomy
from roadworthy.train.checkpoint import MODEL_FILE, load_run, save_model
from roadworthy.train.config import CONFIG_FILE, TrainConfig, differences, load_config
from roadworthy.train.data import list_dataset
from roadworthy.train.data.batches import Samples
from roadworthy.train.data.folding import fold_classes
from roadworthy.train.data.frames import Frames, read_checked
from roadworthy.train.data.pseudo import PseudoFrames, load_facts, pseudo_folder
from roadworthy.train.data.target import open_target
from roadworthy.train.distributed import make_fabric
from roadworthy.train.ground import GroundMatrix, importance, open_ground
from roadworthy.train.loop import Material, Progress, Trainer
from roadworthy.train.models import build_model
from roadworthy.train.models.backbones import load_backbone
from roadworthy.train.objectives import Setting, build_objective
from roadworthy.train.objectives.spec import parse_spec
from roadworthy.train.selection import Selected, split_selection
from roadworthy.train.validation import ValidationScores

METRICS_FILE = "metrics.json"
READING_SHARE = 0.02  # of the progress bar, for reading and checking the data
TRAINED_SHARE = 0.98  # of the progress bar, when validation begins
BYTES_PER_PARAMETER = (
    40  # on disk: the model, the best one, and a checkpoint (weights, two moments, average) with its successor
)


@dataclass(frozen=True)
class FitResult:
    """What a training gave: its folder, its scores on the validation data, and how long it took."""

    run: Path
    validation: ValidationScores
    losses: dict[str, float]  # running mean of each term at the end
    steps: int  # updates of the segmenter
    iterations: int  # updates of segmenter and critic
    seconds: float  # in the loop, all resumed parts together
    steps_per_second: float
    skipped: int = 0  # samples that could not be read and were left out
    selected: Selected | None = None  # the checkpoint that the model is, where it was chosen by selection frames


def fit(config: TrainConfig, output: Path, *, progress: Progress | None = None, resume: bool = False) -> FitResult:
    """Train as `config` says and write the run folder `output` (config, weights, checkpoint, metrics, curves).

    With `resume` an interrupted training of the same configuration goes on from its last checkpoint (on a CPU to the same
    bits as without the interruption) and a finished one is returned as it is. Raises `BadInput` before anything is written
    when the data, the configuration or the folder will not do, and `RoadworthyError` when a loss stops being a number or
    the disk is full. Under `torchrun` every process calls this; the first one alone writes and reports.
    """
    finished = _prepare_folder(config, output, resume)
    if finished is not None:
        return finished
    with _torch_state(config):
        fabric = make_fabric(config)
        report = progress if progress is not None and fabric.is_global_zero else lambda text, fraction: None
        # Everything a user can have got wrong is found before the folder is touched.
        material = _read(config, lambda text, done: report(text, READING_SHARE * done))
        trainer = _set_up(config, output, fabric, material)
        span = TRAINED_SHARE - READING_SHARE
        try:
            trainer.run(lambda text, done: report(text, READING_SHARE + span * done))
            return _finish(trainer, report)
        except OSError as error:
            raise RoadworthyError(
                f"{output}: cannot be written ({error}); free some space or check the folder's permissions, "
                "then go on with --resume"
            ) from error


def _read(config: TrainConfig, report: Progress) -> Material:
    """Read and check all frames. Raises one `BadInput` naming every sample that cannot be used."""
    listed = fold_classes(list_dataset(config.data, "train"), config.classes)
    held_out = fold_classes(list_dataset(config.validation or config.data, "val"), config.classes)
    if held_out.taxonomy != listed.taxonomy:
        raise BadInput(
            f"validation data has taxonomy {held_out.taxonomy.name!r}, expected {listed.taxonomy.name!r}; "
            "name one to learn in: --classes"
        )
    training, selection = split_selection(listed, config.selection)
    wanted = {"training": training, "held_out": held_out}
    if selection is not None:
        wanted["selection"] = selection
    if config.mixed is not None:
        wanted["mixed"] = fold_classes(list_dataset(config.mixed, "train"), config.classes)
        if wanted["mixed"].taxonomy.classes != training.taxonomy.classes:
            raise BadInput(
                f"mixed data has taxonomy {wanted['mixed'].taxonomy.name!r}, expected {training.taxonomy.name!r}; "
                "name one to learn in: --classes"
            )
    pseudo = None if config.target is None else pseudo_folder(config.target)
    if config.target is not None:
        wanted["target"] = open_target(config.target if pseudo is None else load_facts(pseudo).target, training.taxonomy)
    read = read_checked(list(wanted.values()), config.size, report, skip_bad=config.skip_bad)
    frames: dict[str, Frames] = dict(zip(wanted, read, strict=True))
    target: Samples | None = frames.get("target")
    if pseudo is not None:
        target = PseudoFrames(pseudo, load_facts(pseudo), frames["target"])
    return Material(frames["training"], frames.get("selection"), frames["held_out"], target, frames.get("mixed"))


def _set_up(config: TrainConfig, output: Path, fabric: Fabric, material: Material) -> Trainer:
    """Build the networks and the objective, and lay out the run folder."""
    taxonomy = material.taxonomy
    ground = _ground(config, taxonomy)
    initial = None if config.init is None else _initial_weights(Path(config.init), config, taxonomy)
    torch.manual_seed(config.seed)
    steps = config.updates(len(material.training))
    setting = Setting(config.model, taxonomy, material.training.class_pixels, ground, steps)
    model = build_model(config.model, len(taxonomy))
    objective = build_objective(config.objective, setting)
    if objective.adapts != (config.target is not None):
        raise BadInput(
            f"objective {config.objective!r} learns from unlabelled frames of a target domain; say which: --target KIND:PATH"
            if objective.adapts
            else f"a target is given, but objective {config.objective!r} does not adapt to it; add minent, for instance"
        )
    if objective.wants_pseudo and not isinstance(material.target, PseudoFrames):
        raise BadInput(
            f"objective {config.objective!r} learns from pseudo-labels, which the target {config.target!r} does not have; "
            "train in rounds: --pseudo-labels lrent"
        )
    if config.backbone_weights is not None:
        load_backbone(model, config.backbone_weights)
    if initial is not None:
        model.load_state_dict(initial)
    if fabric.is_global_zero:
        networks = [network for network in (model, objective.critic, objective.generator) if network is not None]
        parameters = [parameter.numel() for network in networks for parameter in network.parameters()]
        _check_space(output, BYTES_PER_PARAMETER * sum(parameters))
    trainer = Trainer(config, output, fabric, model, objective, material)
    fabric.barrier()  # all processes have looked at the folder before one writes to it
    if fabric.is_global_zero:
        _open_folder(config, output)
    return trainer


def _finish(trainer: Trainer, report: Progress) -> FitResult:
    """Validate, and write the model and its metrics; the metrics come last and mark the run as finished."""
    report("validating", TRAINED_SHARE)
    trainer.restore_best()
    scores = trainer.scores(trainer.material.held_out)
    speed = trainer.updates / max(1e-9, trainer.seconds)
    material = trainer.material
    parts = [part for part in (material.training, material.selection, material.held_out, material.mixed) if part is not None]
    result = FitResult(
        trainer.output, scores, trainer.losses, trainer.updates, trainer.iteration, round(trainer.seconds, 3), round(speed, 3),
        len({problem for part in parts for problem in part.problems}), trainer.selected,
    )  # fmt: skip
    if trainer.fabric.is_global_zero:
        save_model(trainer.output, trainer.network, trainer.config, material.taxonomy)
        facts = {key: value for key, value in dataclasses.asdict(result).items() if key != "run"}
        facts["parameters"] = sum(parameter.numel() for parameter in trainer.network.parameters())
        facts["processes"] = trainer.fabric.world_size
        write_text(trainer.output / METRICS_FILE, json.dumps(facts, indent=2) + "\n")
    trainer.fabric.barrier()
    report(f"trained: mIoU {100 * scores.mean_iou:.1f} % on {scores.frames} validation frames", 1.0)
    return result


def _prepare_folder(config: TrainConfig, output: Path, resume: bool) -> FitResult | None:
    """Check that `output` can take this training; returns the result if it is there already and may be used."""
    parent = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise BadInput(f"{parent}: is a file, expected a folder for the run")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(
            f"{parent}: cannot be written to, expected a folder for the run {output.name!r}; choose another --output"
        )
    if not (output / CONFIG_FILE).is_file():
        return None
    if not resume:
        raise BadInput(f"{output}: holds a run already; resume it, or choose another folder")
    changed = differences(load_config(output / CONFIG_FILE), config)
    if changed:
        raise BadInput(f"{output}: cannot resume with another configuration ({'; '.join(changed)}); choose another folder")
    if (output / METRICS_FILE).is_file() and (output / MODEL_FILE).is_file():
        return load_result(output)
    return None


def _check_space(output: Path, needed: int) -> None:
    existing = next(path for path in (output, *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise BadInput(
            f"{existing}: {free / 1e6:.0f} MB free, expected at least {needed / 1e6:.0f} MB for the run's checkpoints; "
            "free some space or choose another --output"
        )


def _open_folder(config: TrainConfig, output: Path) -> None:
    """Make the run folder with its configuration, and remove what a killed process left half written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for stale in output.glob(".*.part*"):
            stale.unlink()
        config.save(output / CONFIG_FILE)
    except OSError as error:
        raise BadInput(f"{output}: cannot be written to ({error.strerror}); choose another --output") from error


def load_result(run: Path) -> FitResult:
    """Read the result of a finished run from its metrics file."""
    path = run / METRICS_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        scores = ValidationScores(**facts["validation"])
        rest = {key: facts[key] for key in ("losses", "steps", "iterations", "seconds", "steps_per_second")}
        selected = None if facts.get("selected") is None else Selected(**facts["selected"])
        return FitResult(run=run, validation=scores, **rest, skipped=facts.get("skipped", 0), selected=selected)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not the metrics of a finished run ({error!r})") from error


def _ground(config: TrainConfig, taxonomy: Taxonomy) -> GroundMatrix:
    """Return the ground matrix; classes of a user's own have no severity, which matters to Wasserstein losses alone."""
    wanted = any(
        term.name == "wasserstein" or (term.name, term.options.get("loss")) == ("self-training", "wasserstein")
        for term in parse_spec(config.objective)
    )
    if wanted or config.ground != "severity" or taxonomy.name in TAXONOMIES:
        return open_ground(config.ground, taxonomy)
    return importance(taxonomy)


def _initial_weights(run: Path, config: TrainConfig, taxonomy: Taxonomy) -> dict[str, Tensor]:
    model, before, classes = load_run(run)
    if before.model != config.model or classes != taxonomy:
        raise BadInput(
            f"init {run}: it is a {before.model} for {classes.name!r}, expected a {config.model} for {taxonomy.name!r}"
        )
    return model.state_dict()


@contextlib.contextmanager
def _torch_state(config: TrainConfig) -> Iterator[None]:
    """Leave torch's random state and thread count as they were found."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            if config.threads is not None:
                torch.set_num_threads(config.threads)
            yield
        finally:
            torch.set_num_threads(threads)
