"""The reinforcement learners: Stable-Baselines3's A2C, PPO and SAC around the one driving policy.

A2C is the paper's (arXiv 2008.04751, section IV), as far as it is described: it makes its A3C "off-policy" without saying how,
so this one is on-policy. PPO shares the actor-critic. SAC is off-policy and has its own critics; its actor is the same network
with tanh at the end, so whatever learns, what comes out is a `DrivePolicy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from roadworthy.agent.policy import BRANCH, INITIAL_LOG_STD, DrivePolicy, sense_of, unique_weights
from roadworthy.agent.replay import KeptReplayBuffer, check_memory
from roadworthy.runtime.errors import BadInput

Algo = Literal["a2c", "ppo", "sac"]
ALGOS: tuple[Algo, ...] = get_args(Algo)
# The same layers under the names of our policy and of SAC's actor.
TO_SAC = {"features_extractor.": "features_extractor.", "mlp_extractor.policy_net.": "latent_pi.", "action_net.": "mu."}


@dataclass(frozen=True)
class LearnConfig:
    """How to learn by driving. The defaults are the paper's A2C; `scratch` and `fine_tune` know what suits the others."""

    algo: Algo = "a2c"
    steps: int = 5_000_000  # environment steps of all environments together, the paper's
    rollout_steps: int = 20  # of each environment between updates
    learning_rate: float = 7e-4  # falls linearly to `last_rate`
    last_rate: float = 0.0
    entropy: float = 0.01  # weight of the entropy; SAC finds its own
    discount: float = 0.99
    gae_lambda: float = 0.95  # A2C and PPO
    max_gradient: float = 0.5  # A2C and PPO
    minibatch: int = 64  # steps per update of PPO and SAC
    epochs: int = 4  # PPO: passes over a rollout
    clip: float = 0.2  # PPO: how far a probability ratio may move
    replay_steps: int = 10_000  # SAC: what its buffer holds
    warm_up_steps: int = 500  # SAC: random actions before the first update
    temperature: float = 1.0  # SAC: weight of the entropy at the start; it goes on learning it
    critic_share: float = 0.0  # of the steps in which only the critic learns; for policies that can drive already
    trunk_learns: bool = True  # False: only the branches of actor and critic
    log_std: float = INITIAL_LOG_STD  # exploration at the start, per action
    checkpoint_every: int = 1000  # [steps] where there is a checkpoint
    seed: int = 0
    threads: int = 1

    @classmethod
    def scratch(cls, algo: Algo, steps: int, seed: int = 0) -> LearnConfig:
        """Return settings for an untrained policy: the paper's for A2C, SB3's defaults scaled to driving for the others."""
        if algo == "ppo":
            return cls(algo, steps, rollout_steps=256, learning_rate=3e-4, entropy=0.0, log_std=-1.0, seed=seed)
        if algo == "sac":
            return cls(algo, steps, rollout_steps=4, learning_rate=3e-4, seed=seed)
        return cls(algo, steps, seed=seed)

    @classmethod
    def fine_tune(cls, steps: int, seed: int = 0, algo: Algo = "a2c") -> LearnConfig:
        """Return settings that improve an imitated policy rather than replace it.

        A low rate, little exploration, and a trunk that stays: the critic's errors of the first thousand steps are so large
        that through the shared trunk they undo the imitation (seen: a return of 31 fell to -9 within 300 steps).
        """
        rollout = {"a2c": 20, "ppo": 256, "sac": 4}[algo]
        rate = {"a2c": 1e-5, "ppo": 3e-5, "sac": 1e-4}[algo]
        return cls(
            algo, steps, rollout_steps=rollout, learning_rate=rate, entropy=0.0, critic_share=0.5, trunk_learns=False,
            log_std=-2.5, warm_up_steps=100, temperature=0.02, seed=seed,
        )  # fmt: skip

    def part(self, index: int, parts: int) -> LearnConfig:
        """Return the settings of stretch `index` of `parts` equal ones that are one learning: the rate falls over all of them.

        The steps with a critic that learns alone are in the first one; `steps` is of one stretch.
        """
        falling = (self.learning_rate - self.last_rate) / parts
        return replace(
            self,
            learning_rate=self.learning_rate - index * falling,
            last_rate=self.learning_rate - (index + 1) * falling,
            critic_share=self.critic_share if index == 0 else 0.0,
        )

    def check(self) -> None:
        """Raise `BadInput` naming the value that will not do."""
        if self.algo not in ALGOS:
            raise BadInput(f"unknown algorithm {self.algo!r}; known: {', '.join(ALGOS)}")
        whole = ("steps", "rollout_steps", "minibatch", "epochs", "replay_steps", "checkpoint_every", "threads")
        for name in whole:
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0.0 <= self.critic_share <= 1.0:
            raise BadInput(f"critic_share is {self.critic_share}, expected 0..1")
        if self.algo == "sac" and self.replay_steps < self.warm_up_steps:
            raise BadInput(
                f"the replay buffer holds {self.replay_steps} steps, expected at least the {self.warm_up_steps} of the warm-up"
            )


def build_algorithm(policy: DrivePolicy, vector: VecEnv, config: LearnConfig, replay: Path | None = None) -> BaseAlgorithm:
    """Make the learner that begins as `policy` (A2C, PPO: its critic too) in the environments of `vector`.

    `replay` is the folder of SAC's buffer; None keeps it in memory only. Raises `BadInput` when it does not fit, or the
    policy's actor is of the other kind.
    """
    config.check()
    common: dict[str, Any] = {
        "learning_rate": lambda left: config.last_rate + (config.learning_rate - config.last_rate) * left,
        "gamma": config.discount,
        "seed": config.seed,
        "device": "cpu",
    }
    algorithm = (
        _sac(policy, vector, config, replay, common) if config.algo == "sac" else _on_policy(policy, vector, config, common)
    )
    algorithm.set_logger(Logger(None, []))  # the default one leaves an empty folder in /tmp
    return algorithm


def _on_policy(policy: DrivePolicy, vector: VecEnv, config: LearnConfig, common: Mapping[str, Any]) -> BaseAlgorithm:
    if policy.squashed:
        raise BadInput("this driver was trained by SAC, whose actor A2C and PPO cannot go on with: --algo sac")
    options = {
        **common,
        "n_steps": config.rollout_steps,
        "gae_lambda": config.gae_lambda,
        "ent_coef": config.entropy,
        "max_grad_norm": config.max_gradient,
    }
    if config.algo == "ppo":
        options |= {"batch_size": config.minibatch, "n_epochs": config.epochs, "clip_range": config.clip}
    algorithm: BaseAlgorithm = (PPO if config.algo == "ppo" else A2C)(DrivePolicy, vector, **options)
    algorithm.policy.load_state_dict(policy.state_dict())
    assert isinstance(algorithm.policy, DrivePolicy)
    with torch.no_grad():
        algorithm.policy.log_std.fill_(config.log_std)
    return algorithm


def _sac(
    policy: DrivePolicy, vector: VecEnv, config: LearnConfig, replay: Path | None, common: Mapping[str, Any]
) -> BaseAlgorithm:
    check_memory(policy.observation_space, config.replay_steps, replay)
    algorithm = SAC(
        "MultiInputPolicy",
        vector,
        **common,
        buffer_size=config.replay_steps,
        batch_size=config.minibatch,
        learning_starts=config.warm_up_steps,
        ent_coef=f"auto_{config.temperature}",
        train_freq=config.rollout_steps,
        gradient_steps=1,
        replay_buffer_class=None if replay is None else KeptReplayBuffer,
        replay_buffer_kwargs=None if replay is None else {"folder": replay},
        policy_kwargs={
            "net_arch": {"pi": list(BRANCH), "qf": list(BRANCH)},
            "activation_fn": nn.ReLU,
            "features_extractor_class": sense_of(policy.observation_space).extractor,
            "normalize_images": False,
        },
    )
    actor = algorithm.policy.actor
    actor.load_state_dict(actor.state_dict() | _renamed(unique_weights(policy), TO_SAC))
    trunk = policy.trunk.state_dict()
    for critic in (algorithm.policy.critic, algorithm.policy.critic_target):
        critic.features_extractor.load_state_dict(trunk)
    spread = actor.get_submodule("log_std")
    assert isinstance(spread, nn.Linear)
    with torch.no_grad():  # the same exploration everywhere at the start, as the others have it
        spread.weight.zero_()
        spread.bias.fill_(config.log_std)
    return algorithm


def give_back(algorithm: BaseAlgorithm, policy: DrivePolicy) -> None:
    """Copy what the learner has learnt into `policy`, which becomes a squashed one after SAC."""
    if not isinstance(algorithm, SAC):
        policy.load_state_dict(algorithm.policy.state_dict())
        return
    back = {new: old for old, new in TO_SAC.items()}
    policy.load_state_dict(policy.state_dict() | _aliased(_renamed(algorithm.policy.actor.state_dict(), back)))
    policy.squashed = True


def optimisers(algorithm: BaseAlgorithm) -> dict[str, torch.optim.Optimizer]:
    """Return the learner's optimisers by name."""
    if not isinstance(algorithm, SAC):
        return {"policy": algorithm.policy.optimizer}
    assert algorithm.ent_coef_optimizer is not None
    return {
        "actor": algorithm.actor.optimizer,
        "critic": algorithm.critic.optimizer,
        "temperature": algorithm.ent_coef_optimizer,
    }


def _renamed(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with one of `prefixes`, under the new prefix."""
    return {
        new + name.removeprefix(old): tensor
        for name, tensor in tensors.items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }


def _aliased(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the two other names under which SB3 registers the shared trunk."""
    trunk = {name: tensor for name, tensor in tensors.items() if name.startswith("features_extractor.")}
    return {**tensors, **{f"{branch}_{name}": tensor for branch in ("pi", "vf") for name, tensor in trunk.items()}}
