"""Reinforcement learning of the driving policy, from scratch or after imitation; goes on after a kill.

The algorithms and their settings are in `algorithms.py`. Fine-tuning an imitated policy with a critic that knows nothing would
first destroy it, so the critic learns alone for `critic_share` of the steps. A checkpoint holds weights, optimisers, random
states, the step and what was driven so far; the simulator's state it cannot hold, so a resumed learning begins a new episode.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
from torch import Tensor

from roadworthy.agent.algorithms import ALGOS, Algo, LearnConfig, build_algorithm, give_back, optimisers
from roadworthy.agent.encoder import EncoderGradient
from roadworthy.agent.policy import DrivePolicy
from roadworthy.runtime.errors import BadInput
from roadworthy.train.checkpoint import load_training, optimiser_tensors, restore_optimiser, save_training

__all__ = ["ALGOS", "Algo", "Drive", "LearnConfig", "LearnResult", "learn"]

Progress = Callable[[str, float], None]
SAY_EVERY_S = 2.0  # [s] between two words about the progress
EXAMPLES, EXAMPLE_EVERY = 8, 25  # observations kept for an export's check; steps between two of them


class Drive(NamedTuple):
    """One training episode."""

    step: int  # of the learning, when it ended
    reward_sum: float
    steps: int  # that it lasted
    completion: float  # of its route, 0..1; 0 in worlds without routes


@dataclass(frozen=True)
class LearnResult:
    """What a stretch of learning did, the parts before a resumption too."""

    steps: int
    drives: tuple[Drive, ...]  # in order
    examples: Mapping[str, npt.NDArray[Any]]  # the latest observations, a few steps apart, each part [n, ...]

    @property
    def episodes(self) -> int:
        """The number of training episodes that ended."""
        return len(self.drives)

    @property
    def returns(self) -> tuple[float, ...]:
        """The return of each training episode."""
        return tuple(drive.reward_sum for drive in self.drives)


def learn(
    policy: DrivePolicy,
    envs: VecEnv | gymnasium.Env[Any, Any],
    config: LearnConfig,
    progress: Progress | None = None,
    *,
    checkpoint: Path | None = None,
    encoder: EncoderGradient | None = None,
) -> LearnResult:
    """Train `policy` in place in `envs` (one environment or SB3's vector of them).

    Args:
        policy: where to begin; after SAC its actor is squashed.
        envs: what to drive in.
        config: how.
        progress: called with a text and the fraction done.
        checkpoint: a file that is written every `config.checkpoint_every` steps and gone on from if it is there; SAC's replay
            buffer lies in `replay_folder` beside it.
        encoder: takes a step after each update, so that the policy's gradient changes it too.

    Raises:
        BadInput: settings that cannot be, a checkpoint of another learning, or a replay buffer that does not fit.
    """
    vector = VecMonitor(envs if isinstance(envs, VecEnv) else DummyVecEnv([lambda: envs]))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        replay = None if checkpoint is None else replay_folder(checkpoint)
        algorithm = build_algorithm(policy, vector, config, replay)
        if encoder is not None:
            encoder.attach(algorithm)
        follow = _Follow(config, progress, checkpoint, encoder)
        if checkpoint is not None and checkpoint.exists():
            follow.drives = _restore(algorithm, config, checkpoint)
            # The episodes of the first part are not driven again.
            vector.seed(int(np.random.SeedSequence([config.seed, algorithm.num_timesteps]).generate_state(1)[0]))
        left = config.steps - algorithm.num_timesteps
        if left > 0:
            algorithm.learn(left, callback=follow, reset_num_timesteps=algorithm.num_timesteps == 0)
            if encoder is not None:
                encoder.step()
        give_back(algorithm, policy)
    finally:
        torch.set_num_threads(threads)
    return LearnResult(int(algorithm.num_timesteps), tuple(follow.drives), follow.examples())


def replay_folder(checkpoint: Path) -> Path:
    """Return where SAC's replay buffer lies beside a checkpoint."""
    return checkpoint.with_suffix(".replay")


class _Follow(BaseCallback):
    """Collects episodes, reports progress, writes checkpoints, and holds the actor still while the critic learns alone."""

    def __init__(
        self,
        config: LearnConfig,
        progress: Progress | None,
        checkpoint: Path | None,
        encoder: EncoderGradient | None,
    ) -> None:
        super().__init__()
        self._config, self._report = config, progress
        self._checkpoint, self._encoder = checkpoint, encoder
        self._said_s, self._kept_at = -np.inf, 0
        self._seen: deque[Mapping[str, npt.NDArray[Any]]] = deque(maxlen=EXAMPLES)
        self.drives: list[Drive] = []

    def examples(self) -> dict[str, npt.NDArray[Any]]:
        """Return the latest observations, each part `[n, ...]`."""
        return {name: np.stack([seen[name] for seen in self._seen]) for name in (self._seen[0] if self._seen else {})}

    def _on_training_start(self) -> None:
        self._kept_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.n_calls and self._encoder is not None:
            self._encoder.step()
        if self._checkpoint is not None and self.num_timesteps - self._kept_at >= self._config.checkpoint_every:
            _save(self.model, self._config, self.drives, self._checkpoint)
            self._kept_at = self.num_timesteps
        for name, parameter in self.model.policy.named_parameters():
            parameter.requires_grad_(self._learns(name))

    def _learns(self, name: str) -> bool:
        """Whether the parameter called `name` is to change now."""
        if "features_extractor." in name and not self._config.trunk_learns:
            return False
        return not self._critic_alone or "value" in name or name.startswith("critic.")

    @property
    def _critic_alone(self) -> bool:
        return bool(self.num_timesteps < self._config.critic_share * self._config.steps)

    def _on_step(self) -> bool:
        infos: Sequence[dict[str, Any]] = self.locals["infos"]
        for info in infos:
            if "episode" in info:
                episode, completion = info["episode"], float(info.get("route_completion", 0.0))
                self.drives.append(Drive(self.num_timesteps, float(episode["r"]), int(episode["l"]), round(completion, 4)))
        if self.n_calls % EXAMPLE_EVERY == 0 or self.n_calls == 1:
            self._seen.append({name: part[0].copy() for name, part in self.locals["new_obs"].items()})
        if self._report is not None and time.monotonic() - self._said_s > SAY_EVERY_S:
            self._said_s = time.monotonic()
            recent = [drive.reward_sum for drive in self.drives[-10:]]
            mean = f", mean return {np.mean(recent):.1f}" if recent else ""
            stage = "critic" if self._critic_alone else "actor and critic"
            text = f"{self._config.algo.upper()} step {self.num_timesteps} of {self._config.steps} ({stage}){mean}"
            self._report(text, min(self.num_timesteps / self._config.steps, 1.0))
        return True


def _save(algorithm: BaseAlgorithm, config: LearnConfig, drives: Sequence[Drive], path: Path) -> None:
    """Write everything that is needed to go on."""
    parts: dict[str, dict[str, Tensor]] = {"policy": _policy_tensors(algorithm), "random": {"torch": torch.get_rng_state()}}
    parts |= {f"optimiser {name}": optimiser_tensors(optimiser) for name, optimiser in optimisers(algorithm).items()}
    numpy_state: dict[str, Any] = dict(np.random.get_state(legacy=False))  # noqa: NPY002
    parts["random"]["numpy"] = torch.from_numpy(numpy_state["state"].pop("key").astype(np.int64))
    state: dict[str, Any] = {
        "config": asdict(config),
        "steps": int(algorithm.num_timesteps),
        "updates": int(algorithm._n_updates),
        "drives": [list(drive) for drive in drives],
        "numpy": numpy_state,
        "python": random.getstate(),
        "actions": algorithm.action_space.np_random.bit_generator.state,  # what SAC's warm-up draws from
    }
    if isinstance(algorithm, SAC):
        assert algorithm.log_ent_coef is not None
        assert algorithm.replay_buffer is not None
        parts["temperature"] = {"log": algorithm.log_ent_coef.detach()}
        state["replay"] = {"position": int(algorithm.replay_buffer.pos), "full": bool(algorithm.replay_buffer.full)}
    save_training(path, parts, state)


def _restore(algorithm: BaseAlgorithm, config: LearnConfig, path: Path) -> list[Drive]:
    """Put back what `_save` wrote, and return the episodes so far. Raises `BadInput` for another learning's checkpoint."""
    parts, state = load_training(path)
    ours = asdict(config)
    different = sorted(key for key in ours if state.get("config", {}).get(key) != ours[key])
    if different:
        raise BadInput(f"{path}: of a learning with another {', '.join(different)}; choose another folder, or delete it")
    policy = _policy_tensors(algorithm)
    for name, tensor in policy.items():
        if name not in parts["policy"] or parts["policy"][name].shape != tensor.shape:
            raise BadInput(f"{path}: does not fit this policy ({name}); it is of a learning on other observations")
        tensor.copy_(parts["policy"][name])
    for name, optimiser in optimisers(algorithm).items():
        restore_optimiser(optimiser, parts.get(f"optimiser {name}", {}))
    algorithm.num_timesteps, algorithm._n_updates = int(state["steps"]), int(state["updates"])
    torch.set_rng_state(parts["random"]["torch"])
    state["numpy"]["state"]["key"] = parts["random"]["numpy"].numpy().astype(np.uint32)
    np.random.set_state(state["numpy"])  # noqa: NPY002  # what SB3 draws its minibatches from
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    algorithm.action_space.np_random.bit_generator.state = state["actions"]
    if isinstance(algorithm, SAC):
        assert algorithm.log_ent_coef is not None
        assert algorithm.replay_buffer is not None
        algorithm.log_ent_coef.data.copy_(parts["temperature"]["log"])
        algorithm.replay_buffer.pos = int(state["replay"]["position"])
        algorithm.replay_buffer.full = bool(state["replay"]["full"])
    return [Drive(*drive) for drive in state["drives"]]


def _policy_tensors(algorithm: BaseAlgorithm) -> dict[str, Tensor]:
    """Return the policy's tensors once each, the ones it computes with."""
    found: dict[str, Tensor] = {}
    for name, tensor in algorithm.policy.state_dict().items():
        if all(tensor.data_ptr() != other.data_ptr() for other in found.values()):
            found[name] = tensor
    return found
