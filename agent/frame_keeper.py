"""What a driver sees while it learns, kept: every n-th frame with its true tags becomes a recording to train segmenters on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.env import RouteEnv
from roadworthy.agent.observation import LATENTS_SEEN, Observation, observation_spaces
from roadworthy.agent.recording import Recording

Wrapper = gymnasium.Wrapper[Observation, npt.NDArray[np.float32], Observation, npt.NDArray[np.float32]]
Step = tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]


class FrameKeeper(Wrapper):
    """Keeps every n-th frame of the drives, with its true tags, as a recording."""

    def __init__(self, env: RouteEnv, recording: Recording, every: int) -> None:
        """Wrap `env`, which runs with `truth=True`."""
        super().__init__(env)
        self._drive, self._recording, self._every = env, recording, every
        self._episode, self._steps = -1, 0
        self._lines: list[dict[str, Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the frames of the last one become part of the recording."""
        self.flush()
        self._episode += 1
        return self.env.reset(seed=seed, options=options)

    def step(self, action: npt.NDArray[np.float32]) -> Step:
        """Drive, and keep the frame when it is its turn."""
        observation, reward, ended, truncated, info = self.env.step(action)
        self._steps += 1
        if self._steps % self._every == 0 and info.get("ended") != "error":
            self._keep(info)
        return observation, reward, ended, truncated, info

    def flush(self) -> None:
        """Write the lines of the episode so far."""
        if self._lines:
            self._recording.add_episode(self._lines)
            self._lines = []

    def _keep(self, info: Mapping[str, Any]) -> None:
        moment = self._drive.moment
        assert moment.tags is not None, "the environment runs with truth=True"
        assert self._drive.assignment is not None
        name = f"{self._episode:04d}_{self._steps:06d}"
        line = {
            "name": name,
            "episode": self._episode,
            "town": self._drive.town,
            "weather": self._drive.assignment.weather,
            "seed": self._drive.assignment.seed,
            "speed_mps": round(float(info["speed_mps"]), 3),
            "command": int(info["command"]),
        }
        self._lines.append({**line, **self._recording.save_images(name, moment.frame, moment.tags)})


class WithFrames(Wrapper):
    """Adds `frames` uint8 `[2, H, W, 3]`, the pictures behind the two latents, to what the driver sees."""

    def __init__(self, env: gymnasium.Env[Observation, npt.NDArray[np.float32]], drive: RouteEnv) -> None:
        """Wrap `env`, in whose middle `drive` drives."""
        super().__init__(env)
        self._drive = drive
        shape = (LATENTS_SEEN, drive.config.rig.height_px, drive.config.rig.width_px, 3)
        parts = observation_spaces(env.observation_space)
        space: spaces.Space[Any] = spaces.Dict({**parts, "frames": spaces.Box(0, 255, shape, np.uint8)})
        self.observation_space = space
        self._frame: npt.NDArray[np.uint8] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; its first frame stands for both."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._frame = None
        return self._with_frames(observation), info

    def step(self, action: npt.NDArray[np.float32]) -> Step:
        """Drive."""
        observation, reward, ended, truncated, info = self.env.step(action)
        return self._with_frames(observation), reward, ended, truncated, info

    def _with_frames(self, observation: Observation) -> Observation:
        frame = self._drive.moment.frame
        before, self._frame = frame if self._frame is None else self._frame, frame
        return {**observation, "frames": np.stack([before, frame])}
