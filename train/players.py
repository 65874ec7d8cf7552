"""The networks that learn in one training, and one update of those whose turn it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from roadworthy.train.checkpoint import load_weights, optimiser_tensors, restore_optimiser
from roadworthy.train.config import TrainConfig
from roadworthy.train.distributed import total, training_mode, with_batch_norm
from roadworthy.train.models import Segmenter
from roadworthy.train.objectives import Batch, Objective
from roadworthy.train.optimisation import make_optimiser, set_rate

Tensors = dict[str, Tensor]


class Player:
    """A network that learns: as it is (`module`), as Fabric wraps it for devices and precision, and its optimiser."""

    def __init__(self, module: nn.Module, config: TrainConfig, fabric: Fabric, *, critic: bool = False) -> None:
        self.module: Any = with_batch_norm(module, config, fabric.world_size).to(memory_format=torch.channels_last)
        self.wrapped, self.optimiser = fabric.setup(self.module, make_optimiser(self.module, config, critic=critic))


class Part:
    """One part of a batch, and how much of the batch it is."""

    def __init__(self, batch: Batch, *, frames: float, labelled: float, pseudo: float) -> None:
        """Take the shares of the whole batch's frames, labelled pixels and pseudo-labelled pixels that are here.

        They are counted so that the sum over parts and mean over processes of terms times their share is the whole batch's.
        """
        self.batch = batch
        self._frames, self._labelled, self._pseudo = frames, labelled, pseudo

    def weigh(self, terms: Tensors, by_frame: frozenset[str], by_pseudo: frozenset[str]) -> Tensors:
        """Return each term times the share of what it averages over."""
        shares = {name: self._frames if name in by_frame else self._labelled for name in terms}
        shares |= {name: self._pseudo for name in terms if name in by_pseudo}
        return {name: term if shares[name] == 1.0 else term * shares[name] for name, term in terms.items()}


class Players:
    """The segmenter, with it a generator that some objectives have, and a critic."""

    def __init__(self, config: TrainConfig, fabric: Fabric, model: Segmenter, objective: Objective) -> None:
        self.config, self.fabric, self.objective = config, fabric, objective
        self.segmenter = Player(model, config, fabric)
        self.critic = None if objective.critic is None else Player(objective.critic, config, fabric, critic=True)
        self.generator = None if objective.generator is None else Player(objective.generator, config, fabric)
        objective.attach(self.segmenter.wrapped, *(None if p is None else p.wrapped for p in (self.critic, self.generator)))

    def __iter__(self) -> Iterator[tuple[str, Player]]:
        """Yield the players by the name that their weights have in a checkpoint."""
        named = (("model", self.segmenter), ("critic", self.critic), ("generator", self.generator))
        return ((name, player) for name, player in named if player is not None)

    def training_mode(self) -> None:
        """Put all networks into training mode."""
        for _, player in self:
            training_mode(player.wrapped, self.config)

    def tensors(self) -> dict[str, Tensors]:
        """Return weights and optimisers for a checkpoint."""
        parts: dict[str, Tensors] = {}
        for name, player in self:
            parts[name] = player.module.state_dict()
            parts[_optimiser(name)] = optimiser_tensors(player.optimiser)
        return parts

    def restore(self, parts: Mapping[str, Tensors], path: Path) -> None:
        """Put back what `tensors` gave, read from the file `path`."""
        for name, player in self:
            load_weights(player.module, parts.get(name, {}), path)
            restore_optimiser(player.optimiser, parts.get(_optimiser(name), {}))

    def update(self, parts: Sequence[Part], rate: float, *, critic_turn: bool) -> dict[str, float]:
        """Take one step on a batch, of those whose turn it is, with their learning rates at `rate` of the first.

        Returns the loss terms. Raises `NotANumber` before a loss that is none spoils the weights.
        """
        turns = (False, True) if self.objective.schedule.together else (critic_turn,)
        values: dict[str, float] = {}
        for number, part in enumerate(parts):
            for turn in turns:
                self._backward(part, values, critic_turn=turn, last=number == len(parts) - 1)
        for turn in turns:
            for player in self._learning(critic_turn=turn):
                set_rate(player.optimiser, rate)
                player.optimiser.step()
                player.optimiser.zero_grad()
        return values

    def _learning(self, *, critic_turn: bool) -> list[Player]:
        return [player for name, player in self if (name == "critic") == critic_turn]

    def _backward(self, part: Part, values: dict[str, float], *, critic_turn: bool, last: bool) -> None:
        """Add one player's gradients of one part of a batch, with the other players frozen, and its terms to `values`."""
        objective = self.objective
        if self.critic is not None:
            self.critic.module.requires_grad_(critic_turn)
        with self._synchronised(critic_turn=critic_turn, last=last):
            if critic_turn:
                terms = objective.critic_loss(part.batch)
                terms = part.weigh(terms, frozenset(terms), frozenset())
            else:
                terms = part.weigh(objective.segmenter_loss(part.batch), objective.frame_terms, objective.pseudo_terms)
            losses = torch.stack(list(terms.values()))
            means = total(self.fabric, losses.detach().float()) / self.fabric.world_size
            for name, value in zip(terms, means.tolist(), strict=True):
                values[name] = values.get(name, 0.0) + value
                if value != value or value in (float("inf"), float("-inf")):
                    raise NotANumber(name, values[name])
            self.fabric.backward(losses.sum())

    def _synchronised(self, *, critic_turn: bool, last: bool) -> contextlib.ExitStack:
        """Exchange gradients between processes once per update, and never those of a frozen player."""
        stack = contextlib.ExitStack()
        for name, player in self:
            learns = (name == "critic") == critic_turn
            stack.enter_context(self.fabric.no_backward_sync(player.wrapped, enabled=not (learns and last)))
        return stack


class NotANumber(Exception):
    """A loss term that is no number any more."""

    def __init__(self, name: str, value: float) -> None:
        super().__init__(name, value)
        self.name, self.value = name, value


def _optimiser(name: str) -> str:
    return "optimiser" if name == "model" else f"{name}_optimiser"
