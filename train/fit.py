"""The one training loop: it runs every objective on every segmenter, resumably, and fills a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.checkpoint import (
    LAST_FILE,
    MODEL_FILE,
    load_run,
    load_training,
    load_weights,
    optimiser_tensors,
    restore_optimiser,
    save_model,
    save_training,
)
from roadworthy.train.config import CONFIG_FILE, TrainConfig, differences, load_config
from roadworthy.train.curves import Curves
from roadworthy.train.data import open_dataset
from roadworthy.train.data.batches import Batches, RawBatch
from roadworthy.train.data.frames import Frames
from roadworthy.train.ground import GroundMatrix, importance, load_ground, severity
from roadworthy.train.models import Segmenter, build_model
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Objective, Setting, build_objective
from roadworthy.train.validation import ValidationScores, validate

METRICS_FILE = "metrics.json"
READING_SHARE = 0.02  # of the progress bar, for reading and checking the data
SMOOTHING = 0.98  # of the running means of the losses that progress and metrics show

Progress = Callable[[str, float], None]  # what is being done (losses, speed), fraction done 0..1


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


def fit(config: TrainConfig, output: Path, *, progress: Progress | None = None, resume: bool = False) -> FitResult:
    """Train as `config` says and write the run folder `output` (config, weights, checkpoint, metrics, curves).

    With `resume` an interrupted training of the same configuration goes on from its last checkpoint (on a CPU to the same
    bits as without the interruption) and a finished one is returned as it is. Raises `BadInput` before anything is written
    when the data, the configuration or the folder will not do, and `RoadworthyError` when a loss stops being a number.
    """
    report = progress or (lambda text, fraction: None)
    finished = _prepare_folder(config, output, resume)
    if finished is not None:
        return finished
    with _torch_state(config):
        trainer = _Trainer(config, output, report)
        trainer.run()
        return trainer.finish()


def ground_matrix(name: str, taxonomy: Taxonomy) -> GroundMatrix:
    """Return the ground matrix called `name`: "severity", "importance", or the path of a ground.yaml."""
    if name == "severity":
        return severity(taxonomy)
    if name == "importance":
        return importance(taxonomy)
    return load_ground(Path(name), taxonomy)


class _Trainer:
    """One training in progress."""

    def __init__(self, config: TrainConfig, output: Path, report: Progress) -> None:
        self.config, self.output, self.report = config, output, report
        # Everything a user can have got wrong is found before the folder is touched.
        training = open_dataset(config.data, "train")
        held_out = open_dataset(config.validation or config.data, "val")
        if held_out.taxonomy != training.taxonomy:
            raise BadInput(f"validation data has taxonomy {held_out.taxonomy.name!r}, expected {training.taxonomy.name!r}")
        self.taxonomy = training.taxonomy
        ground = ground_matrix(config.ground, self.taxonomy)
        initial = None if config.init is None else _initial_weights(Path(config.init), config, self.taxonomy)
        self.frames = Frames(training, config.size, lambda text, done: report(text, 0.8 * READING_SHARE * done))
        self.held_out = Frames(held_out, config.size, lambda text, done: report(text, (0.8 + 0.2 * done) * READING_SHARE))
        torch.manual_seed(config.seed)
        setting = Setting(config.model, self.taxonomy, self.frames.class_pixels, ground, config.steps)
        self.model: Segmenter = build_model(config.model, len(self.taxonomy))
        self.objective: Objective = build_objective(config.objective, setting)
        if initial is not None:
            self.model.load_state_dict(initial)
        self._set_up_networks()
        self.iteration, self.seconds, self.losses = 0, 0.0, dict[str, float]()
        self.iterations = self.objective.schedule.iterations(config.steps)
        if (output / LAST_FILE).is_file():
            self._restore()
        else:
            output.mkdir(parents=True, exist_ok=True)
            config.save(output / CONFIG_FILE)
        self.curves = Curves(output / "tensorboard", self.iteration) if config.tensorboard else None

    def _set_up_networks(self) -> None:
        config = self.config
        accelerator = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        if accelerator == "cuda" and not torch.cuda.is_available():
            raise BadInput("device is cuda, but torch sees no CUDA GPU here; use device=cpu or auto")
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
        self.fabric.launch()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.segmenter, self.optimiser = self.fabric.setup(self.model, self._adam(self.model, config.learning_rate))
        self.critic_module, self.critic, self.critic_optimiser = self.objective.critic, None, None
        if self.critic_module is not None:
            self.critic_module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            optimiser = self._adam(self.critic_module, config.critic_learning_rate or config.learning_rate)
            self.critic, self.critic_optimiser = self.fabric.setup(self.critic_module, optimiser)
        self.objective.attach(self.segmenter, self.critic)

    def _adam(self, module: nn.Module, learning_rate: float) -> torch.optim.Adam:
        betas = (self.config.beta1, self.config.beta2)
        decay = self.config.weight_decay
        optimiser = torch.optim.Adam(module.parameters(), learning_rate, betas, weight_decay=decay, fused=True)
        for group in optimiser.param_groups:
            group["initial_lr"] = learning_rate
        return optimiser

    def run(self) -> None:
        """Train from the current iteration to the last."""
        schedule = self.objective.schedule
        if self.iteration >= self.iterations:
            return
        segmenter_done = sum(not schedule.is_critic(i) for i in range(self.iteration))
        # The players draw from streams of their own, so that every objective shows the segmenter the same batches.
        streams = {
            False: self._stream(0, segmenter_done, self.config.steps),
            True: self._stream(1, self.iteration - segmenter_done, self.iterations - self.config.steps),
        }
        self.segmenter.train()
        begin, said = time.perf_counter() - self.seconds, 0.0
        first, first_seconds = self.iteration, self.seconds
        try:
            while self.iteration < self.iterations:
                turn = schedule.is_critic(self.iteration)
                self._update(turn, self._to_batch(next(streams[turn])))
                self.iteration += 1
                self.seconds = time.perf_counter() - begin
                if self.iteration % self.config.checkpoint_every == 0 or self.iteration == self.iterations:
                    self._checkpoint()
                if self.seconds - said > 0.5 or self.iteration == self.iterations:
                    said = self.seconds
                    self._say((self.iteration - first) / max(1e-9, self.seconds - first_seconds))
        finally:
            for stream in streams.values():
                stream.close()  # type: ignore[attr-defined]
            if self.curves is not None:
                self.curves.flush()

    def _stream(self, number: int, start: int, stop: int) -> Iterator[RawBatch]:
        batches = Batches(self.frames, self.config.batch_size, self.config.seed * 2 + number, self.config.augmentation)
        return batches.run(start, stop)

    def _to_batch(self, raw: RawBatch) -> Batch:
        device = self.fabric.device
        return Batch(normalise(raw.frames.to(device)), raw.labels.to(device).long())  # [B, 3, H, W], [B, H, W]

    def _update(self, critic_turn: bool, batch: Batch) -> None:
        """Take one step of one player, with the other one frozen."""
        if self.critic is not None:
            self.critic.requires_grad_(critic_turn)
        optimiser = self.critic_optimiser if critic_turn else self.optimiser
        assert optimiser is not None
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * (1 - self.iteration / self.iterations)
        terms = self.objective.critic_loss(batch) if critic_turn else self.objective.segmenter_loss(batch)
        self._guard(terms)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        optimiser.step()
        optimiser.zero_grad()

    def _guard(self, terms: dict[str, Tensor]) -> None:
        """Keep the losses' running means; raises `RoadworthyError` naming a term that is no number any more."""
        values = torch.stack([term.detach() for term in terms.values()]).tolist()
        for name, value in zip(terms, values, strict=True):
            if value != value or value in (float("inf"), float("-inf")):
                raise RoadworthyError(
                    f"training stopped at iteration {self.iteration}: the loss term {name!r} is {value}. Lower the "
                    f"learning rate (now {self.config.learning_rate:g}); a checkpoint from before, if one was due, "
                    f"is kept in {self.output}"
                )
            self.losses[name] = SMOOTHING * self.losses[name] + (1 - SMOOTHING) * value if name in self.losses else value
        if self.curves is not None:
            self.curves.add(self.iteration, dict(zip(terms, values, strict=True)))

    def _say(self, speed: float) -> None:
        left = (self.iterations - self.iteration) / max(1e-9, speed)  # [s]
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        text = f"training: {self.iteration}/{self.iterations}, {losses}, {speed:.1f} iterations/s, {left:.0f} s left"
        self.report(text, READING_SHARE + (0.98 - READING_SHARE) * self.iteration / self.iterations)

    def _checkpoint(self) -> None:
        parts = {"model": self.model.state_dict(), "optimiser": optimiser_tensors(self.optimiser)}
        parts["random"] = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            parts["random"]["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        if self.critic_module is not None and self.critic_optimiser is not None:
            parts["critic"] = self.critic_module.state_dict()
            parts["critic_optimiser"] = optimiser_tensors(self.critic_optimiser)
        state = {"iteration": self.iteration, "seconds": self.seconds, "losses": self.losses}
        save_training(self.output / LAST_FILE, parts, state)

    def _restore(self) -> None:
        path = self.output / LAST_FILE
        parts, state = load_training(path)
        load_weights(self.model, parts["model"], path)
        restore_optimiser(self.optimiser, parts["optimiser"])
        if self.critic_module is not None and self.critic_optimiser is not None:
            load_weights(self.critic_module, parts["critic"], path)
            restore_optimiser(self.critic_optimiser, parts.get("critic_optimiser", {}))
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(parts["random"]["cuda"], self.fabric.device)
        self.iteration, self.seconds = int(state["iteration"]), float(state["seconds"])
        self.losses = {str(name): float(value) for name, value in state["losses"].items()}

    def finish(self) -> FitResult:
        """Validate, and write the model and its metrics; the metrics come last and mark the run as finished."""
        self.report("validating", 0.98)
        scores = validate(self.segmenter, self.held_out, self.fabric.device, self.config.batch_size)
        save_model(self.output, self.model, self.config, self.taxonomy)
        speed = self.config.steps / max(1e-9, self.seconds)
        result = FitResult(
            self.output, scores, self.losses, self.config.steps, self.iterations, round(self.seconds, 3), round(speed, 3)
        )
        facts = {key: value for key, value in dataclasses.asdict(result).items() if key != "run"}
        facts["parameters"] = sum(parameter.numel() for parameter in self.model.parameters())
        write_text(self.output / METRICS_FILE, json.dumps(facts, indent=2) + "\n")
        self.report(f"trained: mIoU {100 * scores.mean_iou:.1f} % on {scores.frames} validation frames", 1.0)
        return result


def _prepare_folder(config: TrainConfig, output: Path, resume: bool) -> FitResult | None:
    """Check that `output` can take this training; returns the result if it is there already and may be used."""
    if not (output / CONFIG_FILE).is_file():
        if output.exists() and not output.is_dir():
            raise BadInput(f"{output}: is a file, expected a folder for the run")
        return None
    if not resume:
        raise BadInput(f"{output}: holds a run already; resume it, or choose another folder")
    changed = differences(load_config(output / CONFIG_FILE), config)
    if changed:
        raise BadInput(f"{output}: cannot resume with another configuration ({'; '.join(changed)}); choose another folder")
    if (output / METRICS_FILE).is_file() and (output / MODEL_FILE).is_file():
        return load_result(output)
    return None


def load_result(run: Path) -> FitResult:
    """Read the result of a finished run from its metrics file."""
    path = run / METRICS_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        scores = ValidationScores(**facts["validation"])
        rest = {key: facts[key] for key in ("losses", "steps", "iterations", "seconds", "steps_per_second")}
        return FitResult(run=run, validation=scores, **rest)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not the metrics of a finished run ({error!r})") from error


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
