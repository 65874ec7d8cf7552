"""Optimisers, and how the learning rate falls."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from roadworthy.train.config import TrainConfig


def make_optimiser(module: nn.Module, config: TrainConfig, *, critic: bool = False) -> torch.optim.Optimizer:
    """Make the optimiser of one player; its parameter groups remember the first learning rate as "initial_lr"."""
    name, learning_rate, decay = config.optimiser, config.learning_rate, config.weight_decay
    if critic:
        name = config.critic_optimiser or name
        learning_rate = config.critic_learning_rate or learning_rate
        decay = decay if config.critic_weight_decay is None else config.critic_weight_decay
    optimiser: torch.optim.Optimizer
    if name == "sgd":
        optimiser = torch.optim.SGD(module.parameters(), learning_rate, config.momentum, weight_decay=decay, fused=True)
    else:
        betas = (config.beta1, config.beta2)
        optimiser = torch.optim.Adam(module.parameters(), learning_rate, betas, weight_decay=decay, fused=True)
    for group in optimiser.param_groups:
        group["initial_lr"] = learning_rate
    return optimiser


def rate_factor(config: TrainConfig, progress: float) -> float:
    """Return what the first learning rate is multiplied by when `progress` (0..1) of the training is done."""
    if config.schedule == "constant":
        return 1.0
    left = 1.0 - progress
    return left if config.schedule == "linear" else left**config.poly_power


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its first one."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor


def make_average(module: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average of a module's weights and statistics; its `module` is the averaged one."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
