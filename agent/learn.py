"""Reinforcement learning of the driving policy with Stable-Baselines3's A2C, from scratch or after imitation.

Defaults are the paper's (arXiv 2008.04751, section IV): 20-step rollouts, learning rate 7e-4 falling linearly to zero, entropy
0.01. The paper makes its A3C "off-policy" without saying how; A2C here is on-policy. Fine-tuning an imitated policy with a
critic that knows nothing would first destroy it, so the critic learns alone for `critic_share` of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from roadworthy.agent.policy import INITIAL_LOG_STD, DrivePolicy
from roadworthy.runtime.errors import BadInput

Progress = Callable[[str, float], None]
TRUNK = ("features_extractor.", "pi_features_extractor.", "vf_features_extractor.")  # SB3's three names for the shared trunk


@dataclass(frozen=True)
class LearnConfig:
    """How to learn by driving."""

    steps: int = 5_000_000  # environment steps, the paper's
    rollout_steps: int = 20
    learning_rate: float = 7e-4  # falls linearly to 0
    entropy: float = 0.01
    discount: float = 0.99
    gae_lambda: float = 0.95
    max_gradient: float = 0.5
    critic_share: float = 0.0  # of the steps in which only the critic learns; for policies that can drive already
    trunk_learns: bool = True  # False: only the branches of actor and critic
    log_std: float = INITIAL_LOG_STD  # exploration at the start, per action
    seed: int = 0
    threads: int = 1

    @classmethod
    def fine_tune(cls, steps: int, seed: int = 0) -> LearnConfig:
        """Return settings that improve an imitated policy rather than replace it.

        A low rate, little exploration, and a trunk that stays: the critic's errors of the first thousand steps are so large
        that through the shared trunk they undo the imitation (seen: a return of 31 fell to -9 within 300 steps).
        """
        return cls(steps=steps, learning_rate=1e-5, entropy=0.0, critic_share=0.5, trunk_learns=False, log_std=-2.5, seed=seed)


@dataclass(frozen=True)
class LearnResult:
    """What a stretch of learning did."""

    steps: int
    episodes: int
    returns: tuple[float, ...]  # of each training episode, in order


def learn(
    policy: DrivePolicy,
    envs: VecEnv | gymnasium.Env,
    config: LearnConfig,
    progress: Progress | None = None,
) -> LearnResult:
    """Train `policy` in place by A2C in `envs` (one environment or SB3's vector of them)."""
    if config.steps < 1 or not 0.0 <= config.critic_share <= 1.0:
        raise BadInput(f"steps is {config.steps} and critic_share {config.critic_share}, expected 1 or more and 0..1")
    vector = envs if isinstance(envs, VecEnv) else DummyVecEnv([lambda: Monitor(envs)])
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        algorithm = A2C(
            DrivePolicy,
            vector,
            learning_rate=lambda left: config.learning_rate * left,
            n_steps=config.rollout_steps,
            gamma=config.discount,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy,
            max_grad_norm=config.max_gradient,
            seed=config.seed,
            device="cpu",
        )
        algorithm.set_logger(Logger(None, []))  # the default one leaves an empty folder in /tmp
        algorithm.policy.load_state_dict(policy.state_dict())
        with torch.no_grad():
            algorithm.policy.log_std.fill_(config.log_std)
        follow = _Follow(config, progress)
        algorithm.learn(config.steps, callback=follow)
        policy.load_state_dict(algorithm.policy.state_dict())
    finally:
        torch.set_num_threads(threads)
    return LearnResult(int(algorithm.num_timesteps), len(follow.returns), tuple(follow.returns))


class _Follow(BaseCallback):
    """Collects episode returns, reports progress, and holds the actor still while the critic learns alone."""

    def __init__(self, config: LearnConfig, progress: Progress | None) -> None:
        super().__init__()
        self._config, self._report = config, progress
        self.returns: list[float] = []

    def _on_rollout_start(self) -> None:
        alone = self.num_timesteps < self._config.critic_share * self._config.steps
        for name, parameter in self.model.policy.named_parameters():
            held = alone or (name.startswith(TRUNK) and not self._config.trunk_learns)
            parameter.requires_grad_("value" in name or not held)
        if self._report is not None:
            recent = f", mean return {np.mean(self.returns[-10:]):.1f}" if self.returns else ""
            stage = "critic" if alone else "actor and critic"
            text = f"A2C step {self.num_timesteps} of {self._config.steps} ({stage}){recent}"
            self._report(text, min(self.num_timesteps / self._config.steps, 1.0))

    def _on_step(self) -> bool:
        infos: Sequence[dict[str, dict[str, float]]] = self.locals["infos"]
        self.returns += [float(info["episode"]["r"]) for info in infos if "episode" in info]
        return True
