"""The one training loop: it runs every objective on every segmenter, by turns of the players, resumably."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel

from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    load_training,
    load_weights,
    read_safetensors,
    save_training,
    save_weights,
)
from roadworthy.train.config import TrainConfig
from roadworthy.train.curves import Curves
from roadworthy.train.data.batches import Batches, Mixture, RawBatch, Samples
from roadworthy.train.data.frames import Frames
from roadworthy.train.distributed import (
    join_statistics,
    random_states,
    restore_random_states,
    seed_process,
    total,
)
from roadworthy.train.interruption import StopRequest, deferred_interrupts
from roadworthy.train.models import Segmenter
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Objective
from roadworthy.train.optimisation import make_average, rate_factor
from roadworthy.train.players import NotANumber, Part, Players
from roadworthy.train.selection import Selected
from roadworthy.train.validation import ValidationScores, validate

SMOOTHING = 0.98  # of the running means of the losses that progress and metrics show
SAY_EVERY_S = 0.5  # [s] between two lines of progress

TARGET_STREAM = 1 << 32  # added to the seed of the labelled frames' order

Progress = Callable[[str, float], None]  # what is being done (losses, speed), fraction done 0..1
Drawn = tuple[RawBatch, RawBatch | None]  # labelled frames, and unlabelled ones of a target domain


@dataclass(frozen=True)
class Material:
    """The frames of a training: to learn from, to choose the best checkpoint by, to report on, to adapt to, to mix in."""

    training: Frames
    selection: Frames | None
    held_out: Frames
    target: Samples | None = None
    mixed: Frames | None = None

    @property
    def taxonomy(self) -> Taxonomy:
        """Return the classes that all of them are labelled in."""
        return self.training.dataset.taxonomy


class Trainer:
    """One training in progress."""

    def __init__(
        self, config: TrainConfig, output: Path, fabric: Fabric, model: Segmenter, objective: Objective, material: Material
    ) -> None:
        """Set the networks up, and go on from the checkpoint in `output` if there is one."""
        self.config, self.output, self.fabric = config, output, fabric
        self.objective, self.material = objective, material
        self.steps = config.updates(len(material.training))
        self.players = Players(config, fabric, model, objective)
        self.average: AveragedModel | None = None if config.ema is None else make_average(model, config.ema)
        self.selected: Selected | None = None if material.selection is None else Selected(len(material.selection))
        self.iteration, self.seconds, self.losses = 0, 0.0, dict[str, float]()
        self.planned = objective.schedule.iterations(self.steps)  # iterations, of both players
        seed_process(config, fabric)
        if (output / LAST_FILE).is_file():
            self._restore()
        self.curves: Curves | None = None

    @property
    def updates(self) -> int:
        """Return how many updates the segmenter has had."""
        return self.objective.schedule.segmenter_updates(self.iteration)

    @property
    def over(self) -> bool:
        """Tell whether training is at its end, or has gone on for long enough without getting better."""
        patience, selected = self.config.patience, self.selected
        exhausted = patience is not None and selected is not None and selected.worse_since >= patience
        return self.iteration >= self.planned or exhausted

    def run(self, report: Progress) -> None:
        """Train from the current iteration to the last. A request to stop is granted after the update and its checkpoint."""
        if self.over:
            return
        if self.config.tensorboard and self.fabric.is_global_zero:
            self.curves = Curves(self.output / "tensorboard", self.iteration)
        # The players draw from streams of their own, so that every objective shows the segmenter the same batches.
        streams = {
            False: self._stream(0, self.updates, self.steps),
            True: self._stream(1, self.iteration - self.updates, self.planned - self.steps),
        }
        self.players.training_mode()
        begin, said = time.perf_counter() - self.seconds, 0.0
        first, first_seconds = self.iteration, self.seconds
        try:
            with deferred_interrupts() as request:
                while not self.over:
                    turn = self.objective.schedule.is_critic(self.iteration)
                    stop = self._update(turn, next(streams[turn]), request)
                    self.iteration += 1
                    self.seconds = time.perf_counter() - begin
                    self._milestones(stop)
                    if self.seconds - said > SAY_EVERY_S or self.over:
                        said = self.seconds
                        self._say(report, (self.iteration - first) / max(1e-9, self.seconds - first_seconds))
                    if stop:
                        raise KeyboardInterrupt
        finally:
            for stream in streams.values():
                stream.close()
            if self.curves is not None:
                self.curves.close()

    def scores(self, frames: Frames) -> ValidationScores:
        """Score the network as it stands (the averaged one, if there is one) on frames that it does not learn from."""
        join_statistics(self.fabric, self.players.segmenter.module, self.average)
        return validate(self.network, frames, self.fabric.device, self._share, self.fabric)

    @property
    def network(self) -> Segmenter:
        """Return the segmenter that is scored and kept."""
        module: Any = self.players.segmenter.module if self.average is None else self.average.module
        assert isinstance(module, Segmenter)
        return module

    def restore_best(self) -> None:
        """Put the best weights into the network, if the selection chose any."""
        if self.selected is not None and self.selected.iteration >= 0:
            path = self.output / BEST_FILE
            load_weights(self.network, read_safetensors(path)[0], path)

    @property
    def _share(self) -> int:
        """Return the frames of a process's part of a batch."""
        return self.config.batch_size // (self.fabric.world_size * self.config.accumulate)

    def _stream(self, number: int, start: int, stop: int) -> Generator[Drawn]:
        """Yield what a player learns from: labelled batches, and unlabelled ones of the same size where there is a target."""
        with contextlib.ExitStack() as stack:
            training, mixed = self.material.training, self.material.mixed
            samples = training if mixed is None else Mixture(training, mixed, self.config.mix)
            labelled = self._batches(samples, number).run(start, stop)
            stack.callback(labelled.close)
            if self.material.target is None:
                yield from ((batch, None) for batch in labelled)
                return
            unlabelled = self._batches(self.material.target, TARGET_STREAM + number).run(start, stop)
            stack.callback(unlabelled.close)
            yield from zip(labelled, unlabelled, strict=True)

    def _batches(self, samples: Samples, number: int) -> Batches:
        config = self.config
        return Batches(
            samples,
            config.batch_size,
            config.seed * 2 + number,
            config.augmentation,
            crop=config.crop,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            workers=config.workers,
            pinned=self.fabric.device.type == "cuda",
        )

    def _update(self, critic_turn: bool, drawn: Drawn, request: StopRequest) -> bool:
        """Take one step of the players whose turn it is; returns whether to stop after it."""
        parts, stop = self._parts(drawn, request)
        try:
            values = self.players.update(
                parts, rate_factor(self.config, self.iteration / self.planned), critic_turn=critic_turn
            )
        except NotANumber as error:
            raise RoadworthyError(
                f"training stopped at iteration {self.iteration}: the loss term {error.name!r} is {error.value}. Lower the "
                f"learning rate (now {self.config.learning_rate:g}); a checkpoint from before, if one was due, "
                f"is kept in {self.output}"
            ) from None
        if self.average is not None and not critic_turn:
            self.average.update_parameters(self.players.segmenter.module)
        for name, value in values.items():
            self.losses[name] = SMOOTHING * self.losses[name] + (1 - SMOOTHING) * value if name in self.losses else value
        if self.curves is not None:
            self.curves.add(self.iteration, values)
        return stop

    def _parts(self, drawn: Drawn, request: StopRequest) -> tuple[list[Part], bool]:
        """Return what this process works through for one update, and whether any process was asked to stop."""
        labelled, unlabelled = (None if raw is None else _split(raw, self._share) for raw in drawn)
        assert labelled is not None
        counts = torch.zeros(2, len(labelled), dtype=torch.float64)  # labelled and pseudo-labelled pixels of each part
        counts[0] = torch.tensor([int((part.labels != IGNORE).sum()) for part in labelled])
        if unlabelled is not None:
            counts[1] = torch.tensor([part.pseudo_pixels for part in unlabelled])
        stopping = torch.tensor([float(request.made)])
        *everywhere, stop = total(self.fabric, torch.cat((counts.sum(1), stopping))).tolist()
        shares = counts / torch.tensor(everywhere).clamp(min=1).unsqueeze(1) * self.fabric.world_size  # [2, parts]
        alone = len(labelled) == 1 and self.fabric.world_size == 1
        parts = []
        for number, part in enumerate(labelled):
            batch = self._batch(part, None if unlabelled is None else unlabelled[number])
            pixels, pseudo = (1.0, 1.0) if alone else shares[:, number].tolist()
            parts.append(Part(batch, frames=1 / len(labelled), labelled=pixels, pseudo=pseudo))
        return parts, bool(stop > 0)

    def _batch(self, labelled: RawBatch, unlabelled: RawBatch | None) -> Batch:
        device = self.fabric.device
        frames = labelled.frames.to(device, non_blocking=True)
        target = labelled.labels.to(device, non_blocking=True).long()
        batch = Batch(normalise(frames), target)  # [B, 3, H, W], [B, H, W]
        if unlabelled is None:
            return batch
        batch = batch._replace(unlabelled=normalise(unlabelled.frames.to(device, non_blocking=True)))  # [U, 3, H, W]
        soft = unlabelled.soft(device)
        return batch if soft is None else batch._replace(pseudo=soft)  # [U, N, H, W]

    def _milestones(self, stop: bool) -> None:
        """Score the selection and write checkpoints when they are due."""
        every, last = self.config.select_every, self.iteration == self.planned
        scored = self.selected is not None and (self.iteration % every == 0 or last)
        if scored:
            self._select()
        if scored or stop or last or self.iteration % self.config.checkpoint_every == 0:
            self._checkpoint()

    def _select(self) -> None:
        assert self.selected is not None
        assert self.material.selection is not None
        scores = self.scores(self.material.selection)
        self.players.training_mode()
        self.selected = self.selected.update(self.iteration, scores.mean_iou)
        if self.selected.iteration == self.iteration and self.fabric.is_global_zero:
            save_weights(self.output / BEST_FILE, self.network.state_dict())
        if self.curves is not None:
            self.curves.add_selection(self.iteration, scores.mean_iou)

    def _say(self, report: Progress, speed: float) -> None:
        left = (self.planned - self.iteration) / max(1e-9, speed)  # [s]
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        best = f", best {100 * self.selected.mean_iou:.1f} %" if self.selected and self.selected.iteration >= 0 else ""
        text = f"training: {self.iteration}/{self.planned}, {losses}{best}, {speed:.1f} iterations/s, {left:.0f} s left"
        report(text, self.iteration / self.planned)

    def _checkpoint(self) -> None:
        """Write everything that is needed to go on."""
        join_statistics(self.fabric, self.average, *(player.module for _, player in self.players))
        parts = {"random": random_states(self.fabric), **self.players.tensors()}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        state: dict[str, Any] = {"iteration": self.iteration, "seconds": self.seconds, "losses": self.losses}
        if self.selected is not None:
            state["selected"] = asdict(self.selected)
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)  # of fp16's gradients
        if scaler is not None:
            state["scaler"] = scaler.state_dict()
        if self.fabric.is_global_zero:
            save_training(self.output / LAST_FILE, parts, state)
        if self.curves is not None:
            device, material = self.fabric.device, self.material
            self.curves.add_pictures(self.iteration, self.objective, material.held_out, device)
            if material.target is not None:
                self.curves.add_target(self.iteration, self.objective, material.target, material.taxonomy, device)
            self.players.training_mode()

    def _restore(self) -> None:
        path = self.output / LAST_FILE
        parts, state = load_training(path)
        self.players.restore(parts, path)
        if self.average is not None:
            load_weights(self.average, parts["average"], path)
        self.iteration, self.seconds = int(state["iteration"]), float(state["seconds"])
        self.losses = {str(name): float(value) for name, value in state["losses"].items()}
        if self.selected is not None:
            self.selected = Selected(**state["selected"])
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None and "scaler" in state:
            scaler.load_state_dict(state["scaler"])
        restore_random_states(self.config, self.fabric, parts["random"], self.iteration)


def _split(raw: RawBatch, share: int) -> list[RawBatch]:
    """Cut a batch into parts of `share` frames."""
    return [RawBatch(*both) for both in zip(torch.split(raw.frames, share), torch.split(raw.labels, share), strict=True)]
