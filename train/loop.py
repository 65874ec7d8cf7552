"""The one training loop: it runs every objective on every segmenter, by turns of the players, resumably."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    load_training,
    load_weights,
    optimiser_tensors,
    read_safetensors,
    restore_optimiser,
    save_training,
    save_weights,
)
from roadworthy.train.config import TrainConfig
from roadworthy.train.curves import Curves
from roadworthy.train.data.batches import Batches, RawBatch
from roadworthy.train.data.frames import Frames
from roadworthy.train.distributed import (
    join_statistics,
    random_states,
    restore_random_states,
    seed_process,
    total,
    training_mode,
    with_batch_norm,
)
from roadworthy.train.interruption import StopRequest, deferred_interrupts
from roadworthy.train.models import Segmenter
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Objective
from roadworthy.train.optimisation import make_average, make_optimiser, rate_factor, set_rate
from roadworthy.train.selection import Selected
from roadworthy.train.validation import ValidationScores, validate

SMOOTHING = 0.98  # of the running means of the losses that progress and metrics show
SAY_EVERY_S = 0.5  # [s] between two lines of progress

Progress = Callable[[str, float], None]  # what is being done (losses, speed), fraction done 0..1


@dataclass(frozen=True)
class Material:
    """The frames of a training: to learn from, to choose the best checkpoint by, and to report on."""

    training: Frames
    selection: Frames | None
    held_out: Frames

    @property
    def taxonomy(self) -> Taxonomy:
        """Return the classes that all of them are labelled in."""
        return self.training.dataset.taxonomy


class Player:
    """A network that learns: as it is (`module`), as Fabric wraps it for devices and precision, and its optimiser."""

    def __init__(self, module: nn.Module, config: TrainConfig, fabric: Fabric, learning_rate: float) -> None:
        self.module: Any = with_batch_norm(module, config, fabric.world_size).to(memory_format=torch.channels_last)
        self.wrapped, self.optimiser = fabric.setup(self.module, make_optimiser(self.module, config, learning_rate))


class Trainer:
    """One training in progress."""

    def __init__(
        self, config: TrainConfig, output: Path, fabric: Fabric, model: Segmenter, objective: Objective, material: Material
    ) -> None:
        """Set the networks up, and go on from the checkpoint in `output` if there is one."""
        self.config, self.output, self.fabric = config, output, fabric
        self.objective, self.material = objective, material
        self.steps = config.updates(len(material.training))
        self.segmenter = Player(model, config, fabric, config.learning_rate)
        self.critic: Player | None = None
        if objective.critic is not None:
            self.critic = Player(objective.critic, config, fabric, config.critic_learning_rate or config.learning_rate)
        objective.attach(self.segmenter.wrapped, None if self.critic is None else self.critic.wrapped)
        self.average: AveragedModel | None = None if config.ema is None else make_average(self.segmenter.module, config.ema)
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
        self._training_mode()
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
                stream.close()  # type: ignore[attr-defined]
            if self.curves is not None:
                self.curves.close()

    def scores(self, frames: Frames) -> ValidationScores:
        """Score the network as it stands (the averaged one, if there is one) on frames that it does not learn from."""
        join_statistics(self.fabric, self.segmenter.module, self.average)
        return validate(self.network, frames, self.fabric.device, self._share, self.fabric)

    @property
    def network(self) -> Segmenter:
        """Return the segmenter that is scored and kept."""
        module: Any = self.segmenter.module if self.average is None else self.average.module
        assert isinstance(module, Segmenter)
        return module

    def restore_best(self) -> None:
        """Put the best weights into the network, if the selection chose any."""
        if self.selected is not None and self.selected.iteration >= 0:
            path = self.output / BEST_FILE
            load_weights(self.network, read_safetensors(path)[0], path)

    def _training_mode(self) -> None:
        training_mode(self.segmenter.wrapped, self.config)
        if self.critic is not None:
            training_mode(self.critic.wrapped, self.config)

    @property
    def _share(self) -> int:
        """Return the frames of a process's part of a batch."""
        return self.config.batch_size // (self.fabric.world_size * self.config.accumulate)

    def _stream(self, number: int, start: int, stop: int) -> Iterator[RawBatch]:
        config = self.config
        batches = Batches(
            self.material.training,
            config.batch_size,
            config.seed * 2 + number,
            config.augmentation,
            crop=config.crop,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            workers=config.workers,
            pinned=self.fabric.device.type == "cuda",
        )
        return batches.run(start, stop)

    def _update(self, critic_turn: bool, raw: RawBatch, request: StopRequest) -> bool:
        """Take one step of one player, with the other one frozen; returns whether to stop after it."""
        player, other = (self.critic, self.segmenter) if critic_turn else (self.segmenter, self.critic)
        assert player is not None
        if self.critic is not None:
            self.critic.module.requires_grad_(critic_turn)
        sizes = [self._share] * (len(raw.frames) // self._share)
        parts = [RawBatch(*both) for both in zip(torch.split(raw.frames, sizes), torch.split(raw.labels, sizes), strict=True)]
        labelled = torch.tensor([int((part.labels != IGNORE).sum()) for part in parts], dtype=torch.float64)
        everywhere, stop = total(self.fabric, torch.tensor([float(labelled.sum()), float(request.made)])).tolist()
        values: dict[str, float] = {}
        for number, (part, share) in enumerate(zip(parts, (labelled / max(1.0, everywhere)).tolist(), strict=True)):
            with self._synchronised(player, other, number == len(parts) - 1):
                terms = self._terms(critic_turn, part, share, len(parts))
                for name, value in zip(terms, self._values(terms), strict=True):
                    values[name] = values.get(name, 0.0) + value
                self._guard(values)
                self.fabric.backward(torch.stack(list(terms.values())).sum())
        set_rate(player.optimiser, rate_factor(self.config, self.iteration / self.planned))
        player.optimiser.step()
        player.optimiser.zero_grad()
        if self.average is not None and not critic_turn:
            self.average.update_parameters(self.segmenter.module)
        for name, value in values.items():
            self.losses[name] = SMOOTHING * self.losses[name] + (1 - SMOOTHING) * value if name in self.losses else value
        if self.curves is not None:
            self.curves.add(self.iteration, values)
        return bool(stop > 0)

    def _terms(self, critic_turn: bool, part: RawBatch, share: float, parts: int) -> dict[str, Tensor]:
        """Return the loss terms of one part, weighted so that the sum over parts and mean over processes is the batch's.

        `share` is the part of the batch's labelled pixels that is here.
        """
        device = self.fabric.device
        frames = part.frames.to(device, non_blocking=True)
        target = part.labels.to(device, non_blocking=True).long()
        batch = Batch(normalise(frames), target)  # [B, 3, H, W], [B, H, W]
        terms = self.objective.critic_loss(batch) if critic_turn else self.objective.segmenter_loss(batch)
        if parts == 1 and self.fabric.world_size == 1:
            return terms
        by_frame = terms.keys() if critic_turn else self.objective.frame_terms
        by_pixel_weight = share * self.fabric.world_size
        return {name: term * (1 / parts if name in by_frame else by_pixel_weight) for name, term in terms.items()}

    def _values(self, terms: dict[str, Tensor]) -> list[float]:
        values = torch.stack([term.detach().float() for term in terms.values()])
        means: list[float] = (total(self.fabric, values) / self.fabric.world_size).tolist()
        return means

    def _synchronised(self, player: Player, other: Player | None, last: bool) -> contextlib.ExitStack:
        """Exchange gradients between processes once per update, and never those of the frozen player."""
        stack = contextlib.ExitStack()
        stack.enter_context(self.fabric.no_backward_sync(player.wrapped, enabled=not last))
        if other is not None:
            stack.enter_context(self.fabric.no_backward_sync(other.wrapped))
        return stack

    def _guard(self, values: dict[str, float]) -> None:
        """Raise `RoadworthyError` naming a loss term that is no number any more, before it spoils the weights."""
        for name, value in values.items():
            if value != value or value in (float("inf"), float("-inf")):
                raise RoadworthyError(
                    f"training stopped at iteration {self.iteration}: the loss term {name!r} is {value}. Lower the "
                    f"learning rate (now {self.config.learning_rate:g}); a checkpoint from before, if one was due, "
                    f"is kept in {self.output}"
                )

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
        self._training_mode()
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
        join_statistics(self.fabric, self.segmenter.module, self.average, None if self.critic is None else self.critic.module)
        parts = {"random": random_states(self.fabric)}
        for name, player in (("", self.segmenter), ("critic", self.critic)):
            if player is not None:
                parts[name or "model"] = player.module.state_dict()
                parts[f"{name}_optimiser".lstrip("_")] = optimiser_tensors(player.optimiser)
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
            self.curves.add_pictures(self.iteration, self.objective, self.material.held_out, self.fabric.device)
            self._training_mode()

    def _restore(self) -> None:
        path = self.output / LAST_FILE
        parts, state = load_training(path)
        for name, player in (("", self.segmenter), ("critic", self.critic)):
            if player is not None:
                load_weights(player.module, parts[name or "model"], path)
                restore_optimiser(player.optimiser, parts.get(f"{name}_optimiser".lstrip("_"), {}))
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
