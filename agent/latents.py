"""Latents of all environments of a vector at once, computed in the process that learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from roadworthy.agent.observation import Latents, LatentSource, observation_space, pool_latent
from roadworthy.runtime.errors import BadInput

Batch = dict[str, npt.NDArray[np.generic]]
Frame = npt.NDArray[np.uint8]  # [H, W, 3]


class LatentVecEnv(VecEnvWrapper):
    """Turns a vector of environments that show frames into one that shows latents, in one call of the segmenter per step.

    The numbers are those of `roadworthy/Drive-v0`. It pays where the segmenter runs on a GPU, or on more cores than there are
    environments; otherwise let each worker compute its own (`View("latents", model)`).
    """

    def __init__(self, venv: VecEnv, segmenter: LatentSource) -> None:
        """Wrap `venv`, whose observations are `frames` and `measurements`, with the latents of `segmenter`."""
        if segmenter.latent_shape is None:
            raise BadInput("this model gives no latent; export it with its latent output to drive on it")
        super().__init__(venv, observation_space=observation_space(segmenter.latent_shape))
        self._segmenter = segmenter
        self._latest: list[tuple[Frame, Latents] | None] = [None] * venv.num_envs  # each ego's last frame with its latent

    def reset(self) -> Batch:
        """Begin everybody's episode."""
        return self._seen(self.venv.reset())

    def step_wait(self) -> tuple[Batch, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Return the step's observations; that of an episode's end is turned into latents too."""
        shown, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            infos[i]["terminal_observation"] = {
                "latents": self._stacked(last["frames"][None], [int(i)])[0],
                "measurements": last["measurements"],
            }
        return self._seen(shown), rewards, dones, infos

    def _seen(self, shown: Any) -> Batch:
        return {"latents": self._stacked(shown["frames"], range(self.num_envs)), "measurements": shown["measurements"]}

    def _stacked(self, frames: npt.NDArray[np.uint8], egos: Sequence[int]) -> Latents:
        """Return the latents `[n, 2, C, h, w]` of `frames` `[n, 2, H, W, 3]`, the two most recent that each of `egos` saw.

        The previous frame is as a rule the one that was shown last, whose latent is known; it is another one where the world
        has ticked unseen, as it does while another ego begins again.
        """
        latest = self._latents(frames[:, 1])
        stacked = np.stack([latest, latest], axis=1)  # right where both frames are the same, as an episode's first are
        unknown = []
        for row, ego in enumerate(egos):
            known, self._latest[ego] = self._latest[ego], (frames[row, 1], latest[row])
            if np.array_equal(frames[row, 0], frames[row, 1]):
                continue
            if known is not None and np.array_equal(frames[row, 0], known[0]):
                stacked[row, 0] = known[1]
            else:
                unknown.append(row)
        if unknown:
            stacked[unknown, 0] = self._latents(frames[unknown, 0])
        return stacked

    def _latents(self, frames: npt.NDArray[np.uint8]) -> Latents:
        latent = self._segmenter(np.ascontiguousarray(frames)).latent
        assert latent is not None
        return pool_latent(latent)
