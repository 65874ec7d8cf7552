"""Imitation: behaviour cloning on a segmenter's latents, of demonstrations that were recorded once for every segmenter.

The paper's table VI trains by imitation too (10 hours of demonstration, after Codevilla et al., arXiv 1710.02410). As there,
the expert's steering is disturbed in bursts while the label stays what the expert would do: the policy sees recoveries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.lessons import LatentLesson, Lesson
from roadworthy.agent.observation import Latents, LatentSource, observation_spaces, pool_latent
from roadworthy.agent.policy import DrivePolicy, build_policy
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmenter

Progress = Callable[[str, float], None]

BATCH_FRAMES = 16  # frames per call of the segmenter
STEER_UNIT = 0.1  # steering errors are measured in tenths of full lock: a lane is kept with less than that
PEDAL_UNIT = 0.3
STANDING_MPS = 0.5  # [m/s] a car that is slower stands
EXAMPLES = 8  # observations kept for an export's check


@dataclass(frozen=True)
class CloneConfig:
    """How to clone the expert."""

    steps: int = 350  # of the optimiser
    batch_size: int = 64
    learning_rate: float = 7e-4  # the paper's for the policy; falls linearly to 0
    weight_decay: float = 1e-4
    turn_share: float = 0.38  # of each batch are frames where the expert steers or a junction's command holds
    # Braking frames are 7 % of a demonstration, and the errors count as magnitudes: with too few of them in a batch the policy
    # learns the median, which is no brake at all (of 35 frames with a car less than 9 m ahead it then braked in none).
    brake_share: float = 0.25  # of each batch are frames where the expert rolls and brakes
    stand_share: float = 0.04  # of each batch are frames where the expert stands and brakes
    start_share: float = 0.08  # of each batch are frames where the expert drives off
    hidden_share: float = 0.3  # of the blocks of what is seen are hidden in training, so that no single view decides
    speed_noise_mps: float = 0.4  # [m/s] added to the measured speed
    validation_share: float = 0.1  # of the demonstrations' episodes
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class CloneResult:
    """The cloned policy and how well it repeats the expert on episodes it never saw."""

    policy: DrivePolicy
    train_loss: float  # mean of the last tenth of the steps
    validation: dict[str, float]  # mean absolute error of steer, throttle, brake; "samples"
    examples: dict[str, npt.NDArray[Any]]  # some demonstrated observations, each part [n, ...]


def demonstration_latents(segmenter: LatentSource, demonstrations: Demonstrations, progress: Progress | None = None) -> Latents:
    """Run the segmenter over all demonstrated frames: `float16 [N, C, h, w]`, pooled as in the environment.

    Raises `BadInput` when it gives no latent, or takes frames of another size.
    """
    if segmenter.latent_shape is None:
        raise BadInput("this model gives no latent; export it with its latent output to drive on it")
    if isinstance(segmenter, Segmenter):
        facts, (height, width) = segmenter.metadata, demonstrations.frames.shape[1:3]
        if (facts.height, facts.width) != (height, width):
            raise BadInput(
                f"{segmenter.path} takes frames of {facts.width}x{facts.height}, these demonstrations have {width}x{height}: "
                f"record others with drive demonstrate --size {facts.width}x{facts.height}"
            )
    parts = []
    count = len(demonstrations)
    for start in range(0, count, BATCH_FRAMES):
        latent = segmenter(np.ascontiguousarray(demonstrations.frames[start : start + BATCH_FRAMES])).latent
        assert latent is not None
        parts.append(pool_latent(latent))
        if progress is not None and start % (20 * BATCH_FRAMES) == 0:
            progress(f"latents of {start} of {count} frames", start / count)
    return np.concatenate(parts)


def clone(
    latents: Latents | Lesson,
    demonstrations: Demonstrations,
    config: CloneConfig | None = None,
    progress: Progress | None = None,
) -> CloneResult:
    """Train a policy to repeat the expert on the latents of `demonstrations`, `float16 [N, C, h, w]`, or on another lesson.

    The expert's action depends neither on the damage nor on the distance to the goal, and a demonstration holds no damage at
    all: both measurements are drawn at random here, so that a policy does not take its first scratch for a new world.
    """
    config = config or CloneConfig()
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        lesson = LatentLesson(latents, demonstrations) if isinstance(latents, np.ndarray) else latents
        return _clone(lesson, demonstrations, config, progress)
    finally:
        torch.set_num_threads(threads)


def _clone(lesson: Lesson, demonstrations: Demonstrations, config: CloneConfig, progress: Progress | None) -> CloneResult:
    rng = np.random.default_rng(config.seed)
    policy = build_policy(lesson.space, config.seed)
    train, held_out = demonstrations.split(config.validation_share, rng)
    sample = rng.choice(train, size=min(len(train), 256), replace=False)
    lesson.prepare(policy, sample)
    probabilities = _sampling(demonstrations, train, config)
    parameters = [p for name, p in policy.named_parameters() if "value" not in name and name != "log_std"]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, total_iters=config.steps)
    losses = []
    policy.set_training_mode(True)
    for step in range(config.steps):
        chosen = rng.choice(train, size=config.batch_size, p=probabilities)
        observations, actions = _batch(lesson, demonstrations, chosen)
        _disturb(observations["measurements"], config, rng)
        lesson.hide(observations, config.hidden_share, rng)
        loss = imitation_loss(policy.mean_action(observations), actions)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if progress is not None and step % 10 == 0:
            progress(f"imitation step {step} of {config.steps}, loss {np.mean(losses[-20:]):.3f}", step / config.steps)
    policy.set_training_mode(False)
    return CloneResult(
        policy,
        train_loss=float(np.mean(losses[-max(1, config.steps // 10) :])),
        validation=_validate(policy, lesson, demonstrations, held_out),
        examples=_examples(lesson, demonstrations),
    )


def imitation_loss(predicted: Tensor, expert: Tensor) -> Tensor:
    """Mean absolute error of `[B, 3]` actions in units of what matters: a tenth of full steering, a third of a pedal.

    The pedals count where they act: a throttle or brake below zero is the same as zero.
    """
    steer = F.smooth_l1_loss(predicted[:, 0] / STEER_UNIT, expert[:, 0] / STEER_UNIT, beta=0.2)
    # A pedal that the expert leaves alone may go below zero, with a little slack: nothing changes there.
    pedals = torch.where(expert[:, 1:] > 0.0, predicted[:, 1:], predicted[:, 1:].clamp(min=-0.1))
    pedal = F.smooth_l1_loss(pedals / PEDAL_UNIT, expert[:, 1:] / PEDAL_UNIT, beta=0.2)
    return steer + pedal


def _sampling(demonstrations: Demonstrations, train: npt.NDArray[np.int64], config: CloneConfig) -> npt.NDArray[np.float64]:
    """Return the probability of each training frame: curves, stops and starts are rare, and all that can go wrong."""
    actions, measurements = demonstrations.actions[train], demonstrations.measurements[train]
    braking, rolling = actions[:, 2] > 0.05, measurements[:, 0] > STANDING_MPS
    starting = ~braking & (measurements[:, 0] < 1.5)
    rest = ~(braking | starting)
    turning = rest & ((np.abs(actions[:, 0]) > 0.04) | (measurements[:, 3:5].sum(1) > 0))
    weights = np.zeros(len(train))
    groups = (starting, braking & rolling, braking & ~rolling, turning, rest & ~turning)
    wanted = (config.start_share, config.brake_share, config.stand_share, config.turn_share, 1.0)
    shares = zip(groups, wanted, strict=True)
    left = 1.0
    for group, share in shares:
        share = min(share, left)
        if group.any():
            weights[group] = share / group.sum()
            left -= share
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _batch(lesson: Lesson, demonstrations: Demonstrations, chosen: npt.NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
    """Return observations as the environment gives them, each part `[B, ...]`, and the expert's actions `[B, 3]`."""
    measurements = torch.from_numpy(demonstrations.measurements[chosen].copy())
    return {**lesson.seen(chosen), "measurements": measurements}, torch.from_numpy(demonstrations.actions[chosen])


def _examples(lesson: Lesson, demonstrations: Demonstrations) -> dict[str, npt.NDArray[Any]]:
    """Return some observations, evenly chosen, as the environment would have given them."""
    chosen = np.unique(np.linspace(0, len(demonstrations) - 1, EXAMPLES).astype(np.int64))
    observations, _ = _batch(lesson, demonstrations, chosen)
    spaces = observation_spaces(lesson.space)
    return {name: part.numpy().astype(spaces[name].dtype) for name, part in observations.items()}


def _disturb(measurements: Tensor, config: CloneConfig, rng: np.random.Generator) -> None:
    """Blur the speed and draw distance and damage at random, in place."""
    count = len(measurements)
    noise = torch.from_numpy(rng.normal(0.0, config.speed_noise_mps, count).astype(np.float32))
    measurements[:, 0] = (measurements[:, 0] + noise).clamp(min=0.0)
    measurements[:, 1] = torch.from_numpy(rng.uniform(0.0, 400.0, count).astype(np.float32))
    damaged = rng.random(count) < 0.5
    measurements[:, 2] = torch.from_numpy((damaged * rng.exponential(5.0, count)).astype(np.float32))


@torch.no_grad()
def _validate(
    policy: DrivePolicy, lesson: Lesson, demonstrations: Demonstrations, held_out: npt.NDArray[np.int64]
) -> dict[str, float]:
    errors = []
    for start in range(0, len(held_out), 64):
        observations, actions = _batch(lesson, demonstrations, held_out[start : start + 64])
        errors.append((policy.mean_action(observations).clamp(-1, 1) - actions).abs().numpy())
    if not errors:
        return {"samples": 0.0}
    steer, throttle, brake = np.concatenate(errors).mean(0).tolist()
    return {"steer": steer, "throttle": throttle, "brake": brake, "samples": float(len(held_out))}
