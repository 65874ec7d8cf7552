"""Latents of all environments of a vector at once, computed in the process that learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from roadworthy.agent.observation import Latents, LatentSource, LatentStack, observation_space, pool_latent
from roadworthy.runtime.errors import BadInput

Batch = dict[str, npt.NDArray[np.generic]]


class LatentVecEnv(VecEnvWrapper):
    """Turns a vector of environments that show frames into one that shows latents, in one call of the segmenter per step.

    The numbers are those of `roadworthy/Drive-v0`. It pays where the segmenter runs on a GPU, or on more cores than there are
    environments; otherwise let each worker compute its own (`View("latents", model)`).
    """

    def __init__(self, venv: VecEnv, segmenter: LatentSource) -> None:
        """Wrap `venv`, whose observations are `frame` and `measurements`, with the latents of `segmenter`."""
        if segmenter.latent_shape is None:
            raise BadInput("this model gives no latent; export it with its latent output to drive on it")
        super().__init__(venv, observation_space=observation_space(segmenter.latent_shape))
        self._segmenter = segmenter
        self._stacks = [LatentStack() for _ in range(venv.num_envs)]

    def reset(self) -> Batch:
        """Begin everybody's episode."""
        shown = self.venv.reset()
        for stack in self._stacks:
            stack.clear()
        return self._seen(shown)

    def step_wait(self) -> tuple[Batch, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Return the step's observations; that of an episode's end is turned into latents too."""
        shown, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(shown, dict)
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            seen = self._stacks[i].push(self._latents(last["frame"][None])[0])
            infos[i]["terminal_observation"] = {"latents": seen, "measurements": last["measurements"]}
            self._stacks[i].clear()
        return self._seen(shown), rewards, dones, infos

    def _seen(self, shown: Any) -> Batch:
        latents = self._latents(shown["frame"])  # [n, C, h, w]
        stacked = np.stack([stack.push(latent) for stack, latent in zip(self._stacks, latents, strict=True)])
        return {"latents": stacked, "measurements": shown["measurements"]}

    def _latents(self, frames: npt.NDArray[np.uint8]) -> Latents:
        latent = self._segmenter(np.ascontiguousarray(frames)).latent
        assert latent is not None
        return pool_latent(latent)
