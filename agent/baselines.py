"""Drivers that anything trained must beat: random pedals, a constant throttle, and a foot on the brake."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from roadworthy.agent.observation import Observation
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.policy import load_policy as load_exported

PREFIX = "baseline:"
CONSTANT_THROTTLE = 0.4  # about 25 km/h in the long run, the reference speed of the reward
HOLD_STEPS = 5  # of 0.1 s that a random action lasts: changed at every step, pedals would cancel out


class Actor(Protocol):
    """Whatever drives: a trained policy, an exported one, or a baseline."""

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part of the observation that it looks at; a baseline looks at nothing."""
        ...

    def act(self, observation: Observation) -> npt.NDArray[np.float32]:
        """Return steer, throttle and brake, `float32 [3]` in -1..1."""
        ...


class ConstantDriver:
    """Always the same action."""

    input_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012  # nobody writes to it

    def __init__(self, steer: float, throttle: float, brake: float) -> None:
        self._action = np.array([steer, throttle, brake], np.float32)

    def act(self, observation: Observation) -> npt.NDArray[np.float32]:  # it looks at nothing
        """Return the action."""
        return self._action.copy()


class RandomDriver:
    """Uniformly random actions, each held for half a second."""

    input_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012  # nobody writes to it

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._left = 0
        self._action = np.zeros(3, np.float32)

    def act(self, observation: Observation) -> npt.NDArray[np.float32]:  # it looks at nothing
        """Return the action of this step."""
        if self._left == 0:
            self._action, self._left = self._rng.uniform(-1, 1, 3).astype(np.float32), HOLD_STEPS
        self._left -= 1
        return self._action.copy()


def baseline(name: str, seed: int = 0) -> Actor:
    """Return the baseline `name`: random, forward or brake. Raises `BadInput` for another name."""
    if name == "random":
        return RandomDriver(seed)
    if name == "forward":
        return ConstantDriver(0.0, CONSTANT_THROTTLE, 0.0)
    if name == "brake":
        return ConstantDriver(0.0, 0.0, 1.0)
    raise BadInput(f"unknown baseline {name!r}; known: random, forward, brake")


def open_driver(driver: Path, seed: int = 0, *, threads: int = 1) -> Actor:
    """Load a policy's folder, an exported policy (`.onnx`, which needs no torch), or a baseline written `baseline:NAME`.

    `threads` are the CPU threads of a network. Raises `BadInput` when it is none of these.
    """
    text = str(driver)
    if text.startswith(PREFIX):
        return baseline(text.removeprefix(PREFIX), seed)
    if driver.suffix == ".onnx":
        return load_exported(driver, threads)
    import torch

    from roadworthy.agent.policy import load_policy

    torch.set_num_threads(threads)
    return load_policy(driver)[0]
